//! Tells the store how the sensors of this node are, when it changes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use domain::Services;
use model::SensorReport;
use store::{StoreError, StoreExt};

use super::states::{SensorStates, SensorStatus};

/// Between looks at the states.
const EVERY: Duration = Duration::from_secs(1);

/// What a node that stops waits for its last reports.
const FAREWELL: Duration = Duration::from_secs(2);

/// Keeps the reports up to date.
pub struct Reporter {
    services: Arc<Services>,
    states: SensorStates,
    node: String,
    /// What the store was told.
    told: BTreeMap<String, SensorReport>,
}

impl Reporter {
    pub fn new(services: Arc<Services>, states: SensorStates, node: String) -> Self {
        Self { services, states, node, told: BTreeMap::new() }
    }

    /// Works until it is dropped.
    pub async fn run(&mut self) {
        loop {
            tokio::time::sleep(EVERY).await;
            self.look().await;
        }
    }

    /// The last look, once all sensors have ended.
    pub async fn finish(&mut self) {
        if tokio::time::timeout(FAREWELL, self.look()).await.is_err() {
            tracing::debug!("the last states of the sensors aren't stored: the store takes too long");
        }
    }

    async fn look(&mut self) {
        let mut now: BTreeMap<String, SensorReport> =
            self.states.all().into_iter().map(|status| (status.reference.clone(), self.report(status))).collect();
        for (reference, told) in &self.told {
            if !now.contains_key(reference) && told.state != STOPPED {
                let since = self.services.now();
                let stopped = SensorReport { state: STOPPED.to_owned(), since, pid: None, ..told.clone() };
                now.insert(reference.clone(), stopped);
            }
        }
        for (reference, report) in now {
            if self.told.get(&reference) == Some(&report) {
                continue;
            }
            match store_report(&self.services, &report).await {
                Ok(()) if report.state == STOPPED => drop(self.told.remove(&reference)),
                Ok(()) => drop(self.told.insert(reference, report)),
                // Whatever is left is told at the next look.
                Err(error) => return tracing::debug!(%error, "the state of a sensor isn't stored yet"),
            }
        }
    }

    fn report(&self, status: SensorStatus) -> SensorReport {
        SensorReport {
            id: SensorReport::id_of(&status.reference),
            reference: status.reference,
            node: self.node.clone(),
            epoch: status.epoch,
            state: status.state.as_str().to_owned(),
            since: status.since,
            pid: status.pid,
            restarts: status.restarts,
            last_error: status.last_error,
        }
    }
}

const STOPPED: &str = "stopped";

/// Unless a newer owner has told about it.
async fn store_report(services: &Services, report: &SensorReport) -> Result<(), StoreError> {
    let store = services.store.as_ref();
    match store.read::<SensorReport>(report.id).await? {
        None => store.insert_or_ignore(report).await.map(drop),
        Some(old) if old.epoch > report.epoch => Ok(()),
        Some(mut old) => {
            old.doc = report.clone();
            store.update(old).await.map(drop)
        }
    }
}
