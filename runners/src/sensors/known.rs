//! Enabled sensors and the triggers of those that run here, as the store has them. Events ring; the store tells; a
//! look every now and then finds what no event told.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bus::{Event, Received, Topic};
use domain::Services;
use model::{Config, ConfigSchema, Id, Key, Pack, Resource, SensorType, Trigger, Versioned};
use serde_json::json;
use store::{Cond, Query, StoreError, StoreExt};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Owned;

/// Changes that come together are read together.
const SETTLE: Duration = Duration::from_millis(20);
/// After the store could not be read.
const RETRY: Duration = Duration::from_millis(500);

/// A sensor to run.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    pub row: SensorType,
    /// Where the pack lay on the node that registered it.
    pub pack_path: Option<String>,
    /// The sensor's file below the pack's folder `sensors`.
    pub file: PathBuf,
    /// Of all that the process is started with, but its code and what differs from node to node.
    pub stamp: Id,
}

/// What the last look found.
#[derive(Debug, Clone, Default)]
pub struct Known {
    pub specs: BTreeMap<String, Arc<Spec>>,
    /// Goes up with every look: whoever watches files looks then, too.
    pub round: u64,
}

/// Triggers of the sensors that run here, by id.
pub type Triggers = Arc<Vec<Arc<Trigger>>>;

/// Reads and publishes.
pub struct Follower {
    pub services: Arc<Services>,
    pub reconcile: Duration,
    /// Looks for this sensor alone, enabled or not.
    pub only: Option<String>,
    pub owned: watch::Receiver<Owned>,
    pub known: watch::Sender<Arc<Known>>,
    pub triggers: watch::Sender<Triggers>,
}

/// When to read what.
struct Due {
    sensors: Instant,
    triggers: Instant,
}

impl Follower {
    pub async fn run(mut self, cancel: CancellationToken) {
        let mut events = self.services.bus.subscribe(&[Topic::Content]);
        let mut is_open = true;
        let mut has_owner = true;
        let mut refs = BTreeSet::new();
        let mut due = Due { sensors: Instant::now(), triggers: Instant::now() };
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep_until(due.sensors) => {
                    due.sensors = Instant::now() + if self.look_for_sensors().await { self.reconcile } else { RETRY };
                    due.triggers = Instant::now();
                }
                () = tokio::time::sleep_until(due.triggers) => {
                    due.triggers = Instant::now() + if self.look_for_triggers().await { self.reconcile } else { RETRY };
                }
                received = events.next(), if is_open => match received {
                    None => is_open = false,
                    Some(received) => due.note(&received),
                },
                changed = self.owned.changed(), if has_owner => {
                    has_owner = changed.is_ok();
                    // Most changes are of leases only.
                    let owned = self.owned.borrow_and_update().clone();
                    if !owned.keys().eq(refs.iter()) {
                        let has_new = owned.keys().any(|reference| !refs.contains(reference));
                        refs = owned.keys().cloned().collect();
                        if has_new {
                            due.sensors = Instant::now();
                        }
                    }
                }
            }
        }
    }

    async fn look_for_sensors(&self) -> bool {
        match read_specs(&self.services, self.only.as_deref()).await {
            Ok(specs) => {
                let before = self.known.borrow().clone();
                if before.specs != specs {
                    // The catalog hears of other nodes' changes on its own, and maybe later than we do.
                    self.services.catalog.forget::<Config>();
                    self.services.catalog.forget::<ConfigSchema>();
                    self.services.catalog.forget::<Pack>();
                }
                self.known.send_replace(Arc::new(Known { specs, round: before.round + 1 }));
                true
            }
            Err(error) => {
                tracing::debug!(%error, "sensors can't be read");
                false
            }
        }
    }

    async fn look_for_triggers(&self) -> bool {
        let known = self.known.borrow().clone();
        let owned = self.owned.borrow().clone();
        let mine = owned.keys().filter_map(|reference| known.specs.get(reference));
        match read_triggers(&self.services, mine).await {
            Ok(triggers) => {
                self.triggers.send_if_modified(|current| {
                    let differs = **current != triggers;
                    *current = Arc::new(triggers);
                    differs
                });
                true
            }
            Err(error) => {
                tracing::debug!(%error, "triggers of sensors can't be read");
                false
            }
        }
    }
}

impl Due {
    fn note(&mut self, received: &Received) {
        let soon = Instant::now() + SETTLE;
        let Received::Event(event) = received else {
            (self.sensors, self.triggers) = (soon, soon);
            return;
        };
        let Event::Content { collection, .. } = event.as_ref() else { return };
        if collection == Trigger::COLLECTION.name {
            self.triggers = self.triggers.min(soon);
        } else if [SensorType::COLLECTION, Config::COLLECTION, ConfigSchema::COLLECTION, Pack::COLLECTION]
            .iter()
            .any(|known| known.name == collection)
        {
            self.sensors = self.sensors.min(soon);
        }
    }
}

