//! The ZooKeeper adapter of the coordinator.
//!
//! [`ZooKeeperCoordinator`] keeps each key in one persistent znode: its [`KeyState`] as JSON and the latest grants to
//! waiters. Every operation reads it, decides, and writes it back on the condition that its version is still the same
//! (again if it isn't), hence all are linearizable; nothing hangs on a session. Every node has one recursive watch over
//! all of it, reads what changed and tells the grants that it hasn't told.
//!
//! | znode | holds |
//! |---|---|
//! | `ROOT/keys/KEY` | [`Record`](record::Record) |
//! | `ROOT/generation` | a random number, made by whoever finds none: another one means lost memory |
//!
//! Tokens begin at the zxid of the znode's last change, so they grow over its removal, too (idle ones are removed after
//! an hour).

mod janitor;
mod listen;
mod options;
mod record;
mod session;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use coordinator::port::{check_ask, check_holders, check_name};
use coordinator::state::Woken;
use coordinator::{Answer, Ask, Coordinator, CoordinatorError, Grant, Grants, Holder, KeyState};
use tokio::sync::Mutex;
use tokio::task::AbortHandle;

pub use options::ZooKeeperOptions;
use record::Record;
use session::Session;
use zookeeper_client::Error;

/// This node's changes of a key come one after the other: they would only be in each other's way.
const TURNS: usize = 64;

/// The adapter. Its background tasks end with it.
#[derive(Debug)]
pub struct ZooKeeperCoordinator {
    session: Arc<Session>,
    turns: Vec<Mutex<()>>,
    tasks: [AbortHandle; 2],
}

impl Drop for ZooKeeperCoordinator {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl ZooKeeperCoordinator {
    /// Connects in the background, and waits for the first session for a few seconds. If there is none by then, every
    /// call fails as unavailable until there is.
    ///
    /// # Errors
    /// [`CoordinatorError::Misuse`] if the options make no sense.
    pub async fn open(options: ZooKeeperOptions) -> Result<Self, CoordinatorError> {
        options.check()?;
        let timeout = options.timeout;
        let session = Arc::new(Session::new(options));
        let tasks = [
            tokio::spawn(listen::listen(session.clone())).abort_handle(),
            tokio::spawn(janitor::clean(session.clone())).abort_handle(),
        ];
        // Late is as good: `Lost` is told when it listens.
        let _ = tokio::time::timeout(timeout, session.connected()).await;
        Ok(Self { session, turns: (0..TURNS).map(|_| Mutex::new(())).collect(), tasks })
    }

    /// Reads a key, changes it by `act`, and writes it back; again if another was faster. With `make`, a key that
    /// isn't there is made.
    async fn change<T: Default>(
        &self,
        key: &str,
        make: bool,
        act: impl Fn(&mut KeyState, &mut u64) -> Result<(T, Vec<Woken>), CoordinatorError>,
    ) -> Result<T, CoordinatorError> {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let turn = &self.turns[(hasher.finish() % TURNS as u64) as usize];
        let path = record::path(key);
        let work = async {
            let _turn = turn.lock().await;
            let client = self.session.client()?;
            let mut synced = false;
            loop {
                let (data, stat) = match client.get_data(&path).await {
                    Ok(found) => found,
                    Err(Error::NoNode) if make => {
                        self.session.make(&client, &path, b"").await?;
                        continue;
                    }
                    Err(Error::NoNode) if synced => return Ok(T::default()),
                    Err(Error::NoNode) => {
                        client.sync(&path).await.map_err(session::unavailable)?;
                        synced = true;
                        continue;
                    }
                    Err(error) => return Err(session::unavailable(error)),
                };
                let mut record = Record::read(&data)?;
                let before = record.state.clone();
                let mut token = record.last_token(&stat);
                let (answer, woken) = act(&mut record.state, &mut token)?;
                if record.state == before {
                    // Nothing to write, but what was read may be old.
                    if synced {
                        return Ok(answer);
                    }
                    client.sync(&path).await.map_err(session::unavailable)?;
                    synced = true;
                    continue;
                }
                record.note(token, woken);
                match client.set_data(&path, &record.write()?, Some(stat.version)).await {
                    Ok(_) => return Ok(answer),
                    Err(Error::BadVersion | Error::NoNode) => {}
                    Err(error) => return Err(session::unavailable(error)),
                }
            }
        };
        self.session.in_time(work).await
    }
}

#[async_trait]
impl Coordinator for ZooKeeperCoordinator {
    async fn acquire(&self, ask: Ask) -> Result<Answer, CoordinatorError> {
        check_ask(&ask)?;
        let answer = self.change(&ask.key, true, |state, token| {
            let asked = state.ask(ask.limit, &ask.request, ask.wait, token);
            let (answer, woken) = asked.map_err(|_| CoordinatorError::TooManyWaiters)?;
            Ok((Some(answer), woken))
        });
        Ok(answer.await?.unwrap_or(Answer::Busy))
    }

    async fn release(&self, key: &str, request: &str) -> Result<(), CoordinatorError> {
        check_name("key", key)?;
        check_name("request", request)?;
        self.change(key, false, |state, token| Ok(((), state.release(request, token)))).await
    }

    async fn restore(&self, key: &str, limit: u32, holders: &[Holder]) -> Result<(), CoordinatorError> {
        check_holders(key, holders)?;
        self.change(key, true, |state, token| Ok(((), state.restore(limit, holders, token)))).await
    }

    async fn holders(&self, key: &str) -> Result<Vec<(Holder, Grant)>, CoordinatorError> {
        check_name("key", key)?;
        let path = record::path(key);
        let read = async {
            let client = self.session.client()?;
            client.sync(&path).await.map_err(session::unavailable)?;
            match client.get_data(&path).await {
                Ok((data, _)) => Ok(Record::read(&data)?.state.holders()),
                Err(Error::NoNode) => Ok(Vec::new()),
                Err(error) => Err(session::unavailable(error)),
            }
        };
        self.session.in_time(read).await
    }

    async fn generation(&self) -> Result<u64, CoordinatorError> {
        self.session.in_time(self.session.generation()).await
    }

    fn grants(&self) -> Box<dyn Grants> {
        self.session.feed.listen()
    }

    async fn check(&self) -> Result<(), CoordinatorError> {
        let ask = async {
            let client = self.session.client()?;
            client.check_stat("/").await.map(drop).map_err(session::unavailable)
        };
        self.session.in_time(ask).await
    }
}

/// What a duration is multiplied by, so that nodes don't all come at once.
fn jittered(duration: Duration) -> Duration {
    duration.mul_f64(rand::random_range(0.7..1.3))
}
