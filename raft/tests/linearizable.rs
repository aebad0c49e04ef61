//! K1: permits are linearizable on three nodes, whoever is asked, while leaders come and go. Histories of concurrent calls
//! are recorded and checked by stateright's tester against the pure model of a key.
//!
//! A call that ended in an error may have happened or not, at any later time: it stays open in the history, and its
//! request is never used again.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::Cluster;
use coordinator::{Answer, Ask, Coordinator, KeyState};
use parking_lot::Mutex;
use raft::{Group, RaftCoordinator};
use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};

const LIMIT: u32 = 2;
const CLIENTS: usize = 4;
/// Many short histories: what the checker has to try grows exponentially with their length.
const CALLS: usize = 9;
const ROUNDS: usize = 9;

#[derive(Debug, Clone)]
enum Call {
    TryAcquire(String),
    Release(String),
    Holders,
}

#[derive(Debug, Clone, PartialEq)]
enum Outcome {
    Slot(u32),
    Busy,
    Done,
    Holders(Vec<(String, u32)>),
}

#[derive(Debug, Clone, Default)]
struct Key(KeyState, u64);

impl SequentialSpec for Key {
    type Op = Call;
    type Ret = Outcome;

    fn invoke(&mut self, call: &Call) -> Outcome {
        match call {
            Call::TryAcquire(request) => match self.0.ask(LIMIT, request, false, &mut self.1).unwrap().0 {
                Answer::Granted(grant) => Outcome::Slot(grant.slot),
                _ => Outcome::Busy,
            },
            Call::Release(request) => {
                self.0.release(request, &mut self.1);
                Outcome::Done
            }
            Call::Holders => Outcome::Holders(
                self.0.holders().into_iter().map(|(holder, _)| (holder.request, holder.slot)).collect(),
            ),
        }
    }
}

async fn make(node: &RaftCoordinator, key: &str, call: &Call) -> Option<Outcome> {
    let outcome = match call {
        Call::TryAcquire(request) => {
            let ask = Ask { key: key.to_owned(), limit: LIMIT, request: request.clone(), wait: false };
            match node.acquire(ask).await.ok()? {
                Answer::Granted(grant) => Outcome::Slot(grant.slot),
                _ => Outcome::Busy,
            }
        }
        Call::Release(request) => {
            node.release(key, request).await.ok()?;
            Outcome::Done
        }
        Call::Holders => {
            let holders = node.holders(key).await.ok()?;
            Outcome::Holders(holders.into_iter().map(|(holder, _)| (holder.request, holder.slot)).collect())
        }
    };
    Some(outcome)
}

type History = Arc<Mutex<LinearizabilityTester<usize, Key>>>;
type Nodes = Arc<Mutex<Vec<Group>>>;

/// Makes calls one after the other on varying nodes; gives how many had no known outcome.
async fn client(client: usize, key: String, nodes: Nodes, history: History) -> usize {
    let (mut thread, mut held, mut unknown) = (client, None::<String>, 0);
    for number in 0..CALLS {
        let node = RaftCoordinator::new(nodes.lock()[(client + number) % 3].clone());
        let call = match held.take() {
            Some(request) if number % 5 != 4 => Call::Release(request),
            kept if number % 3 == 2 => {
                held = kept;
                Call::Holders
            }
            Some(request) => {
                held = Some(request);
                Call::Holders
            }
            None => Call::TryAcquire(format!("{client}-{number}")),
        };
        history.lock().on_invoke(thread, call.clone()).unwrap();
        match make(&node, &key, &call).await {
            Some(outcome) => {
                history.lock().on_return(thread, outcome.clone()).unwrap();
                if let (Call::TryAcquire(request), Outcome::Slot(_)) = (call, outcome) {
                    held = Some(request);
                }
            }
            None => {
                // Goes on as somebody else.
                thread += CLIENTS;
                unknown += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    unknown
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn permits_are_linearizable_while_leaders_change() {
    let cluster = Cluster::new(3);
    let groups = cluster.start_all().await;
    for group in &groups {
        common::status(group, "version 2", |status| status.version >= 2).await;
    }
    let nodes: Nodes = Arc::new(Mutex::new(groups));
    let mut unknown = 0;
    for round in 0..ROUNDS {
        let history: History = Arc::new(Mutex::new(LinearizabilityTester::new(Key::default())));
        let key = format!("k{round}");
        let mut clients = tokio::task::JoinSet::new();
        for number in 0..CLIENTS {
            clients.spawn(client(number, key.clone(), nodes.clone(), history.clone()));
        }
        // The first round is undisturbed; then the leader is stopped in the midst of the calls and comes back.
        if round > 0 {
            let groups = nodes.lock().clone();
            let leader = common::leader(&groups).await;
            groups[leader].shutdown().await;
            let back = cluster.start(leader).await;
            nodes.lock()[leader] = back;
        }
        while let Some(done) = clients.join_next().await {
            unknown += done.unwrap();
        }
        let history = history.lock().clone();
        let calls = history.len();
        let checked = tokio::task::spawn_blocking(move || history.is_consistent());
        let consistent =
            tokio::time::timeout(Duration::from_secs(60), checked).await.expect("the check takes too long");
        assert!(consistent.unwrap(), "round {round}: {calls} calls have no order");
    }
    println!("{} calls, {unknown} without a known outcome", ROUNDS * CLIENTS * CALLS);
    let groups = nodes.lock().clone();
    for group in groups {
        group.shutdown().await;
    }
}