async fn read_specs(services: &Services, only: Option<&str>) -> Result<BTreeMap<String, Arc<Spec>>, StoreError> {
    let store = &services.store;
    let query = only.map_or_else(|| Query::eq("enabled", true), |only| Query::eq("ref", only));
    let rows = store.search::<SensorType>(&query).await?;
    let packs: BTreeSet<String> = rows.iter().map(|row| row.pack.clone()).collect();
    if packs.is_empty() {
        return Ok(BTreeMap::new());
    }
    let of_packs = |field| Query::filter(Cond::In(field, packs.iter().map(|pack| Key::from(pack.as_str())).collect()));
    let paths = by_pack(store.search::<Pack>(&of_packs("ref")).await?, |pack| (pack.reference, pack.path));
    let configs = by_pack(store.search::<Config>(&of_packs("pack")).await?, |config| (config.pack, config.values));
    let schemas = by_pack(store.search::<ConfigSchema>(&of_packs("pack")).await?, |s| (s.pack, s.attributes));
    let specs = rows.into_iter().map(|Versioned { doc: row, .. }| {
        let pack_path = paths.get(&row.pack).cloned().flatten();
        let file = file_of(&row, pack_path.as_deref());
        let seen = json!([
            row.id,
            file,
            row.entry_point,
            row.trigger_types,
            row.poll_interval,
            configs.get(&row.pack),
            schemas.get(&row.pack),
        ]);
        let stamp = Id::of_content(seen.to_string().as_bytes());
        (row.reference.clone(), Arc::new(Spec { row, pack_path, file, stamp }))
    });
    Ok(specs.collect())
}

/// The row holds where the file was when the pack was registered.
fn file_of(row: &SensorType, pack_path: Option<&str>) -> PathBuf {
    let path = row.artifact_uri.strip_prefix("file://").unwrap_or(&row.artifact_uri);
    let below = pack_path
        .and_then(|pack| Path::new(path).strip_prefix(Path::new(pack).join("sensors")).ok())
        .or_else(|| path.rsplit_once("/sensors/").map(|(_, file)| Path::new(file)));
    below.unwrap_or(Path::new(path)).to_owned()
}

fn by_pack<T, V>(found: Vec<Versioned<T>>, pair: impl Fn(T) -> (String, V)) -> BTreeMap<String, V> {
    found.into_iter().map(|found| pair(found.doc)).collect()
}

/// Triggers of the types of these sensors; of all types if one of them names none (spec/sensors.md §3).
async fn read_triggers(
    services: &Services,
    specs: impl Iterator<Item = &Arc<Spec>>,
) -> Result<Vec<Arc<Trigger>>, StoreError> {
    let mut types = BTreeSet::new();
    let mut is_all = false;
    for spec in specs {
        is_all |= spec.row.trigger_types.is_empty();
        types.extend(spec.row.trigger_types.iter().cloned());
    }
    if types.is_empty() && !is_all {
        return Ok(Vec::new());
    }
    let query = if is_all {
        Query::all()
    } else {
        Query::filter(Cond::In("type", types.iter().map(|name| Key::from(name.as_str())).collect()))
    };
    let found = services.store.search::<Trigger>(&query).await?;
    Ok(found.into_iter().map(|found| Arc::new(found.doc)).collect())
}

/// What a sensor has heard of its triggers, and what it has not: each is created once before anything else happens to it.
#[derive(Debug, Default)]
pub struct Heard(BTreeMap<Id, Arc<Trigger>>);

impl Heard {
    /// The changes that bring the sensor to `now`: removals first.
    pub fn changes(&mut self, now: &[Arc<Trigger>], types: &[String]) -> Vec<(&'static str, Arc<Trigger>)> {
        let mine: BTreeMap<Id, Arc<Trigger>> = now
            .iter()
            .filter(|trigger| types.is_empty() || types.contains(&trigger.type_ref))
            .map(|trigger| (trigger.id, trigger.clone()))
            .collect();
        let mut changes = Vec::new();
        for (id, old) in &self.0 {
            if !mine.contains_key(id) {
                changes.push(("delete", old.clone()));
            }
        }
        for (id, new) in &mine {
            match self.0.get(id) {
                None => changes.push(("create", new.clone())),
                // Sensors don't see how many rules use it.
                Some(old) if old.to_api() != new.to_api() => changes.push(("update", new.clone())),
                Some(_) => {}
            }
        }
        self.0 = mine;
        changes
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use model::Timestamp;
    use proptest::prelude::*;

    use super::*;

    fn trigger(id: u8, type_ref: &str, version: u8, ref_count: i64) -> Arc<Trigger> {
        Arc::new(Trigger {
            id: Id::of_content(&[id]),
            uid: String::new(),
            reference: format!("p.{id}"),
            pack: "p".into(),
            name: id.to_string(),
            description: None,
            type_ref: type_ref.into(),
            parameters: json!({"v": version}).as_object().cloned().unwrap_or_default(),
            ref_count,
            created_at: Timestamp::from_micros(0),
        })
    }

    #[test]
    fn types_filter_and_rule_counts_do_not_matter() {
        let mut heard = Heard::default();
        let types = ["p.a".to_owned()];
        let now = [trigger(1, "p.a", 1, 1), trigger(2, "p.b", 1, 1)];
        assert_eq!(heard.changes(&now, &types), [("create", now[0].clone())]);
        assert_eq!(heard.changes(&[trigger(1, "p.a", 1, 9)], &types), []);
        assert_eq!(heard.changes(&now, &[]).len(), 1);
    }

    proptest! {
        #[test]
        fn every_history_is_linear(looks in prop::collection::vec(prop::collection::btree_map(0u8..5, 0u8..3, 0..5), 1..30)) {
            let mut heard = Heard::default();
            let mut live: HashMap<Id, Arc<Trigger>> = HashMap::new();
            for look in looks {
                let now: Vec<_> = look.iter().map(|(id, version)| trigger(*id, "p.a", *version, 0)).collect();
                for (change, trigger) in heard.changes(&now, &[]) {
                    let known = live.contains_key(&trigger.id);
                    prop_assert_eq!(known, change != "create");
                    if change == "delete" {
                        live.remove(&trigger.id);
                    } else {
                        live.insert(trigger.id, trigger);
                    }
                }
                prop_assert_eq!(live.len(), now.len());
                prop_assert!(now.iter().all(|trigger| live.get(&trigger.id) == Some(trigger)));
            }
        }
    }
}
