//! Snapshots that no execution refers to.
//!
//! Which ones are referred to is only known by reading all executions, so this is done rarely, a page at a time. An
//! execution that is being stored may refer to a snapshot that nothing else refers to any more: therefore one is
//! deleted only if it was unreferenced in the collection before too, and caches are told.

use std::collections::HashSet;
use std::sync::Arc;

use bus::{Change, Event};
use model::{Execution, Id, Resource, Snapshot};
use store::{Cond, Query, StoreExt};
use tokio::time::{Duration, Instant};

use super::{Collector, Cut};

/// Time between two collections of snapshots at least.
const INTERVAL: Duration = Duration::from_secs(6 * 3600);

/// What the last collection found.
#[derive(Debug, Default)]
pub(super) struct Snapshots {
    unreferenced: HashSet<Id>,
    at: Option<Instant>,
}

impl Snapshots {
    pub(super) async fn collect(&mut self, collector: &Collector) -> Result<u64, Cut> {
        if self.at.is_some_and(|at| at.elapsed() < INTERVAL) {
            return Ok(0);
        }
        let unreferenced = unreferenced(collector).await?;
        let twice: Vec<Id> = unreferenced.intersection(&self.unreferenced).copied().collect();
        let mut deleted = 0;
        for chunk in twice.chunks(usize::try_from(collector.settings.batch).unwrap_or(500).max(1)) {
            deleted += collector.delete::<Snapshot>(chunk).await?;
            for id in chunk {
                collector.services.catalog.forget::<Snapshot>();
                collector.services.bus.announce(Arc::new(Event::Content {
                    change: Change::Delete,
                    collection: Snapshot::COLLECTION.name.to_owned(),
                    id: *id,
                    reference: id.to_string(),
                }));
            }
        }
        self.unreferenced = unreferenced;
        self.at = Some(Instant::now());
        Ok(deleted)
    }
}

/// Snapshots that were there before the executions were read, and that none of these refers to.
async fn unreferenced(collector: &Collector) -> Result<HashSet<Id>, Cut> {
    let store = &collector.services.store;
    let page = collector.settings.batch;
    let mut left = HashSet::new();
    let mut after: Option<Id> = None;
    loop {
        let mut query = Query::all().limit(page);
        query.conds.extend(after.map(Cond::IdAfter));
        let found = store.find(Snapshot::COLLECTION, &query).await?;
        left.extend(found.iter().map(|document| document.id));
        after = found.last().map(|document| document.id);
        if (found.len() as u64) < page {
            break;
        }
        collector.pace(page).await?;
    }
    after = None;
    while !left.is_empty() {
        let mut query = Query::all().limit(page);
        query.conds.extend(after.map(Cond::IdAfter));
        let found = store.search::<Execution>(&query).await?;
        for execution in &found {
            left.remove(&execution.action_snapshot);
            left.remove(&execution.runner_snapshot);
            if let Some(cause) = &execution.cause {
                for id in [cause.rule, cause.trigger, cause.trigger_type] {
                    left.remove(&id);
                }
            }
        }
        after = found.last().map(|execution| execution.id);
        if (found.len() as u64) < page {
            break;
        }
        collector.pace(page).await?;
    }
    Ok(left)
}
