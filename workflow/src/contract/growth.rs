//! Work per finished item doesn't depend on how many there are (DESIGN §5).

use super::*;
use crate::stats::Stats;

/// Runs a workflow of this many items, one message per drain; returns what was done for each item.
async fn cost_of(state: &dyn WorkflowState, workflow: Id, items: u32, page: u32) -> Stats {
    let before = state.stats();
    let mut launches = toy::start(state, workflow, items, 10).await.unwrap();
    let mut done = 0;
    while !launches.is_empty() {
        let messages: Vec<_> = launches.iter().map(|launch| toy::result_of(launch, |_| false)).collect();
        let ids: Vec<_> = launches.drain(..).map(|launch| launch.id).collect();
        state.mark_launched(workflow, &ids).await.unwrap();
        state.deliver(workflow, &messages).await.unwrap();
        loop {
            let claim = Claim { messages: page, ..Claim::one(workflow, at(1)) };
            let Claimed::Drain(drain) = state.claim(&claim).await.unwrap() else { break };
            let (committed, more) = toy::advance(drain, at(1)).await.unwrap();
            launches.extend(more);
            done += 1;
            if !committed.more {
                break;
            }
        }
    }
    assert!(done >= items / page);
    let head = state.head(workflow).await.unwrap().unwrap();
    assert_eq!(head.status, "succeeded");
    state.stats().since(before)
}

pub async fn items_cost_the_same_however_many(factory: &impl Factory) {
    let state = factory.open(0).await;
    let mut costs = Vec::new();
    for (n, (items, page)) in [(100_u32, 1), (500, 1), (1_000, 10), (10_000, 10)].into_iter().enumerate() {
        let cost = cost_of(&*state, id(n as u64 + 1), items, page).await;
        eprintln!("{items} items, {page} a drain: {cost:?}");
        costs.push((items, cost));
    }
    for pair in costs.chunks(2) {
        let [(few, small), (many, large)] = pair else { continue };
        for (what, small, large) in [
            ("statements", small.statements, large.statements),
            ("bytes written", small.bytes_written, large.bytes_written),
            ("rows read", small.rows_read, large.rows_read),
            ("bytes read", small.bytes_read, large.bytes_read),
        ] {
            let (small, large) = (small as f64 / f64::from(*few), large as f64 / f64::from(*many));
            // Numbers have a digit more when there are ten times as many.
            assert!(large <= small * 1.15 + 1.0, "{what} per item: {small:.1} of {few}, {large:.1} of {many}");
        }
    }
}
