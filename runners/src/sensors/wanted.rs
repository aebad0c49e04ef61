//! Which sensors there are to run, for whoever assigns them to nodes.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use bus::{Bus, Event, Received, Topic};
use model::{Resource, SensorType};
use store::{Query, Store, StoreError, StoreExt};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Between looks at the store, beside events.
const RECONCILE: Duration = Duration::from_secs(30);
/// Changes that come together are taken together.
const SETTLE: Duration = Duration::from_millis(30);
/// After something failed.
const RETRY: Duration = Duration::from_millis(500);

/// Refs of all enabled sensors.
pub async fn wanted_sensors(store: &dyn Store) -> Result<BTreeSet<String>, StoreError> {
    let found = store.search::<SensorType>(&Query::eq("enabled", true)).await?;
    Ok(found.into_iter().map(|sensor| sensor.doc.reference).collect())
}

/// Calls `want` with the refs of all enabled sensors: at the start, after changes, and every 30 s. When `want` fails it
/// is called again soon; while the store can't be read it is not called.
pub async fn follow_wanted<F, A, E>(store: &dyn Store, bus: &dyn Bus, want: F, cancel: CancellationToken)
where
    F: Fn(BTreeSet<String>) -> A + Send,
    A: Future<Output = Result<(), E>> + Send,
    E: Display,
{
    let mut changes = bus.subscribe(&[Topic::Content]);
    let mut is_open = true;
    let mut due = Instant::now();
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep_until(due) => {
                let told = tokio::select! {
                    () = cancel.cancelled() => return,
                    told = tell(store, &want) => told,
                };
                due = Instant::now() + if told { RECONCILE } else { RETRY };
            }
            received = changes.next(), if is_open => match received {
                None => is_open = false,
                Some(Received::Lost(_)) => due = due.min(Instant::now() + SETTLE),
                Some(Received::Event(event)) => {
                    if let Event::Content { collection, .. } = event.as_ref()
                        && collection == SensorType::COLLECTION.name
                    {
                        due = due.min(Instant::now() + SETTLE);
                    }
                }
            }
        }
    }
}

async fn tell<F, A, E>(store: &dyn Store, want: &F) -> bool
where
    F: Fn(BTreeSet<String>) -> A,
    A: Future<Output = Result<(), E>>,
    E: Display,
{
    let sensors = match wanted_sensors(store).await {
        Ok(sensors) => sensors,
        Err(error) => {
            tracing::debug!(%error, "which sensors are enabled can't be read");
            return false;
        }
    };
    match want(sensors).await {
        Ok(()) => true,
        Err(error) => {
            tracing::debug!(%error, "which sensors are wanted could not be told");
            false
        }
    }
}
