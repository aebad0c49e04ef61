//! What every adapter of [`WorkflowState`] must do, as tests.
//!
//! An adapter gives a [`Factory`] and calls [`workflow_contract!`](crate::workflow_contract), which makes a test of
//! each function of [`basics`], [`boxes`], [`documents`], [`deletion`], [`chaos`] and [`growth`]. The engine of the
//! last two is [`toy`]: a with-items workflow with retries, whose state is a pure fold of its events.

#![expect(clippy::unwrap_used, reason = "test code")]

pub mod basics;
pub mod boxes;
pub mod chaos;
pub mod deletion;
pub mod documents;
pub mod growth;
pub mod toy;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use model::{Id, Timestamp};

use crate::changes::{Changes, Creation};
use crate::port::{Claim, Claimed, Drain, WorkflowState};
use crate::rows::{HeadState, Launch, Message, Timer};

/// Opens the states of the suite.
#[async_trait]
pub trait Factory: Send + Sync {
    /// Opens the state as a node of this number sees it: the same state for all nodes, empty at first.
    async fn open(&self, node: u32) -> Arc<dyn WorkflowState>;

    /// Rows of a workflow in all tables, the head's included.
    async fn rows_of(&self, workflow: Id) -> u64;

    /// Breaks connections of drains under way, where there are any to break.
    async fn disturb(&self);

    /// Whether that takes a lock from somebody who still decides: then two may decide at once, and one of them can't
    /// commit.
    fn takes_locks(&self) -> bool {
        false
    }

    /// Removes everything, after the test.
    async fn clean(&self);
}

/// How long launches are held where a test doesn't look at it.
pub const HOLD: Duration = Duration::from_secs(60);

/// The suite's time: seconds after a fixed instant.
pub fn at(seconds: u64) -> Timestamp {
    Timestamp::from_micros(1_700_000_000_000_000).plus(Duration::from_secs(seconds))
}

/// The id of thing `n`; ids rise with `n`.
pub fn id(n: u64) -> Id {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&0x6553_f100_u32.to_be_bytes());
    bytes[4..].copy_from_slice(&n.to_be_bytes());
    Id::from_bytes(bytes)
}

pub fn head(status: &str) -> HeadState {
    HeadState { execution: id(7), status: status.to_owned(), finished: None, body: "{}".to_owned() }
}

pub fn changes(status: &str) -> Changes {
    Changes::new(head(status), at(0))
}

/// Begins an empty workflow.
pub async fn begin(state: &dyn WorkflowState, workflow: Id) {
    let creation = Creation { id: workflow, engine: "toy".to_owned(), changes: changes("running") };
    state.create(creation, HOLD).await.unwrap();
}

/// The message of this number, from a source of its own.
pub fn message(n: u64) -> Message {
    Message { source: id(n), attempt: 1, kind: "succeeded".to_owned(), at: at(n), body: format!("{{\"n\":{n}}}") }
}

pub fn launch(n: u64, due: Timestamp) -> Launch {
    Launch { id: id(n), kind: "action".to_owned(), due, body: format!("{{\"launch\":{n}}}") }
}

pub fn timer(key: &str, due: u64) -> Timer {
    Timer { key: key.to_owned(), due: at(due), body: format!("\"{key}\"") }
}

pub async fn claim_one(state: &dyn WorkflowState, workflow: Id) -> Claimed {
    state.claim(&Claim::one(workflow, at(0))).await.unwrap()
}

/// Claims a workflow that has something to do and that nobody holds for long.
pub async fn drain_of(state: &dyn WorkflowState, claim: &Claim) -> Box<dyn Drain> {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        match state.claim(claim).await.unwrap() {
            Claimed::Drain(drain) => return drain,
            other => assert!(std::time::Instant::now() < deadline, "{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A change that uses all messages of a drain.
pub fn using_all(drain: &dyn Drain) -> Changes {
    let mut changes = Changes::new(HeadState::from(drain.state()), at(0));
    changes.used = drain.messages().iter().map(|received| received.seq).collect();
    changes
}

/// Makes the tests: `workflow_contract!(async { MyFactory::new().await })`, the expression, of type
/// `Option<impl Factory>`, being evaluated for each; None skips it.
#[macro_export]
macro_rules! workflow_contract {
    ($factory:expr) => {
        $crate::workflow_contract!(@module $factory, basics: [
            creating_twice_is_creating_once, everything_written_is_read, rows_are_replaced_and_removed,
            claims_exclude_each_other, dropped_drains_let_go, refused_commits_leave_nothing, queries_page,
            heads_are_found, limits_are_named, other_nodes_are_woken, it_answers,
        ]);
        $crate::workflow_contract!(@module $factory, boxes: [
            messages_come_in_order_once, used_messages_are_known, pages_are_bounded, none_starves,
            a_late_message_is_seen_by_one_of_two, timers_fire_in_order, launches_are_held_taken_and_marked,
            launches_wait_for_their_time, launches_survive_whoever_committed_them, relays_share,
        ]);
        $crate::workflow_contract!(@module $factory, documents: [
            documents_come_back, large_contexts_are_written_once, documents_are_replaced_and_removed,
        ]);
        $crate::workflow_contract!(@module $factory, deletion: [
            deletion_leaves_nothing, deletion_is_bounded_and_final, a_drained_workflow_is_not_deleted,
        ]);
        $crate::workflow_contract!(@module $factory, chaos: [
            each_message_is_used_once, event_logs_replay_to_the_state, creations_and_deletions_at_once,
        ]);
        $crate::workflow_contract!(@module $factory, growth: [items_cost_the_same_however_many]);
    };
    (@module $factory:expr, $module:ident: [$($name:ident),* $(,)?]) => {
        mod $module {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    let Some(factory) = $factory.await else { return };
                    $crate::contract::$module::$name(&factory).await;
                    $crate::contract::Factory::clean(&factory).await;
                }
            )*
        }
    };
}
