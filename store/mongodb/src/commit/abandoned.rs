//! Transactions that nobody goes on with.
//!
//! A node that dies or stands still between two statements leaves its transaction open: the server keeps its
//! documents locked for `transactionLifetimeLimitSeconds`, a minute. Whoever is held up ends it. The transaction's
//! owner, should it come back, finds it gone and begins anew with its revisions and fences checked again, so that
//! nothing is at stake when one that was merely slow is taken for dead.

use std::time::Duration;

use futures::TryStreamExt;
use mongodb::bson::{Bson, Document as Fields, doc};
use mongodb::options::ReadConcern;
use tokio::time::Instant;

use crate::options::APP_NAME;
use crate::store::Inner;

/// How long a commit is held up before its way is looked at, and between looks.
const PATIENCE: Duration = Duration::from_millis(200);
/// Nothing came from the owner for so long: between two statements of a live one pass milliseconds.
const IDLE: Duration = Duration::from_millis(800);
/// What a look may take.
const LOOK: Duration = Duration::from_secs(2);

/// When the last look began: one at a time for all commits.
pub(crate) type LastLook = tokio::sync::Mutex<Option<Instant>>;

/// Does `commit`, and clears its way while it takes long.
pub(super) async fn clearing<T>(inner: &Inner, commit: impl Future<Output = T>) -> T {
    let clear = async {
        loop {
            tokio::time::sleep(PATIENCE).await;
            look(inner).await;
        }
    };
    tokio::select! {
        done = commit => done,
        () = clear => unreachable!("it never ends"),
    }
}

async fn look(inner: &Inner) {
    let Ok(mut last) = inner.last_look.try_lock() else { return };
    if last.is_some_and(|last| last.elapsed() < PATIENCE) {
        return;
    }
    *last = Some(Instant::now());
    match tokio::time::timeout(LOOK, end_abandoned(inner)).await {
        Ok(Ok(0)) | Err(_) => {}
        Ok(Ok(ended)) => tracing::warn!(ended, "transactions of nodes that stand still were in the way"),
        Ok(Err(error)) => tracing::debug!(%error, "can't look for abandoned transactions"),
    }
}

/// Ends them; how many. Sees only those of the same database user: no privileges are needed for that.
async fn end_abandoned(inner: &Inner) -> mongodb::error::Result<usize> {
    let idle = i64::try_from(IDLE.as_micros()).unwrap_or(i64::MAX);
    let pipeline = [
        doc! {"$currentOp": {"idleSessions": true}},
        doc! {"$match": {
            "type": "idleSession",
            "appName": APP_NAME,
            "transaction.timeInactiveMicros": {"$gt": idle},
        }},
        doc! {"$project": {"lsid.id": 1}},
    ];
    let admin = inner.client.database("admin");
    let found: Vec<Fields> = admin.aggregate(pipeline).read_concern(ReadConcern::local()).await?.try_collect().await?;
    let sessions: Vec<Bson> = found
        .iter()
        .filter_map(|found| found.get_document("lsid").ok()?.get("id").cloned())
        .map(|id| doc! {"id": id}.into())
        .collect();
    if !sessions.is_empty() {
        admin.run_command(doc! {"killSessions": &sessions}).await?;
    }
    Ok(sessions.len())
}
