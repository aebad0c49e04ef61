//! Keeping a session, and hearing of grants.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use coordinator::Heard;
use tokio::time::timeout;
use zookeeper_client::{AddWatchMode, Client, Error, EventType, PersistentWatcher};

use crate::jittered;
use crate::record::{Record, key};
use crate::session::Session;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Keys of which the last grant is remembered.
const MAX_SEEN: usize = 50_000;

/// Listens for ever, in one session after the other, with growing pauses between failures.
pub(crate) async fn listen(session: Arc<Session>) {
    let mut pause = FIRST_PAUSE;
    let mut generation = None;
    let mut again = false;
    loop {
        match timeout(session.timeout(), begin(&session)).await {
            Ok(Ok((client, watcher))) => {
                pause = FIRST_PAUSE;
                session.set(Some(client.clone()));
                // From here on nothing is missed; between two sessions, something may have been.
                if std::mem::replace(&mut again, true) {
                    session.feed.tell(Heard::Lost);
                }
                Listener { session: &session, client, seen: HashMap::new(), generation: &mut generation }
                    .run(watcher)
                    .await;
                session.set(None);
                tracing::warn!("the connection to ZooKeeper was lost; beginning another session");
            }
            Ok(Err(error)) => tracing::warn!(%error, "no session with ZooKeeper; trying again"),
            Err(_) => tracing::warn!("no session with ZooKeeper in time; trying again"),
        }
        tokio::time::sleep(jittered(pause)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn begin(session: &Session) -> Result<(Client, PersistentWatcher), Error> {
    let client = session.connect().await?;
    let watcher = client.watch("/", AddWatchMode::PersistentRecursive).await?;
    Ok((client, watcher))
}

struct Listener<'a> {
    session: &'a Session,
    client: Client,
    /// Key → number of the last grant that was told.
    seen: HashMap<String, u64>,
    generation: &'a mut Option<u64>,
}

impl Listener<'_> {
    /// Until the connection breaks or the session ends.
    async fn run(mut self, mut watcher: PersistentWatcher) {
        self.look_at_generation().await;
        loop {
            let event = watcher.changed().await;
            match event.event_type {
                // A watch misses what happens while its connection is broken, and is not always there afterwards. A
                // new session is as good as the old one: nothing hangs on it.
                EventType::Session => return,
                EventType::NodeDeleted => match key(&event.path) {
                    Some(key) => drop(self.seen.remove(&key)),
                    None => self.look_at_generation().await,
                },
                EventType::NodeCreated | EventType::NodeDataChanged | EventType::NodeChildrenChanged => {
                    if let Some(key) = key(&event.path) {
                        self.tell_grants(&event.path, key).await;
                    }
                }
            }
        }
    }

    async fn tell_grants(&mut self, path: &str, key: String) {
        let record = match timeout(self.session.timeout(), self.client.get_data(path)).await {
            Ok(Ok((data, _))) => Record::read(&data),
            Ok(Err(Error::NoNode)) => return,
            // The connection is bad: when it is good again, that some are lost is told.
            Ok(Err(_)) | Err(_) => return,
        };
        let record = match record {
            Ok(record) => record,
            Err(error) => return tracing::warn!(key, %error, "can't read who was granted a permit"),
        };
        // Of a key that was there before this began to listen, old grants may be told again: harmless.
        let (grants, gap) = record.grants_after(self.seen.get(&key).copied().unwrap_or(0));
        if gap && self.seen.contains_key(&key) {
            self.session.feed.tell(Heard::Lost);
        }
        if self.seen.len() >= MAX_SEEN {
            self.seen.clear();
        }
        self.seen.insert(key.clone(), record.last());
        for (request, grant) in grants {
            self.session.feed.tell(Heard::Granted { key: key.clone(), request, grant });
        }
    }

    /// Lost memory shows as another generation.
    async fn look_at_generation(&mut self) {
        let Ok(now) = self.session.in_time(self.session.generation()).await else { return };
        if self.generation.replace(now).is_some_and(|before| before != now) {
            tracing::warn!("ZooKeeper has lost its memory of permits");
            self.session.feed.tell(Heard::Lost);
        }
    }
}
