//! StackStorm's static partitions (spec/sensors.md §6): which nodes alone may run a sensor. What no partition names runs
//! anywhere, and is balanced.
//!
//! A partition is the same on all nodes: each of them may tell the group.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use md5::{Digest, Md5};
use model::{KeyValue, Scope};
use serde_json::Value;
use store::{Cond, Query, Store, StoreExt};

/// Names of nodes by ref of a sensor.
pub type Pins = BTreeMap<String, BTreeSet<String>>;

/// End of the names of datastore keys that hold a node's sensors.
const KEY: &str = "sensor_partition";

/// One more than the highest hash.
const END: u64 = 1 << 32;

/// How sensors are divided.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Partition {
    #[default]
    None,
    /// The datastore's `<node>.sensor_partition`: refs with commas between them.
    KeyValue,
    /// A YAML file: refs by node. A node without refs has all sensors.
    File(PathBuf),
    /// Ranges of [`hash`] by node.
    Hash(BTreeMap<String, Ranges>),
}

impl Partition {
    /// For these sensors and nodes. Read anew each time: a change counts at the next look.
    ///
    /// # Errors
    /// What can't be read, or is no partition.
    pub async fn pins(&self, store: &dyn Store, sensors: &BTreeSet<String>, nodes: &[String]) -> Result<Pins, String> {
        let mut pins = Pins::new();
        let mut pin = |sensor: &str, node: &str| {
            if sensors.contains(sensor) {
                pins.entry(sensor.to_owned()).or_default().insert(node.to_owned());
            }
        };
        match self {
            Self::None => {}
            Self::KeyValue => {
                for node in nodes {
                    let name = Cond::Eq("name", format!("{node}.{KEY}").into());
                    let query = Query::eq("scope", Scope::System.as_str()).and(name);
                    let found = store.search::<KeyValue>(&query).await;
                    let found = found.map_err(|error| error.to_string())?;
                    let refs = found.iter().flat_map(|pair| pair.doc.value.split(','));
                    refs.map(str::trim).for_each(|sensor| pin(sensor, node));
                }
            }
            Self::File(path) => {
                let read = path.clone();
                let read = tokio::task::spawn_blocking(move || content::pack_dir::read_yaml(&read)).await;
                let fail = |error: String| format!("sensor partition {}: {error}", path.display());
                let by_node = read.map_err(|error| fail(error.to_string()))?.map_err(fail)?;
                for (node, refs) in listed(&by_node).map_err(fail)? {
                    if refs.is_empty() {
                        sensors.iter().for_each(|sensor| pin(sensor, node));
                    }
                    refs.into_iter().for_each(|sensor| pin(sensor, node));
                }
            }
            Self::Hash(ranges) => {
                for (node, ranges) in ranges {
                    sensors.iter().filter(|sensor| ranges.contains(hash(sensor))).for_each(|sensor| pin(sensor, node));
                }
            }
        }
        Ok(pins)
    }
}

fn listed(by_node: &Value) -> Result<Vec<(&str, Vec<&str>)>, String> {
    let Value::Object(by_node) = by_node else { return Err("it holds no mapping of nodes to lists".to_owned()) };
    let mut listed = Vec::new();
    for (node, refs) in by_node {
        let items = match refs {
            Value::Null => Some(Vec::new()),
            Value::Array(items) => items.iter().map(Value::as_str).collect(),
            _ => None,
        };
        let items = items.ok_or_else(|| format!("the sensors of {node} are no list of refs"))?;
        listed.push((node.as_str(), items));
    }
    Ok(listed)
}

/// Half-open ranges of hashes: `0..1024|MIN..MAX`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    pub fn contains(&self, hash: u32) -> bool {
        self.0.iter().any(|(start, end)| (*start..*end).contains(&u64::from(hash)))
    }
}

impl std::str::FromStr for Ranges {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bound = |text: &str| match text.trim() {
            text if text.eq_ignore_ascii_case("MIN") => Some(0),
            text if text.eq_ignore_ascii_case("MAX") => Some(END),
            text => text.parse::<i128>().ok().map(|number| number.clamp(0, i128::from(END)) as u64),
        };
        let range = |text: &str| {
            let (start, end) = text.split_once("..")?;
            let (start, end) = (bound(start)?, bound(end)?);
            (start <= end).then_some((start, end))
        };
        let ranges = text.split('|').map(|part| range(part).ok_or_else(|| format!("\"{part}\" is no range of hashes")));
        Ok(Self(ranges.collect::<Result<_, _>>()?))
    }
}

