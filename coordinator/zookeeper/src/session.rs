//! The session, which comes and goes.

use std::time::Duration;

use coordinator::{CoordinatorError, Feed};
use tokio::sync::watch;
use zookeeper_client::{Acls, Client, CreateMode, CreateOptions, Error};

use crate::options::ZooKeeperOptions;
use crate::record::KEYS;

const GENERATION: &str = "/generation";

/// What all calls and tasks of an adapter share.
#[derive(Debug)]
pub(crate) struct Session {
    options: ZooKeeperOptions,
    /// The client of the current session, rooted; none while there is no session.
    client: watch::Sender<Option<Client>>,
    pub(crate) feed: Feed,
}

impl Session {
    pub(crate) fn new(options: ZooKeeperOptions) -> Self {
        Self { options, client: watch::Sender::new(None), feed: Feed::default() }
    }

    pub(crate) fn client(&self) -> Result<Client, CoordinatorError> {
        let client = self.client.borrow().clone();
        client.ok_or_else(|| CoordinatorError::Unavailable("no session with ZooKeeper".to_owned()))
    }

    pub(crate) fn set(&self, client: Option<Client>) {
        self.client.send_replace(client);
    }

    /// Waits for a session.
    pub(crate) async fn connected(&self) {
        let mut client = self.client.subscribe();
        // It can't be closed: this holds the sender.
        let _ = client.wait_for(Option::is_some).await;
    }

    /// Ends `work` in time.
    pub(crate) async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, CoordinatorError>>,
    ) -> Result<T, CoordinatorError> {
        match tokio::time::timeout(self.options.timeout, work).await {
            Ok(outcome) => outcome,
            Err(_) => Err(CoordinatorError::Unavailable("ZooKeeper: no answer in time".to_owned())),
        }
    }

    /// A new session; makes the root if need be.
    pub(crate) async fn connect(&self) -> Result<Client, Error> {
        let ZooKeeperOptions { servers, root, credentials, session_timeout, .. } = &self.options;
        let mut connector = Client::connector().with_session_timeout(*session_timeout).with_fail_eagerly();
        if let Some((user, password)) = credentials {
            connector = connector.with_auth("digest", format!("{user}:{password}").as_bytes());
        }
        let client = connector.connect(servers).await?;
        client.mkdir(&format!("{root}{KEYS}"), &self.create_options()).await?;
        client.chroot(root.as_str()).map_err(|_| Error::BadArguments(&"root"))
    }

    fn create_options(&self) -> CreateOptions<'static> {
        let acls = if self.options.credentials.is_some() { Acls::creator_all() } else { Acls::anyone_all() };
        CreateMode::Persistent.with_acls(acls)
    }

    /// Makes a znode, and the ones above it, unless it is there.
    pub(crate) async fn make(&self, client: &Client, path: &str, data: &[u8]) -> Result<(), CoordinatorError> {
        for _ in 0..3 {
            match client.create(path, data, &self.create_options()).await {
                Ok(_) | Err(Error::NodeExists) => return Ok(()),
                Err(Error::NoNode) => {
                    // All was wiped, the root too; it can only be made by a client that isn't rooted there.
                    let fresh = self.connect().await.map_err(unavailable)?;
                    drop(fresh);
                }
                Err(error) => return Err(unavailable(error)),
            }
        }
        Err(CoordinatorError::Unavailable("ZooKeeper: the root can't be made".to_owned()))
    }

    /// The marker, made if there is none.
    pub(crate) async fn generation(&self) -> Result<u64, CoordinatorError> {
        let client = self.client()?;
        loop {
            client.sync(GENERATION).await.map_err(unavailable)?;
            match client.get_data(GENERATION).await {
                Ok((data, _)) => {
                    let text = String::from_utf8_lossy(&data);
                    let strange = |_| CoordinatorError::Unavailable("ZooKeeper holds a strange generation".to_owned());
                    return text.parse().map_err(strange);
                }
                Err(Error::NoNode) => {
                    // Exact in every JSON number.
                    let fresh: u64 = rand::random_range(1..1 << 53);
                    self.make(&client, GENERATION, fresh.to_string().as_bytes()).await?;
                }
                Err(error) => return Err(unavailable(error)),
            }
        }
    }

    pub(crate) const fn timeout(&self) -> Duration {
        self.options.timeout
    }
}

pub(crate) fn unavailable(error: Error) -> CoordinatorError {
    CoordinatorError::Unavailable(format!("ZooKeeper: {error}"))
}
