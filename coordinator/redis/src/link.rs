//! Connections: one for calls, one that listens.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use coordinator::{CoordinatorError, Feed, Grant, Heard};
use futures::StreamExt;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError, RedisResult};
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;

use crate::names::Names;
use crate::options::RedisOptions;
use crate::{jittered, parse};

/// How often the listening connection and the generation are looked at.
const BEAT: Duration = Duration::from_millis(500);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

pub(crate) struct Link {
    client: Client,
    names: Names,
    deadline: Duration,
    /// Made by the first call that finds none; dropped when a call fails.
    connection: Mutex<Option<(u64, MultiplexedConnection)>>,
    made: AtomicU64,
    pub(crate) feed: Feed,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("names", &self.names).finish_non_exhaustive()
    }
}

impl Link {
    pub(crate) fn new(options: &RedisOptions, names: &Names) -> Result<Self, CoordinatorError> {
        Ok(Self {
            client: options.client()?,
            names: names.clone(),
            deadline: options.timeout,
            connection: Mutex::new(None),
            made: AtomicU64::new(0),
            feed: Feed::default(),
        })
    }

    /// Makes a call before the deadline. A connection that fails one is given up: what it still carries is unknown.
    pub(crate) async fn call<T>(
        &self,
        call: impl AsyncFnOnce(MultiplexedConnection) -> RedisResult<T>,
    ) -> Result<T, CoordinatorError> {
        let mut used = 0;
        let attempt = async {
            let (number, connection) = self.connection().await?;
            used = number;
            call(connection).await
        };
        let failure = match timeout(self.deadline, attempt).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => describe(&error),
            Err(_) => "no answer in time".to_owned(),
        };
        let mut connection = self.connection.lock().await;
        if connection.as_ref().is_some_and(|(number, _)| *number == used) {
            *connection = None;
        }
        Err(CoordinatorError::Unavailable(format!("Redis: {failure}")))
    }

    async fn connection(&self) -> RedisResult<(u64, MultiplexedConnection)> {
        let mut connection = self.connection.lock().await;
        if let Some((number, connection)) = &*connection {
            return Ok((*number, connection.clone()));
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.deadline))
            .set_response_timeout(Some(self.deadline));
        let fresh = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        let number = self.made.fetch_add(1, Ordering::Relaxed) + 1;
        *connection = Some((number, fresh.clone()));
        Ok((number, fresh))
    }

    /// The marker, made if there is none.
    pub(crate) async fn generation(&self) -> Result<u64, CoordinatorError> {
        let name = self.names.generation();
        // Positive, and exact in every JSON number.
        let fresh: u64 = rand::random_range(1..1 << 53);
        let mut made = redis::cmd("SET");
        made.arg(&name).arg(fresh).arg("NX");
        let mut read = redis::cmd("GET");
        read.arg(&name);
        self.call(async |mut connection| {
            if let Some(found) = read.query_async::<Option<u64>>(&mut connection).await? {
                return Ok(found);
            }
            made.query_async::<()>(&mut connection).await?;
            read.query_async::<u64>(&mut connection).await
        })
        .await
    }

    /// Listens to grants until the connection fails; says why.
    async fn listen_once(&self, listening: &watch::Sender<bool>, known: &mut Option<u64>) -> String {
        let connected = timeout(self.deadline, async {
            let mut connection = self.client.get_async_pubsub().await?;
            connection.subscribe(self.names.channel()).await?;
            RedisResult::Ok(connection)
        });
        let (mut sink, mut grants) = match connected.await {
            Ok(Ok(connection)) => connection.split(),
            Ok(Err(error)) => return describe(&error),
            Err(_) => return "no answer in time".to_owned(),
        };
        // From here on nothing is missed; before, something may have been.
        if listening.send_replace(true) || known.is_some() {
            self.feed.tell(Heard::Lost);
        }
        let tell = async {
            while let Some(message) = grants.next().await {
                match grant(message.get_payload_bytes()) {
                    Some(heard) => self.feed.tell(heard),
                    None => tracing::warn!("a message on the channel of grants can't be read"),
                }
            }
            "the connection was closed".to_owned()
        };
        let watch = async {
            loop {
                tokio::time::sleep(jittered(BEAT)).await;
                match timeout(self.deadline, sink.ping::<redis::Value>()).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => return describe(&error),
                    Err(_) => return "no answer in time".to_owned(),
                }
                self.watch_generation(known).await;
            }
        };
        tokio::select! { reason = tell => reason, reason = watch => reason }
    }

    /// Lost memory shows as another generation, even if no connection broke.
    async fn watch_generation(&self, known: &mut Option<u64>) {
        let Ok(generation) = self.generation().await else { return };
        if known.replace(generation).is_some_and(|before| before != generation) {
            tracing::warn!("Redis has lost its memory of permits");
            self.feed.tell(Heard::Lost);
        }
    }
}

/// Listens for ever, connecting anew with growing pauses.
pub(crate) async fn listen(link: Arc<Link>, listening: watch::Sender<bool>) {
    let mut known = None;
    let mut pause = FIRST_PAUSE;
    loop {
        let since = tokio::time::Instant::now();
        let reason = link.listen_once(&listening, &mut known).await;
        if since.elapsed() > LONGEST_PAUSE {
            pause = FIRST_PAUSE;
        }
        tracing::warn!(reason, "not listening to Redis; connecting again");
        tokio::time::sleep(jittered(pause)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// `["key", "request", "slot:token"]`
fn grant(payload: &[u8]) -> Option<Heard> {
    let (key, request, grant): (String, String, String) = serde_json::from_slice(payload).ok()?;
    let grant: Grant = parse(&grant).ok()?;
    Some(Heard::Granted { key, request, grant })
}

/// The server's or the system's words; they don't hold the URL.
fn describe(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        (Some(code), None) => code.to_owned(),
        (None, _) => format!("{:?}", error.kind()),
    }
}
