//! Removing the znodes of keys that nobody uses.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use zookeeper_client::{Client, Error};

use crate::jittered;
use crate::record::{KEYS, Record};
use crate::session::Session;

const INTERVAL: Duration = Duration::from_secs(600);
/// Unchanged for this long, by the clocks of server and node.
const IDLE: Duration = Duration::from_secs(3_600);
/// Looked at in one round.
const PER_ROUND: usize = 5_000;
/// Pause between two, so that they don't crowd out calls.
const PAUSE: Duration = Duration::from_millis(5);

pub(crate) async fn clean(session: Arc<Session>) {
    loop {
        tokio::time::sleep(jittered(INTERVAL)).await;
        if let Ok(client) = session.client()
            && let Err(error) = round(&client, IDLE).await
        {
            tracing::debug!(%error, "idle keys were not removed; trying again later");
        }
    }
}

async fn round(client: &Client, idle: Duration) -> Result<usize, Error> {
    let mut removed = 0;
    for name in client.list_children(KEYS).await?.into_iter().take(PER_ROUND) {
        tokio::time::sleep(PAUSE).await;
        let path = format!("{KEYS}/{name}");
        let (data, stat) = match client.get_data(&path).await {
            Ok(found) => found,
            Err(Error::NoNode) => continue,
            Err(error) => return Err(error),
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unchanged = now.saturating_sub(Duration::from_millis(stat.mtime.try_into().unwrap_or(0)));
        if unchanged < idle || !Record::read(&data).is_ok_and(|record| record.state.is_idle()) {
            continue;
        }
        match client.delete(&path, Some(stat.version)).await {
            Ok(()) => removed += 1,
            Err(Error::BadVersion | Error::NoNode) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(removed)
}
