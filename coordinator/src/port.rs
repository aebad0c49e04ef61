//! The port.

use std::collections::HashSet;
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
    /// Permits of the key at a time; with 0 everything waits. The latest ask decides, from then on: a higher limit lets
    /// waiters go at once, permits held above a lower one stay until released.
    pub limit: u32,
    /// Names the wish: asking again with the same name never takes a second permit.
    pub request: String,
    /// Queue up if none is free. Who waits and then asks without wanting to wait gives up its place.
    pub wait: bool,
}

/// A permit that a request holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Grant {
    /// The lowest that is free in 0 .. limit; distinct among the permits of a key at any time.
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
    /// A waiting request got its permit (be it by its own asking again under a higher limit).
    Granted { key: String, request: String, grant: Grant },
    /// Some may have been missed (a reconnect, an overflow, lost memory): ask again for everything that waits.
    Lost,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CoordinatorError {
    /// It can't be reached or doesn't answer in time. Limited work waits (fails closed).
    #[error("the coordinator is unavailable: {0}")]
    Unavailable(String),
    /// A key or request name is empty or too long, or two holders have one slot or name.
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

    /// Makes these the holders of the key, whatever was known before, and drops other holders. Slots may lie above the
    /// limit. Waiters that aren't among the holders keep their places; those that fit now are granted. Who holds the
    /// same slot as before keeps its token; other tokens go on growing.
    async fn restore(&self, key: &str, limit: u32, holders: &[Holder]) -> Result<(), CoordinatorError>;

    /// Who holds the key, by slot.
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

/// Whether a key or request may be called so.
pub fn check_name(what: &str, name: &str) -> Result<(), CoordinatorError> {
    match name.len() {
        1..=MAX_NAME_BYTES => Ok(()),
        0 => Err(CoordinatorError::Misuse(format!("the {what} has no name"))),
        length => Err(CoordinatorError::Misuse(format!(
            "the name of the {what} has {length} bytes, more than the limit of {MAX_NAME_BYTES}"
        ))),
    }
}

/// The checks that come before every [`Coordinator::acquire`].
pub fn check_ask(ask: &Ask) -> Result<(), CoordinatorError> {
    check_name("key", &ask.key)?;
    check_name("request", &ask.request)
}

/// The checks that come before every [`Coordinator::restore`].
pub fn check_holders(key: &str, holders: &[Holder]) -> Result<(), CoordinatorError> {
    check_name("key", key)?;
    let (mut slots, mut requests) = (HashSet::new(), HashSet::new());
    for holder in holders {
        check_name("request", &holder.request)?;
        if !slots.insert(holder.slot) || !requests.insert(&holder.request) {
            return Err(CoordinatorError::Misuse(format!(
                "slot {} of a key or its holder is given twice",
                holder.slot
            )));
        }
    }
    Ok(())
}
