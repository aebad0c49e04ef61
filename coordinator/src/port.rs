//! The port.

use std::fmt::Debug;

use async_trait::async_trait;

/// Longest key and longest request name, bytes. Callers hash what may be longer.
pub const MAX_NAME_BYTES: usize = 512;
/// Most requests that may wait for one key.
pub const MAX_WAITERS: usize = 100_000;

/// A wish for a permit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    pub key: String,
    /// Permits of the key at a time. The latest ask decides, from then on; permits held above it stay until released.
    pub limit: u32,
    /// Names the wish: asking again with the same name never takes a second permit.
    pub request: String,
    /// Queue up if none is free.
    pub wait: bool,
}

/// A permit that a request holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Grant {
    /// 0 .. limit; distinct among the permits of a key at any time.
    pub slot: u32,
    /// Grows with every grant of the key, over the coordinator's life: of two writers, the one with the higher token
    /// was granted later.
    pub token: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Granted(Grant),
    /// It waits; the grant will be heard from [`Coordinator::grants`].
    Queued,
    /// None is free and the ask didn't want to wait.
    Busy,
}

/// A permit as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub request: String,
    pub slot: u32,
}

/// What [`Grants`] yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// A waiting request got its permit.
    Granted { key: String, request: String, grant: Grant },
    /// Some may have been missed (a reconnect, an overflow, lost memory): ask again for everything that waits.
    Lost,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CoordinatorError {
    /// It can't be reached or doesn't answer in time. Limited work waits (fails closed).
    #[error("the coordinator is unavailable: {0}")]
    Unavailable(String),
    /// A key or request name is empty or too long, or the limit is 0.
    #[error("{0}")]
    Misuse(String),
    /// Too many wait for this key.
    #[error("too many wait for this permit")]
    TooManyWaiters,
    #[error("the coordinator is closed")]
    Closed,
}

impl CoordinatorError {
    /// The same call may succeed later.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::TooManyWaiters)
    }
}

/// Gives out permits.
///
/// Guarantees while it keeps its memory: linearizable; at most `limit` permits of a key that were granted under that
/// limit; waiters are served in order of asking, each as soon as a permit is free; a grant's token is higher than
/// every earlier one of its key.
#[async_trait]
pub trait Coordinator: Send + Sync + Debug {
    /// Asks for a permit. Idempotent by request: a holder gets its grant again, a waiter keeps its place.
    async fn acquire(&self, ask: Ask) -> Result<Answer, CoordinatorError>;

    /// Gives up a permit or a wish. One that isn't known is no error. The next waiters get what became free.
    async fn release(&self, key: &str, request: &str) -> Result<(), CoordinatorError>;

    /// Makes these the holders of the key, whatever was known before, and drops other holders. Waiters keep their
    /// places; those that fit now are granted. Tokens go on growing.
    async fn restore(&self, key: &str, limit: u32, holders: &[Holder]) -> Result<(), CoordinatorError>;

    /// Who holds the key.
    async fn holders(&self, key: &str) -> Result<Vec<(Holder, Grant)>, CoordinatorError>;

    /// Changes when the coordinator has lost its memory.
    async fn generation(&self) -> Result<u64, CoordinatorError>;

    /// Grants to requests that waited, whoever asked for them, from now on.
    fn grants(&self) -> Box<dyn Grants>;

    /// Whether it works, for readiness.
    async fn check(&self) -> Result<(), CoordinatorError>;
}

#[async_trait]
pub trait Grants: Send + Debug {
    /// The next one; `None` once the coordinator is closed. Cancel safe.
    async fn next(&mut self) -> Option<Heard>;
}
