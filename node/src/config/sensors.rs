//! Where sensors run.

use std::collections::BTreeMap;
use std::path::PathBuf;

use runners::sensors::Partition;
use runners::sensors::partition::Ranges;
use serde::{Deserialize, Serialize};

use super::check::{Outcome, fail};

/// StackStorm's providers of partitions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// Sensors are balanced over all nodes with the role.
    #[default]
    Default,
    KvStore,
    File,
    Hash,
}

/// The same on all nodes of a cluster, but for `only`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sensors {
    pub partition_provider: Provider,
    /// For `file`: a YAML file with lists of refs by name of a node.
    pub partition_file: Option<PathBuf>,
    /// For `hash`: ranges by name of a node.
    pub hash_ranges: BTreeMap<String, String>,
    /// Single-sensor mode, of this node: the one sensor that it runs, and that no other node does meanwhile.
    pub only: Option<String>,
}

impl Sensors {
    pub(super) fn check(&self) -> Outcome {
        if self.partition_provider == Provider::File && self.partition_file.is_none() {
            return fail("key `sensors.partition_file`: is needed with `sensors.partition_provider` = \"file\"");
        }
        if self.partition_provider == Provider::Hash && self.hash_ranges.is_empty() {
            return fail("key `sensors.hash_ranges`: is needed with `sensors.partition_provider` = \"hash\"");
        }
        for (node, ranges) in &self.hash_ranges {
            if let Err(error) = ranges.parse::<Ranges>() {
                return fail(format!("key `sensors.hash_ranges`, node {node}: {error}"));
            }
        }
        Ok(())
    }

    /// What was checked.
    pub fn partition(&self) -> Partition {
        let ranges = |(node, text): (&String, &String)| Some((node.clone(), text.parse().ok()?));
        match self.partition_provider {
            Provider::Default => Partition::None,
            Provider::KvStore => Partition::KeyValue,
            Provider::File => self.partition_file.clone().map_or(Partition::None, Partition::File),
            Provider::Hash => Partition::Hash(self.hash_ranges.iter().filter_map(ranges).collect()),
        }
    }
}
