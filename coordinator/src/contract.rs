//! What every adapter of [`Coordinator`] must do, as tests: an adapter calls
//! [`coordinator_contract!`](crate::coordinator_contract) with an expression that makes a [`Setup`]: two or more nodes
//! with one memory, which no other test uses.
//!
//! Nothing fails here: no connection breaks, no memory is lost.

#![expect(clippy::unwrap_used, reason = "test code")]

use std::any::Any;
use std::collections::{BTreeSet, HashMap};
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::port::{Answer, Ask, Coordinator, CoordinatorError, Grant, Grants, Heard, Holder, MAX_NAME_BYTES};
use crate::state::KeyState;

/// Nothing here takes longer, even over a network.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long nothing must be heard for it to count as nothing.
const SILENCE: Duration = Duration::from_millis(120);

/// Nodes that share one memory, and what has to live as long (a server, a directory).
#[derive(Debug)]
pub struct Setup {
    pub nodes: Vec<Arc<dyn Coordinator>>,
    pub guard: Box<dyn Guard>,
}

/// Anything that is dropped after the test.
pub trait Guard: Any + Send + Sync + std::fmt::Debug {}
impl<T: Any + Send + Sync + std::fmt::Debug> Guard for T {}

impl Setup {
    pub fn new(nodes: Vec<Arc<dyn Coordinator>>, guard: impl Guard) -> Self {
        assert!(nodes.len() >= 2, "the contract needs two nodes");
        Self { nodes, guard: Box::new(guard) }
    }
}

fn ask(key: &str, limit: u32, request: impl ToString) -> Ask {
    Ask { key: key.to_owned(), limit, request: request.to_string(), wait: true }
}

fn try_ask(key: &str, limit: u32, request: impl ToString) -> Ask {
    Ask { wait: false, ..ask(key, limit, request) }
}

async fn acquire(node: &Arc<dyn Coordinator>, ask: Ask) -> Answer {
    timeout(PATIENCE, node.acquire(ask)).await.unwrap().unwrap()
}

async fn granted(node: &Arc<dyn Coordinator>, ask: Ask) -> Grant {
    match acquire(node, ask.clone()).await {
        Answer::Granted(grant) => grant,
        other => panic!("{ask:?}: {other:?}"),
    }
}

async fn release(node: &Arc<dyn Coordinator>, key: &str, request: impl ToString) {
    timeout(PATIENCE, node.release(key, &request.to_string())).await.unwrap().unwrap();
}

async fn heard(grants: &mut Box<dyn Grants>) -> (String, String, Grant) {
    match timeout(PATIENCE, grants.next()).await.unwrap().unwrap() {
        Heard::Granted { key, request, grant } => (key, request, grant),
        Heard::Lost => panic!("grants were lost"),
    }
}

async fn silent(grants: &mut Box<dyn Grants>) -> bool {
    timeout(SILENCE, grants.next()).await.is_err()
}

async fn holding(node: &Arc<dyn Coordinator>, key: &str) -> Vec<(String, u32)> {
    let holders = timeout(PATIENCE, node.holders(key)).await.unwrap().unwrap();
    for (holder, grant) in &holders {
        assert_eq!(holder.slot, grant.slot);
    }
    holders.into_iter().map(|(holder, _)| (holder.request, holder.slot)).collect()
}

fn pairs(pairs: &[(&str, u32)]) -> Vec<(String, u32)> {
    pairs.iter().map(|(request, slot)| ((*request).to_owned(), *slot)).collect()
}

fn holders(pairs: &[(&str, u32)]) -> Vec<Holder> {
    pairs.iter().map(|(request, slot)| Holder { request: (*request).to_owned(), slot: *slot }).collect()
}

