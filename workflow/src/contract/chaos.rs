//! Many engines at once, some of which die at any point: each message is used once, and the log tells the state.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;
use crate::error::StateError;
use crate::port::Deletion;
use toy::Whole;

/// What the world outside of the state remembers.
#[derive(Default)]
struct World {
    /// How often each launch was carried out.
    launched: Mutex<HashMap<Id, u32>>,
    /// Who drains what; nobody may be there twice while locks last.
    draining: Mutex<HashMap<Id, u32>>,
    locks_last: bool,
    aborted: AtomicU64,
    done: AtomicBool,
}

/// Seeds of the random tests; `WORKFLOW_TEST_SEED` replays one.
fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("WORKFLOW_TEST_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => vec![seed],
        None => (0..count).map(|_| rand::random::<u32>().into()).collect(),
    }
}

/// Carries launches out, each as often as it comes, and delivers the results, some of them twice.
async fn carry_out(
    state: &dyn WorkflowState,
    world: &World,
    launches: Vec<(Id, crate::Launch)>,
    random: &mut StdRng,
) -> Result<(), StateError> {
    for (workflow, launch) in launches {
        *world.launched.lock().entry(launch.id).or_default() += 1;
        let message = toy::result_of(&launch, |item| item % 5 == 0);
        state.deliver(workflow, std::slice::from_ref(&message)).await?;
        if random.random_bool(0.1) {
            state.deliver(workflow, &[message]).await?;
        }
        // Dies before it marks, at times: the launch comes again.
        if random.random_bool(0.9) {
            state.mark_launched(workflow, &[launch.id]).await?;
        }
    }
    Ok(())
}

/// One step of an engine that may die in it.
async fn step(state: &dyn WorkflowState, world: &World, random: &mut StdRng, now: Timestamp) -> Result<(), StateError> {
    let claim = Claim { messages: random.random_range(1..6), ..Claim::next(now) };
    let Claimed::Drain(drain) = state.claim(&claim).await? else {
        let taken = state.take_launches(now, Duration::ZERO, 5).await?;
        return carry_out(state, world, toy::launches_of(taken), random).await;
    };
    let workflow = drain.state().id;
    *world.draining.lock().entry(workflow).or_default() += 1;
    if world.locks_last {
        assert_eq!(world.draining.lock()[&workflow], 1, "drained by two at once");
    }
    let outcome = toy::decide(&*drain, now).await;
    // From here on the lock may be let go at any time.
    world.draining.lock().remove(&workflow);
    let changes = outcome?;
    let launches: Vec<_> = changes.launches.iter().map(|launch| (workflow, launch.clone())).collect();
    if random.random_bool(0.15) {
        world.aborted.fetch_add(1, Ordering::Relaxed);
        return Ok(());
    }
    let commit = drain.commit(changes, HOLD);
    if random.random_bool(0.15) {
        world.aborted.fetch_add(1, Ordering::Relaxed);
        let patience = Duration::from_micros(random.random_range(0..3_000));
        match tokio::time::timeout(patience, commit).await {
            Err(_) => return Ok(()),
            Ok(committed) => drop(committed?),
        }
    } else {
        commit.await?;
    }
    // Dies between commit and launch, at times.
    if random.random_bool(0.9) {
        carry_out(state, world, launches, random).await?;
    }
    Ok(())
}

async fn engine(state: Arc<dyn WorkflowState>, world: Arc<World>, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut now = at(1);
    while !world.done.load(Ordering::Relaxed) {
        // Held launches of those who died and retries come due.
        now = now.plus(Duration::from_secs(random.random_range(0..3)));
        match step(&*state, &world, &mut random, now).await {
            Ok(()) => {}
            Err(StateError::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(2)).await,
            Err(error) => panic!("{error:?}"),
        }
    }
}

