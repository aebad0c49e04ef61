//! What `/healthz/ready` asks, and what makes the API answer 503 at once: the state of each thing the node stands on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use domain::Services;
use gateway::{Dependency, Readiness};
use parking_lot::Mutex;
use scheduler::TimerStats;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use workflow::WorkflowState;

use crate::membership::Membership;

/// A dependency that doesn't answer within this time isn't ready.
const DEADLINE: Duration = Duration::from_secs(1);
/// How often servers are looked at on behalf of the API: while all are there, and while one is away.
const LOOK_EVERY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_millis(250));
/// Answers about readiness are this fresh, however many ask.
const FRESH: Duration = Duration::from_millis(250);

/// Ready when the store takes writes, the bus works, and the node has a session in its group.
#[derive(Debug)]
pub struct NodeReady {
    services: Arc<Services>,
    workflow: Option<Arc<dyn WorkflowState>>,
    membership: Arc<Membership>,
    timers: OnceLock<Arc<TimerStats>>,
    stopping: AtomicBool,
    /// Names of the servers that are away, as the last look found them.
    away: Mutex<Option<String>>,
    last: tokio::sync::Mutex<Option<(Instant, Vec<Dependency>)>>,
}

/// State of one dependency.
enum State {
    Ok,
    /// It said so.
    Failed(String),
    /// It may only be slow.
    Late,
}

impl NodeReady {
    pub fn new(services: Arc<Services>, workflow: Option<Arc<dyn WorkflowState>>, membership: Arc<Membership>) -> Self {
        let (timers, stopping) = (OnceLock::new(), AtomicBool::new(false));
        let (away, last) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { services, workflow, membership, timers, stopping, away, last }
    }

    /// Shows how punctual this node's timers are.
    pub fn show_timers(&self, stats: Arc<TimerStats>) {
        // Only the first engine is shown; there is no other.
        let _ = self.timers.set(stats);
    }

    /// From now on the node isn't ready, though it still serves: a load balancer takes it out.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// What the API can't do without.
    async fn servers(&self) -> [(&'static str, State); 2] {
        let store = look(async { self.services.store.check().await.map_err(|error| error.to_string()) });
        let bus = look(async { self.services.bus.check().await.map_err(|error| error.to_string()) });
        let (store, bus) = tokio::join!(store, bus);
        [("store", store), ("bus", bus)]
    }

    /// Looks at the servers again and again: requests needn't wait for one that is known to be away.
    ///
    /// A server that says it can't is away at once; one that is late only when it is late twice, for a busy machine
    /// is slow as well.
    pub async fn watch(self: Arc<Self>, cancel: CancellationToken) {
        let mut late_before = [false; 2];
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(if self.refusal().is_none() { LOOK_EVERY.0 } else { LOOK_EVERY.1 }) => {}
            }
            let states = self.servers().await;
            let mut away = Vec::new();
            for ((name, state), late_before) in states.iter().zip(&mut late_before) {
                let late = matches!(state, State::Late);
                if matches!(state, State::Failed(_)) || late && *late_before {
                    away.push(*name);
                }
                *late_before = late;
            }
            self.show(&away.join(" and "));
        }
    }

    fn show(&self, away: &str) {
        let now = (!away.is_empty()).then(|| away.to_owned());
        let before = std::mem::replace(&mut *self.away.lock(), now.clone());
        if before != now {
            match now {
                Some(away) => tracing::warn!(away, "the API answers 503 until it is back"),
                None => tracing::info!(was_away = before, "the API serves again"),
            }
        }
    }
}

async fn look(check: impl Future<Output = Result<(), String>>) -> State {
    match timeout(DEADLINE, check).await {
        Ok(Ok(())) => State::Ok,
        Ok(Err(error)) => State::Failed(error),
        Err(_) => State::Late,
    }
}

fn line(name: &str, state: State) -> Dependency {
    let (ready, detail) = match state {
        State::Ok => (true, "ok".to_owned()),
        State::Failed(error) => (false, error),
        State::Late => (false, format!("no answer within {DEADLINE:?}")),
    };
    Dependency { name: name.to_owned(), ready, detail }
}

impl NodeReady {
    async fn look(&self) -> Vec<Dependency> {
        let coordinator = async { self.services.coordinator.check().await.map_err(|error| error.to_string()) };
        // Without it workflows wait and everything else goes on.
        let workflow = async {
            match &self.workflow {
                Some(workflow) => workflow.check().await.map_err(|error| error.to_string()),
                None => Ok(()),
            }
        };
        let (servers, workflow, coordinator) = tokio::join!(self.servers(), look(workflow), look(coordinator));
        let mut lines: Vec<Dependency> = servers.into_iter().map(|(name, state)| line(name, state)).collect();
        lines.push(line("workflow", workflow));
        lines.push(line("coordinator", coordinator));
        lines.push(line("raft", self.membership.check().map_or_else(State::Failed, |()| State::Ok)));
        if let Some(stats) = self.timers.get() {
            let late = stats.read();
            // Information, not a condition: another node may hold the timers.
            let detail = format!(
                "ok ({} ticks, {} slots missed, late by p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms)",
                late.ticks, late.missed, late.p50_ms, late.p99_ms, late.max_ms
            );
            lines.push(Dependency { name: "timers".to_owned(), ready: true, detail });
        }
        lines
    }
}

#[async_trait]
impl Readiness for NodeReady {
    async fn check(&self) -> Vec<Dependency> {
        let mut last = self.last.lock().await;
        let mut lines = match &*last {
            Some((at, lines)) if at.elapsed() < FRESH => lines.clone(),
            _ => {
                let lines = self.look().await;
                *last = Some((Instant::now(), lines.clone()));
                lines
            }
        };
        if self.is_stopping() {
            lines.push(Dependency { name: "node".to_owned(), ready: false, detail: "stopping".to_owned() });
        }
        lines
    }

    fn refusal(&self) -> Option<String> {
        self.away.lock().clone()
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}