/// As many permits as the limit, on lowest free slots, with growing tokens; then busy or queued.
pub async fn permits_up_to_the_limit(setup: Setup) {
    let (a, b) = (&setup.nodes[0], &setup.nodes[1]);
    let first = granted(a, ask("k", 3, "1")).await;
    let second = granted(b, ask("k", 3, "2")).await;
    let third = granted(a, try_ask("k", 3, "3")).await;
    assert_eq!([first.slot, second.slot, third.slot], [0, 1, 2]);
    assert!(first.token < second.token && second.token < third.token);
    assert_eq!(acquire(b, try_ask("k", 3, "4")).await, Answer::Busy);
    assert_eq!(acquire(b, ask("k", 3, "5")).await, Answer::Queued);
    // Another key is apart.
    assert_eq!(granted(b, ask("other", 1, "5")).await.slot, 0);
    assert_eq!(holding(b, "k").await, pairs(&[("1", 0), ("2", 1), ("3", 2)]));
    release(a, "k", "5").await;
    release(b, "k", "2").await;
    let again = granted(a, try_ask("k", 3, "6")).await;
    assert_eq!(again.slot, 1);
    assert!(again.token > third.token);
    assert_eq!(holding(a, "k").await, pairs(&[("1", 0), ("6", 1), ("3", 2)]));
    assert!(holding(a, "unknown").await.is_empty());
}

/// Asking twice takes one permit, from whichever node.
pub async fn asking_again_changes_nothing(setup: Setup) {
    let (a, b) = (&setup.nodes[0], &setup.nodes[1]);
    let grant = granted(a, ask("k", 1, "1")).await;
    for node in &setup.nodes {
        assert_eq!(granted(node, ask("k", 1, "1")).await, grant);
        assert_eq!(granted(node, try_ask("k", 1, "1")).await, grant);
        assert_eq!(acquire(node, ask("k", 1, "2")).await, Answer::Queued);
    }
    assert_eq!(acquire(a, ask("k", 1, "3")).await, Answer::Queued);
    assert_eq!(acquire(b, ask("k", 1, "2")).await, Answer::Queued);
    let mut grants = b.grants();
    release(b, "k", "1").await;
    assert_eq!(heard(&mut grants).await.1, "2");
    release(b, "k", "2").await;
    assert_eq!(heard(&mut grants).await.1, "3");
    // Giving up twice, or what was never asked for, is no error.
    for name in ["3", "3", "never"] {
        release(a, "k", name).await;
    }
    release(a, "never", "never").await;
    assert!(holding(b, "k").await.is_empty());
}

/// First come, first served, over all nodes; every node hears every grant.
pub async fn waiters_go_in_order(setup: Setup) {
    granted(&setup.nodes[0], ask("k", 1, "first")).await;
    let mut listeners: Vec<Box<dyn Grants>> = setup.nodes.iter().map(|node| node.grants()).collect();
    for n in 0..20 {
        let node = &setup.nodes[n % setup.nodes.len()];
        assert_eq!(acquire(node, ask("k", 1, n)).await, Answer::Queued);
    }
    for listener in &mut listeners {
        assert!(silent(listener).await);
    }
    let mut last = "first".to_owned();
    let mut token = 0;
    for n in 0..20 {
        release(&setup.nodes[(n + 1) % setup.nodes.len()], "k", &last).await;
        for listener in &mut listeners {
            let (key, request, grant) = heard(listener).await;
            assert_eq!((key.as_str(), request.as_str(), grant.slot), ("k", n.to_string().as_str(), 0));
            assert!(grant.token >= token);
            token = grant.token;
        }
        assert_eq!(holding(&setup.nodes[0], "k").await, vec![(n.to_string(), 0)]);
        last = n.to_string();
    }
}

/// A waiter that gives up, or asks again without wanting to wait, loses its place.
pub async fn waiters_may_give_up(setup: Setup) {
    let (a, b) = (&setup.nodes[0], &setup.nodes[1]);
    let mut grants = a.grants();
    granted(a, ask("k", 1, "1")).await;
    for name in ["2", "3", "4", "5"] {
        assert_eq!(acquire(b, ask("k", 1, name)).await, Answer::Queued);
    }
    release(a, "k", "3").await;
    assert_eq!(acquire(a, try_ask("k", 1, "4")).await, Answer::Busy);
    release(b, "k", "1").await;
    assert_eq!(heard(&mut grants).await.1, "2");
    release(b, "k", "2").await;
    assert_eq!(heard(&mut grants).await.1, "5");
    release(b, "k", "5").await;
    assert!(silent(&mut grants).await);
}