pub async fn each_message_is_used_once(factory: &impl Factory) {
    const ITEMS: u32 = 40;
    const WORKFLOWS: u64 = 3;
    let seed = seeds(1)[0];
    eprintln!("WORKFLOW_TEST_SEED={seed}");
    let nodes = [factory.open(0).await, factory.open(1).await];
    let world = Arc::new(World { locks_last: !factory.takes_locks(), ..World::default() });
    for n in 0..WORKFLOWS {
        // Begun by somebody who dies at once.
        toy::start(&*nodes[0], id(n), ITEMS, 4).await.unwrap();
    }
    let engines: Vec<_> = (0..8)
        .map(|n| tokio::spawn(engine(nodes[n as usize % 2].clone(), Arc::clone(&world), seed.wrapping_add(n))))
        .collect();
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        factory.disturb().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut finished = 0;
        for n in 0..WORKFLOWS {
            let head = nodes[1].head(id(n)).await.unwrap().unwrap();
            finished += u64::from(head.finished.is_some());
        }
        if finished == WORKFLOWS || engines.iter().any(tokio::task::JoinHandle::is_finished) {
            break;
        }
        assert!(Instant::now() < deadline, "seed {seed}: stuck");
    }
    world.done.store(true, Ordering::Relaxed);
    for engine in engines {
        engine.await.unwrap();
    }
    for n in 0..WORKFLOWS {
        let stored = Whole::stored(&*nodes[0], id(n)).await.unwrap();
        assert_eq!(stored, Whole::replayed(&*nodes[0], id(n)).await.unwrap(), "seed {seed}");
        // Each result was counted once.
        assert_eq!(stored.counts.sum, (0..ITEMS).map(toy::value_of).sum::<u64>(), "seed {seed}");
        assert_eq!((stored.counts.done, stored.counts.active), (ITEMS, 0));
        for item in 0..ITEMS {
            for attempt in 1..=if item % 5 == 0 { 2 } else { 1 } {
                let launched = world.launched.lock().get(&toy::execution_of(id(n), item, attempt)).copied();
                assert!(launched.is_some(), "seed {seed}: item {item} attempt {attempt} was never launched");
            }
        }
        // Nothing else waits: what came again was there before.
        assert_eq!(nodes[0].inbox(id(n), 1_000).await.unwrap(), [], "seed {seed}");
    }
    let aborted = world.aborted.load(Ordering::Relaxed);
    assert!(aborted > 5, "only {aborted} engines died");
}

/// W1, for random workflows and orders of completion: state and log agree after every step.
pub async fn event_logs_replay_to_the_state(factory: &impl Factory) {
    let state = factory.open(0).await;
    for (n, seed) in seeds(6).into_iter().enumerate() {
        let mut random = StdRng::seed_from_u64(seed);
        let workflow = id(n as u64);
        let items = random.random_range(0..30);
        let launches = toy::start(&*state, workflow, items, random.random_range(1..8)).await.unwrap();
        let mut waiting = launches;
        let mut now = at(1);
        for _ in 0..400 {
            if !waiting.is_empty() && random.random_bool(0.7) {
                let some = random.random_range(1..=waiting.len().min(4));
                for _ in 0..some {
                    let launch = waiting.swap_remove(random.random_range(0..waiting.len()));
                    let message = toy::result_of(&launch, |item| (u64::from(item) * 7 + seed) % 3 == 0);
                    state.deliver(workflow, &[message.clone(), message]).await.unwrap();
                }
            }
            now = now.plus(Duration::from_secs(random.random_range(0..6)));
            let claim = Claim { messages: random.random_range(1..4), ..Claim::one(workflow, now) };
            if let Claimed::Drain(drain) = state.claim(&claim).await.unwrap() {
                let (_, launches) = toy::advance(drain, now).await.unwrap();
                waiting.extend(launches);
                let stored = Whole::stored(&*state, workflow).await.unwrap();
                assert_eq!(stored, Whole::replayed(&*state, workflow).await.unwrap(), "WORKFLOW_TEST_SEED={seed}");
            } else if waiting.is_empty() && Whole::stored(&*state, workflow).await.unwrap().timers.is_empty() {
                break;
            }
        }
        let head = state.head(workflow).await.unwrap().unwrap();
        assert_eq!(head.status, "succeeded", "WORKFLOW_TEST_SEED={seed}");
    }
}

/// Workflows come and go while messages for them arrive: nothing of them is left.
pub async fn creations_and_deletions_at_once(factory: &impl Factory) {
    let nodes = [factory.open(0).await, factory.open(1).await];
    let stop = Arc::new(AtomicBool::new(false));
    let deliverers: Vec<_> = (0..4_u64)
        .map(|n| {
            let (state, stop) = (nodes[n as usize % 2].clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut sent = 0;
                while !stop.load(Ordering::Relaxed) {
                    sent += 1;
                    state.deliver(id(sent % 3), &[message(1_000_000 * n + sent)]).await.unwrap();
                }
            })
        })
        .collect();
    for round in 0..10_u64 {
        for n in 0..3 {
            begin(&*nodes[0], id(n)).await;
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        for n in 0..3 {
            let state = &nodes[(round % 2) as usize];
            while state.delete(id(n), 100).await.unwrap() != Deletion::Done {
                assert!(Instant::now() < deadline, "never let go");
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    for deliverer in deliverers {
        deliverer.await.unwrap();
    }
    for n in 0..3 {
        assert_eq!(factory.rows_of(id(n)).await, 0);
    }
}
