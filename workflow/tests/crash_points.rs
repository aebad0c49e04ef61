//! Kill -9 at each of the named points, on both databases: what was acknowledged is there, each result is used once,
//! no launch is lost (W1).

#![expect(clippy::unwrap_used, reason = "test code")]

mod support;

use std::collections::HashMap;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::Id;
use support::postgres::Schema;
use workflow::contract::toy::{self, Whole};
use workflow::contract::{Factory as _, at, id};
use workflow::postgres::{PostgresOptions, PostgresState};
use workflow::sqlite::{SqliteOptions, SqliteState};
use workflow::{Claim, Claimed, Launch, WorkflowState, failpoint};

/// Tells the test binary, run anew, to be the engine that is killed: `sqlite PATH` or `postgres URL SCHEMA`.
const CHILD: &str = "WORKFLOW_TEST_CHILD";
const ITEMS: u32 = 12;

async fn open(place: &str) -> Arc<dyn WorkflowState> {
    let words: Vec<&str> = place.split(' ').collect();
    match words.as_slice() {
        ["sqlite", path] => Arc::new(SqliteState::open(SqliteOptions::new(path)).await.unwrap()),
        ["postgres", url, schema] => {
            let mut options = PostgresOptions::new(*url);
            options.schema = (*schema).to_owned();
            Arc::new(PostgresState::open(options).await.unwrap())
        }
        _ => panic!("{place}"),
    }
}

/// An engine that works by itself until everything is done.
async fn run(state: &dyn WorkflowState, launched: &mut HashMap<Id, u32>) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut now = at(1);
    toy::start(state, id(1), ITEMS, 3).await.unwrap();
    while state.head(id(1)).await.unwrap().unwrap().finished.is_none() {
        assert!(Instant::now() < deadline, "stuck");
        let launches: Vec<(Id, Launch)> = match state.claim(&Claim { messages: 2, ..Claim::next(now) }).await.unwrap() {
            Claimed::Drain(drain) => {
                let launches = toy::advance(drain, now).await.unwrap().1;
                launches.into_iter().map(|launch| (id(1), launch)).collect()
            }
            // Those whose holder died come when its time is over; so do retries.
            _ => {
                now = now.plus(Duration::from_secs(61));
                toy::launches_of(state.take_launches(now, Duration::from_secs(60), 10).await.unwrap())
            }
        };
        for (workflow, launch) in launches {
            *launched.entry(launch.id).or_default() += 1;
            state.deliver(workflow, &[toy::result_of(&launch, |item| item % 4 == 0)]).await.unwrap();
            state.mark_launched(workflow, &[launch.id]).await.unwrap();
        }
    }
}

/// Not a test by itself.
#[tokio::test]
async fn child_that_dies_at_a_point() {
    let Ok(place) = std::env::var(CHILD) else { return };
    run(&*open(&place).await, &mut HashMap::new()).await;
}

async fn dies_everywhere(place: &str) {
    for point in failpoint::ALL {
        for count in [1, 4, 9] {
            let status = Command::new(std::env::current_exe().unwrap())
                .args(["child_that_dies_at_a_point", "--exact"])
                .env(CHILD, place)
                .env("SQUALL_FAILPOINT", format!("{point}:{count}"))
                .output()
                .unwrap()
                .status;
            assert!(!status.success(), "{point}:{count} was never reached");
            let state = open(place).await;
            run(&*state, &mut HashMap::new()).await;
            let stored = Whole::stored(&*state, id(1)).await.unwrap();
            assert_eq!(stored, Whole::replayed(&*state, id(1)).await.unwrap(), "{point}:{count}");
            assert_eq!(stored.counts.sum, (0..ITEMS).map(toy::value_of).sum::<u64>(), "{point}:{count}");
            while state.delete(id(1), 1_000).await.unwrap() != workflow::Deletion::Done {}
            state.close().await;
        }
    }
}

#[tokio::test]
async fn sqlite_survives_every_crash_point() {
    let folder = tempfile::tempdir().unwrap();
    dies_everywhere(&format!("sqlite {}", folder.path().join("workflow.db").display())).await;
}

#[tokio::test]
async fn postgres_survives_every_crash_point() {
    let Some(schema) = Schema::shared().await else { return };
    dies_everywhere(&format!("postgres {} {}", schema.url, schema.name)).await;
    schema.clean().await;
}
