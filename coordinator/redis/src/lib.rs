//! The Redis adapter of the coordinator.
//!
//! [`RedisCoordinator`] keeps everything about a key in three Redis keys with one hash tag, and every operation is one
//! Lua script (`permits.lua`): atomic, hence linearizable. Grants to waiters are published on a channel that every
//! node listens to; a link that breaks, or a server that lost its memory, is told as
//! [`Heard::Lost`](coordinator::Heard::Lost).
//!
//! | key | holds |
//! |---|---|
//! | `PREFIX:{KEY}:known` | limit, last token, last ticket |
//! | `PREFIX:{KEY}:holders` | request → `slot:token` |
//! | `PREFIX:{KEY}:waiters` | requests, by ticket |
//! | `PREFIX:generation` | a random number, made by whoever finds none: another one means lost memory |

mod link;
mod names;
mod options;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use coordinator::port::{MAX_WAITERS, check_ask, check_holders, check_name};
use coordinator::{Answer, Ask, Coordinator, CoordinatorError, Grant, Grants, Holder};
use redis::{FromRedisValue, Script};
use tokio::task::AbortHandle;

use link::Link;
use names::Names;
pub use options::{RedisOptions, RedisTls};

/// The adapter. Its background task ends with it.
#[derive(Debug)]
pub struct RedisCoordinator {
    link: Arc<Link>,
    names: Names,
    script: Script,
    listener: AbortHandle,
}

impl Drop for RedisCoordinator {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl RedisCoordinator {
    /// Connects in the background, and waits for the first connection for a few seconds. If there is none by then,
    /// every call fails as unavailable until there is.
    ///
    /// # Errors
    /// [`CoordinatorError::Misuse`] if the options make no sense.
    pub async fn open(options: RedisOptions) -> Result<Self, CoordinatorError> {
        let names = Names::new(&options.prefix)?;
        let link = Arc::new(Link::new(&options, &names)?);
        let (listening, mut listens) = tokio::sync::watch::channel(false);
        let listener = tokio::spawn(link::listen(link.clone(), listening)).abort_handle();
        // Late is as good: `Lost` is told when it listens.
        let _ = tokio::time::timeout(options.timeout, listens.wait_for(|listens| *listens)).await;
        Ok(Self { link, names, script: Script::new(include_str!("permits.lua")), listener })
    }

    async fn run<T: FromRedisValue>(&self, operation: &str, key: &str, rest: &[&str]) -> Result<T, CoordinatorError> {
        let mut invocation = self.script.prepare_invoke();
        for part in ["known", "holders", "waiters"] {
            invocation.key(self.names.of(key, part));
        }
        invocation.arg(operation).arg(self.names.channel()).arg(key);
        for argument in rest {
            invocation.arg(*argument);
        }
        self.link.call(async |mut connection| invocation.invoke_async(&mut connection).await).await
    }
}

#[async_trait]
impl Coordinator for RedisCoordinator {
    async fn acquire(&self, ask: Ask) -> Result<Answer, CoordinatorError> {
        check_ask(&ask)?;
        let (limit, most) = (ask.limit.to_string(), MAX_WAITERS.to_string());
        let wait = if ask.wait { "1" } else { "0" };
        let answer: Vec<String> = self.run("ask", &ask.key, &[&limit, &ask.request, wait, &most]).await?;
        match answer.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["granted", grant] => Ok(Answer::Granted(parse(grant)?)),
            ["queued"] => Ok(Answer::Queued),
            ["busy"] => Ok(Answer::Busy),
            ["overfull"] => Err(CoordinatorError::TooManyWaiters),
            _ => Err(strange("answer")),
        }
    }

    async fn release(&self, key: &str, request: &str) -> Result<(), CoordinatorError> {
        check_name("key", key)?;
        check_name("request", request)?;
        self.run::<Vec<String>>("release", key, &[request]).await.map(drop)
    }

    async fn restore(&self, key: &str, limit: u32, holders: &[Holder]) -> Result<(), CoordinatorError> {
        check_holders(key, holders)?;
        let holders: Vec<(&str, u32)> = holders.iter().map(|holder| (holder.request.as_str(), holder.slot)).collect();
        let list = serde_json::to_string(&holders).map_err(|_| strange("list of holders"))?;
        self.run::<Vec<String>>("restore", key, &[&limit.to_string(), &list]).await.map(drop)
    }

    async fn holders(&self, key: &str) -> Result<Vec<(Holder, Grant)>, CoordinatorError> {
        check_name("key", key)?;
        let mut command = redis::cmd("HGETALL");
        command.arg(self.names.of(key, "holders"));
        let found: Vec<(String, String)> =
            self.link.call(async |mut connection| command.query_async(&mut connection).await).await?;
        let mut holders = Vec::with_capacity(found.len());
        for (request, grant) in found {
            let grant = parse(&grant)?;
            holders.push((Holder { request, slot: grant.slot }, grant));
        }
        holders.sort_unstable_by_key(|(holder, _)| holder.slot);
        Ok(holders)
    }

    async fn generation(&self) -> Result<u64, CoordinatorError> {
        self.link.generation().await
    }

    fn grants(&self) -> Box<dyn Grants> {
        self.link.feed.listen()
    }

    async fn check(&self) -> Result<(), CoordinatorError> {
        self.link.call(async |mut connection| redis::cmd("PING").query_async::<()>(&mut connection).await).await
    }
}

/// `slot:token`
fn parse(grant: &str) -> Result<Grant, CoordinatorError> {
    let parsed = grant.split_once(':').and_then(|(slot, token)| Some((slot.parse().ok()?, token.parse().ok()?)));
    parsed.map(|(slot, token)| Grant { slot, token }).ok_or_else(|| strange("permit"))
}

/// Somebody else writes to our keys.
fn strange(what: &str) -> CoordinatorError {
    CoordinatorError::Unavailable(format!("Redis holds a {what} that can't be read"))
}

/// What a duration is multiplied by, so that nodes don't all come at once.
fn jittered(duration: Duration) -> Duration {
    duration.mul_f64(rand::random_range(0.7..1.3))
}
