//! What the SQLite adapter withstands: a second process, newer and foreign files, lost claims.

#![expect(clippy::unwrap_used, reason = "test code")]

mod support;

use support::sqlite::Database;
use workflow::contract::{Factory as _, HOLD, at, begin, drain_of, id, message, using_all};
use workflow::sqlite::{FORMAT, SqliteOptions, SqliteState};
use workflow::{Claim, OpenError, Reader as _, StateError, WorkflowState as _};

/// The compare-and-set holds even if somebody else changed the workflow while it was held.
#[tokio::test]
async fn a_stale_revision_is_refused() {
    let database = Database::new();
    let state = database.state().await;
    begin(&*state, id(1)).await;
    state.deliver(id(1), &[message(1)]).await.unwrap();
    let drain = drain_of(&*state, &Claim::one(id(1), at(0))).await;
    let mut beside = database.connect().await;
    sqlx::query("UPDATE workflows SET rev = rev + 1").execute(&mut beside).await.unwrap();
    let mut change = using_all(&*drain);
    change.event("never", "1");
    let refused = drain.commit(change, HOLD).await;
    assert_eq!(refused, Err(StateError::Stale { workflow: id(1), expected: 1 }));
    assert_eq!(state.events(id(1), 0, 10).await.unwrap(), []);
    // Claimed anew, it goes on from what is there.
    let drain = drain_of(&*state, &Claim::one(id(1), at(0))).await;
    let change = using_all(&*drain);
    assert_eq!(drain.commit(change, HOLD).await.unwrap().rev, 3);
    database.clean().await;
}

/// In one group with others: only the stale one is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_does_not_touch_others() {
    let database = Database::new();
    let state = database.state().await;
    for n in 0..20 {
        begin(&*state, id(n)).await;
        state.deliver(id(n), &[message(1)]).await.unwrap();
    }
    let mut commits = Vec::new();
    for n in 0..20 {
        let drain = drain_of(&*state, &Claim::one(id(n), at(0))).await;
        let mut change = using_all(&*drain);
        change.event("one", "1");
        if n % 5 == 0 {
            change.used.push(1_000_000);
        }
        commits.push(tokio::spawn(drain.commit(change, HOLD)));
    }
    for (n, commit) in commits.into_iter().enumerate() {
        assert_eq!(commit.await.unwrap().is_ok(), n % 5 != 0, "{n}");
        let events = state.events(id(n as u64), 0, 10).await.unwrap().len();
        assert_eq!(events, usize::from(n % 5 != 0), "{n}");
    }
    database.clean().await;
}

#[tokio::test]
async fn other_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workflow.db");
    let state = SqliteState::open(SqliteOptions::new(&path)).await.unwrap();
    begin(&state, id(1)).await;
    let again = SqliteState::open(SqliteOptions::new(&path)).await.unwrap_err();
    assert!(matches!(again, OpenError::InUse { .. }), "{again}");
    state.close().await;
    // What was acknowledged is there after a restart.
    let state = SqliteState::open(SqliteOptions::new(&path)).await.unwrap();
    assert_eq!(state.head(id(1)).await.unwrap().unwrap().rev, 1);
    state.close().await;
    {
        use sqlx::ConnectOptions as _;
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
        let mut connection = options.connect().await.unwrap();
        sqlx::query("UPDATE workflow_format SET format = 99").execute(&mut connection).await.unwrap();
    }
    let error = SqliteState::open(SqliteOptions::new(&path)).await.unwrap_err();
    assert!(matches!(error, OpenError::Newer { found: 99, known: FORMAT }), "{error}");
    let other = folder.path().join("text.db");
    std::fs::write(&other, "not a database, but long enough to look at it twice".repeat(100)).unwrap();
    assert!(matches!(SqliteState::open(SqliteOptions::new(&other)).await, Err(OpenError::State(_))));
    let nowhere = folder.path().join("no/such.db");
    assert!(matches!(SqliteState::open(SqliteOptions::new(&nowhere)).await, Err(OpenError::Io { .. })));
}