/// The latest limit decides.
pub async fn limits_change(setup: Setup) {
    let (a, b) = (&setup.nodes[0], &setup.nodes[1]);
    let mut grants = b.grants();
    // With 0 everything waits.
    assert_eq!(acquire(a, try_ask("k", 0, "x")).await, Answer::Busy);
    for name in ["1", "2", "3", "4"] {
        assert_eq!(acquire(a, ask("k", 0, name)).await, Answer::Queued);
    }
    assert!(silent(&mut grants).await);
    // A waiter asks again under a higher limit: those before it go, too, in order.
    assert_eq!(granted(b, ask("k", 3, "3")).await.slot, 2);
    for (name, slot) in [("1", 0), ("2", 1), ("3", 2)] {
        let (_, request, grant) = heard(&mut grants).await;
        assert_eq!((request.as_str(), grant.slot), (name, slot));
    }
    // A new one raises it: the waiter goes first.
    assert_eq!(granted(a, ask("k", 5, "5")).await.slot, 4);
    let (_, request, grant) = heard(&mut grants).await;
    assert_eq!((request.as_str(), grant.slot), ("4", 3));
    // Lowered: those who hold go on, nobody new until few enough hold.
    assert_eq!(acquire(b, ask("k", 2, "6")).await, Answer::Queued);
    for name in ["1", "2", "3"] {
        release(a, "k", name).await;
    }
    assert!(silent(&mut grants).await);
    assert_eq!(holding(b, "k").await, pairs(&[("4", 3), ("5", 4)]));
    release(b, "k", "4").await;
    let (_, request, grant) = heard(&mut grants).await;
    assert_eq!((request.as_str(), grant.slot), ("6", 0));
    // A holder that asks again changes the limit as well.
    assert_eq!(acquire(b, ask("k", 2, "7")).await, Answer::Queued);
    assert_eq!(granted(a, ask("k", 3, "5")).await.slot, 4);
    let (_, request, grant) = heard(&mut grants).await;
    assert_eq!((request.as_str(), grant.slot), ("7", 1));
}

/// What the store says replaces what was known.
pub async fn the_store_restores(setup: Setup) {
    let (a, b) = (&setup.nodes[0], &setup.nodes[1]);
    let mut grants = a.grants();
    let kept = granted(a, ask("k", 2, "kept")).await;
    let dropped = granted(a, ask("k", 2, "dropped")).await;
    for name in ["w1", "w2", "w3"] {
        assert_eq!(acquire(b, ask("k", 2, name)).await, Answer::Queued);
    }
    // w1 has its permit by now, and one that nobody knew of; slot 7 comes from a higher limit of old.
    timeout(PATIENCE, b.restore("k", 4, &holders(&[("kept", 0), ("w1", 2), ("new", 7)]))).await.unwrap().unwrap();
    let (_, request, grant) = heard(&mut grants).await;
    assert_eq!((request.as_str(), grant.slot), ("w2", 1));
    assert!(grant.token > dropped.token);
    assert!(silent(&mut grants).await);
    assert_eq!(holding(a, "k").await, pairs(&[("kept", 0), ("w2", 1), ("w1", 2), ("new", 7)]));
    assert_eq!(granted(a, ask("k", 4, "kept")).await, kept);
    let w1 = granted(b, ask("k", 4, "w1")).await;
    assert!(w1.slot == 2 && w1.token > dropped.token);
    assert_eq!(acquire(a, try_ask("k", 4, "dropped")).await, Answer::Busy);
    // A new slot is a new grant.
    timeout(PATIENCE, a.restore("k", 1, &holders(&[("kept", 3)]))).await.unwrap().unwrap();
    let moved = granted(b, ask("k", 1, "kept")).await;
    assert!(moved.slot == 3 && moved.token > w1.token);
    // Nobody holds: the waiter goes. A key that nobody knew is made.
    timeout(PATIENCE, a.restore("k", 1, &[])).await.unwrap().unwrap();
    assert_eq!(heard(&mut grants).await.1, "w3");
    timeout(PATIENCE, a.restore("fresh", 2, &holders(&[("x", 1)]))).await.unwrap().unwrap();
    assert_eq!(granted(b, ask("fresh", 2, "y")).await.slot, 0);
    assert_eq!(acquire(a, ask("fresh", 2, "z")).await, Answer::Queued);
    timeout(PATIENCE, a.restore("unknown", 2, &[])).await.unwrap().unwrap();
    assert!(holding(b, "unknown").await.is_empty());
}