/// StackStorm's hash of a sensor's ref.
pub fn hash(reference: &str) -> u32 {
    let digest: [u8; 16] = Md5::digest(reference.as_bytes()).into();
    let digits = u128::from_be_bytes(digest).to_string();
    digits.bytes().rev().fold(0_u32, |hash, digit| {
        let high = hash & 0xf800_0000;
        (hash << 5) ^ (high >> 27) ^ u32::from(digit - b'0')
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::sqlite::{SqliteOptions, SqliteStore};

    fn set(items: &[&str]) -> BTreeSet<String> {
        items.iter().map(|item| (*item).to_owned()).collect()
    }

    fn pins(items: &[(&str, &[&str])]) -> Pins {
        items.iter().map(|(sensor, nodes)| ((*sensor).to_owned(), set(nodes))).collect()
    }

    /// spec/sensors.md §6.
    #[test]
    fn the_known_hashes() {
        for (reference, wanted) in [
            ("examples.SampleSensor", 4_026_535_470),
            ("examples.SamplePollingSensor", 546_828_322),
            ("linux.FileWatchSensor", 1_562_168_054),
            ("pack1.Sensor1", 2_061_582_310),
            ("generic.SensorOne", 3_105_493_290),
            ("p.S", 791_950_240),
        ] {
            assert_eq!(hash(reference), wanted, "{reference}");
        }
    }

    #[test]
    fn ranges_are_read() {
        for (text, wanted) in [
            ("0..1024", Some(vec![(0, 1024)])),
            ("MIN..2147483648", Some(vec![(0, 1 << 31)])),
            ("-5..10", Some(vec![(0, 10)])),
            ("0..99999999999", Some(vec![(0, END)])),
            (" 5 .. 5 | min..max", Some(vec![(5, 5), (0, END)])),
            ("10..5", None),
            ("a..b", None),
            ("1-5", None),
        ] {
            assert_eq!(text.parse::<Ranges>().ok(), wanted.map(Ranges), "{text}");
        }
        let ranges: Ranges = "1..3|5..6".parse().unwrap();
        assert_eq!((0..8).filter(|hash| ranges.contains(*hash)).collect::<Vec<_>>(), [1, 2, 5]);
    }

    #[tokio::test]
    async fn each_way_to_divide() {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(SqliteOptions::new(directory.path().join("store.db"))).await.unwrap();
        let sensors = set(&["p.S", "pack1.Sensor1", "generic.SensorOne"]);
        let nodes = ["n1".to_owned(), "n2".to_owned(), "n3".to_owned()];
        let of = async |partition: Partition| partition.pins(&store, &sensors, &nodes).await;
        assert_eq!(of(Partition::None).await.unwrap(), Pins::new());

        let ranges = |text: &str| text.parse::<Ranges>().unwrap();
        let by_hash = BTreeMap::from([
            ("n1".to_owned(), ranges("MIN..2147483648")),
            ("n2".to_owned(), ranges("700000000..800000000|3000000000..3200000000")),
        ]);
        let wanted = pins(&[("generic.SensorOne", &["n2"]), ("p.S", &["n1", "n2"]), ("pack1.Sensor1", &["n1"])]);
        assert_eq!(of(Partition::Hash(by_hash)).await.unwrap(), wanted);

        let file = directory.path().join("partition.yaml");
        std::fs::write(&file, "n1:\n  - p.S\n  - gone.Sensor\nn2: []\n").unwrap();
        let wanted = pins(&[("generic.SensorOne", &["n2"]), ("p.S", &["n1", "n2"]), ("pack1.Sensor1", &["n2"])]);
        assert_eq!(of(Partition::File(file.clone())).await.unwrap(), wanted);
        for bad in ["- p.S\n", "n1: p.S\n", "n1: [5]\n"] {
            std::fs::write(&file, bad).unwrap();
            assert!(of(Partition::File(file.clone())).await.unwrap_err().contains("partition.yaml"));
        }
        assert!(of(Partition::File(directory.path().join("none"))).await.is_err());

        for (name, value) in [("n1.sensor_partition", " p.S , pack1.Sensor1,"), ("n2.sensor_partition", "")] {
            let pair: KeyValue = serde_json::from_value(serde_json::json!({
                "id": model::Id::fresh(model::Timestamp::from_micros(0)), "name": name, "value": value,
                "uid": KeyValue::uid_of(Scope::System, name), "scope": "st2kv.system",
            }))
            .unwrap();
            store.insert(&pair).await.unwrap();
        }
        assert_eq!(of(Partition::KeyValue).await.unwrap(), pins(&[("p.S", &["n1"]), ("pack1.Sensor1", &["n1"])]));
    }
}