/// Tokens of a key grow for ever, also when it was idle in between.
pub async fn tokens_never_go_back(setup: Setup) {
    let mut last = 0;
    for n in 0..40 {
        let node = &setup.nodes[n % setup.nodes.len()];
        let grant = granted(node, ask("k", 2, n)).await;
        assert!(grant.token > last, "{} after {last}", grant.token);
        last = grant.token;
        granted(node, ask("other", 2, n)).await;
        release(&setup.nodes[(n / 2) % setup.nodes.len()], "k", n).await;
        if n % 5 == 0 {
            release(node, "other", n).await;
        }
        if n % 11 == 10 {
            timeout(PATIENCE, node.restore("k", 2, &[])).await.unwrap().unwrap();
        }
        if n % 2 == 0 {
            release(node, "other", n).await;
        }
        release(node, "other", n.saturating_sub(1)).await;
    }
}

/// Names are bytes to the coordinator, whatever is in them.
pub async fn any_name_will_do(setup: Setup) {
    let (a, b) = (&setup.nodes[0], &setup.nodes[1]);
    let long = "k".repeat(MAX_NAME_BYTES);
    let names = [
        "a.b:c",
        "{x}",
        "}{",
        "a/b",
        "/",
        "//",
        ".",
        "..",
        "\n\t \u{0}\u{1f}",
        "\u{ff}\u{fffd}\u{1f600}",
        "*",
        "?[a]",
        "\"'\\",
        ":",
        "a b",
        "-1",
        "0",
        "zookeeper",
        long.as_str(),
    ];
    let mut grants = b.grants();
    for name in names {
        assert_eq!(granted(a, ask(name, 1, name)).await.slot, 0, "{name:?}");
        let other = match name.len() < MAX_NAME_BYTES {
            true => format!("{name}!"),
            false => "other".to_owned(),
        };
        assert_eq!(acquire(b, ask(name, 1, &other)).await, Answer::Queued, "{name:?}");
        assert_eq!(holding(b, name).await, pairs(&[(name, 0)]));
        release(b, name, name).await;
        let (key, request, _) = heard(&mut grants).await;
        assert_eq!((key.as_str(), &request), (name, &other));
    }
    let too_long = "k".repeat(MAX_NAME_BYTES + 1);
    for name in ["", &too_long] {
        let misuses = [
            a.acquire(ask(name, 1, "r")).await.map(drop),
            a.acquire(ask("k", 1, name)).await.map(drop),
            a.release(name, "r").await,
            a.release("k", name).await,
            a.restore(name, 1, &[]).await,
            a.restore("k", 1, &holders(&[(name, 0)])).await,
            a.holders(name).await.map(drop),
        ];
        for misuse in misuses {
            assert!(matches!(misuse, Err(CoordinatorError::Misuse(_))), "{misuse:?}");
        }
    }
    for twice in [[("a", 0), ("b", 0)], [("a", 0), ("a", 1)]] {
        let misuse = a.restore("k", 2, &holders(&twice)).await;
        assert!(matches!(misuse, Err(CoordinatorError::Misuse(_))), "{misuse:?}");
    }
}

/// Listening begins with `grants`, abandoning `next` loses nothing, and who went away is forgotten.
pub async fn listening(setup: Setup) {
    let (a, b) = (&setup.nodes[0], &setup.nodes[1]);
    granted(a, ask("k", 1, "0")).await;
    for n in 1..=20 {
        assert_eq!(acquire(a, ask("k", 1, n)).await, Answer::Queued);
    }
    drop(a.grants());
    let mut early = b.grants();
    release(a, "k", "0").await;
    assert_eq!(heard(&mut early).await.1, "1");
    let mut late = b.grants();
    for n in 1..20 {
        assert!(timeout(Duration::from_micros(50), late.next()).await.is_err());
        release(a, "k", n).await;
        assert_eq!(heard(&mut late).await.1, (n + 1).to_string());
        assert_eq!(heard(&mut early).await.1, (n + 1).to_string());
    }
    // A direct answer is not heard.
    release(a, "k", 20).await;
    granted(b, ask("k", 1, "direct")).await;
    assert!(silent(&mut late).await);
}

/// Many ask, hold and give up at once, on all nodes: never more than the limit, and all get their turn.
pub async fn a_crowd_gets_through(setup: Setup) {
    const LIMIT: u32 = 3;
    const TASKS: usize = 8;
    const TURNS: usize = 12;
    let inside = Arc::new(AtomicUsize::new(0));
    let slots = Arc::new(parking_lot::Mutex::new(BTreeSet::new()));
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let node = setup.nodes[task % setup.nodes.len()].clone();
        let (inside, slots) = (inside.clone(), slots.clone());
        tasks.spawn(async move {
            let mut grants = node.grants();
            for turn in 0..TURNS {
                let request = format!("{task}-{turn}");
                let grant = match acquire(&node, ask("k", LIMIT, &request)).await {
                    Answer::Granted(grant) => grant,
                    _ => loop {
                        let (_, name, grant) = heard(&mut grants).await;
                        if name == request {
                            break grant;
                        }
                    },
                };
                assert!(inside.fetch_add(1, Ordering::SeqCst) < LIMIT as usize);
                assert!(grant.slot < LIMIT && slots.lock().insert(grant.slot));
                tokio::task::yield_now().await;
                assert!(slots.lock().remove(&grant.slot));
                inside.fetch_sub(1, Ordering::SeqCst);
                release(&node, "k", &request).await;
            }
        });
    }
    while let Some(done) = timeout(PATIENCE, tasks.join_next()).await.unwrap() {
        done.unwrap();
    }
    assert!(holding(&setup.nodes[0], "k").await.is_empty());
}

/// A long line of waiters is served in order, and quickly.
pub async fn a_long_line(setup: Setup) {
    const WAITERS: usize = 400;
    let mut grants = setup.nodes[1].grants();
    granted(&setup.nodes[0], ask("k", 1, "first")).await;
    for n in 0..WAITERS {
        assert_eq!(acquire(&setup.nodes[n % setup.nodes.len()], ask("k", 1, n)).await, Answer::Queued);
    }
    release(&setup.nodes[0], "k", "first").await;
    for n in 0..WAITERS {
        assert_eq!(heard(&mut grants).await.1, n.to_string());
        release(&setup.nodes[n % setup.nodes.len()], "k", n).await;
    }
    assert!(holding(&setup.nodes[0], "k").await.is_empty());
}

/// Random calls on random nodes answer as [`KeyState`] does. `CONTRACT_SEED` repeats one.
pub async fn random_calls_follow_the_model(setup: Setup) {
    let mut random = Random::seeded("random_calls_follow_the_model");
    let mut model: HashMap<String, KeyState> = HashMap::new();
    let mut grants = setup.nodes[0].grants();
    let mut tokens: HashMap<String, u64> = HashMap::new();
    let mut ignored = 0;
    for step in 0..250 {
        let key = format!("k{}", random.below(3));
        let node = &setup.nodes[random.below(setup.nodes.len() as u64) as usize];
        let state = model.entry(key.clone()).or_default();
        let request = format!("r{}", random.below(9));
        let limit = if random.below(4) == 0 { random.below(4) as u32 } else { 2 };
        let woken = match random.below(20) {
            0..11 => {
                let wait = random.below(5) > 0;
                let (expected, woken) = state.ask(limit, &request, wait, &mut ignored).unwrap();
                let known = holding(node, &key).await.iter().any(|(name, _)| *name == request);
                let answer = acquire(node, Ask { wait, ..ask(&key, limit, &request) }).await;
                match (expected, answer) {
                    (Answer::Granted(expected), Answer::Granted(grant)) => {
                        assert_eq!(expected.slot, grant.slot, "step {step}");
                        let last = tokens.entry(key.clone()).or_default();
                        assert!(known || woken.iter().any(|(name, _)| *name == request) || grant.token > *last);
                        *last = (*last).max(grant.token);
                    }
                    (expected, answer) => assert_eq!(expected, answer, "step {step}"),
                }
                woken
            }
            11..19 => {
                let woken = state.release(&request, &mut ignored);
                release(node, &key, &request).await;
                woken
            }
            _ => {
                let held = [(request.as_str(), random.below(4) as u32), ("extra", 5)];
                let held = holders(&held[..random.below(3) as usize]);
                let woken = state.restore(limit, &held, &mut ignored);
                timeout(PATIENCE, node.restore(&key, limit, &held)).await.unwrap().unwrap();
                woken
            }
        };
        for (request, grant) in woken {
            let (heard_key, heard_request, heard_grant) = heard(&mut grants).await;
            assert_eq!((heard_key, heard_request, heard_grant.slot), (key.clone(), request, grant.slot), "step {step}");
        }
        let expected: Vec<(String, u32)> = state.holders().into_iter().map(|(h, _)| (h.request, h.slot)).collect();
        assert_eq!(holding(node, &key).await, expected, "step {step}");
    }
    assert!(silent(&mut grants).await);
}

/// A coordinator that lost nothing says so, on every node; and it is ready.
pub async fn the_generation_stays(setup: Setup) {
    let generation = setup.nodes[0].generation().await.unwrap();
    for node in &setup.nodes {
        granted(node, ask("k", 5, "1")).await;
        assert_eq!(node.generation().await.unwrap(), generation);
        timeout(PATIENCE, node.check()).await.unwrap().unwrap();
    }
    release(&setup.nodes[0], "k", "1").await;
    assert_eq!(setup.nodes[0].generation().await.unwrap(), generation);
}

/// A small random generator (xorshift*), so that a seed means the same everywhere.
struct Random(u64);

impl Random {
    fn seeded(name: &str) -> Self {
        let given = std::env::var("CONTRACT_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed: u64 = given.unwrap_or_else(|| std::collections::hash_map::RandomState::new().hash_one(name));
        println!("{name}: CONTRACT_SEED={seed}");
        Self(seed | 1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

/// Makes the tests: `coordinator_contract!(async { Setup::new(nodes, guard) })`, evaluated for each. An
/// `Option<Setup>` that is `None` skips the test (its server isn't there).
#[macro_export]
macro_rules! coordinator_contract {
    ($setup:expr) => {
        $crate::coordinator_contract!(@each $setup, [
            permits_up_to_the_limit, asking_again_changes_nothing, waiters_go_in_order, waiters_may_give_up,
            limits_change, the_store_restores, tokens_never_go_back, any_name_will_do, listening,
            a_crowd_gets_through, a_long_line, random_calls_follow_the_model, the_generation_stays,
        ]);
    };
    (@each $setup:expr, [$($name:ident),* $(,)?]) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let setup: Option<$crate::contract::Setup> = $setup.await.into();
                if let Some(setup) = setup {
                    $crate::contract::$name(setup).await;
                }
            }
        )*
    };
}
