//! Locks and permits for callers: wait in line, get a fencing token, give it back.

use std::time::{Duration, Instant};

use super::{Group, unexpected};
use crate::error::RaftError;
use crate::state::{Command, Refusal, Response};

/// A held permit. It ends with [`Group::release`] or with this node's session; writes made under it carry the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit {
    pub key: String,
    /// Grows with every permit ever given.
    pub token: u64,
    /// Which of the key's slots, from 0; always 0 for a lock.
    pub slot: u32,
}

impl Group {
    /// Takes one of `limit` permits of `key` (a lock: `limit` 1), waiting in line up to `wait`. `key` has 1 to 512
    /// bytes; hash what may hold parameters.
    ///
    /// # Errors
    /// [`RaftError::Refused`] with [`Refusal::Busy`] when the wait was in vain, [`RaftError::NoSession`] when this node
    /// has no session or lost it meanwhile.
    pub async fn acquire(&self, key: &str, limit: u32, wait: Duration) -> Result<Permit, RaftError> {
        let deadline = Instant::now() + wait;
        let session = self.inner.session.borrow().as_ref().map(|session| session.epoch).ok_or(RaftError::NoSession)?;
        let request = format!("{session:x}-{:016x}", rand::random::<u64>());
        let wish = Wish { group: self, key, request, armed: true };
        let command = Command::AcquirePermit {
            key: key.to_owned(),
            limit,
            request: wish.request.clone(),
            node: self.inner.identity.node_id,
            session,
            wait: !wait.is_zero(),
        };
        let mut changed = self.inner.changed.subscribe();
        match self.inner.propose(command).await {
            Ok(Response::Granted { token, slot }) => return Ok(wish.granted(token, slot)),
            Ok(Response::Queued { .. }) => {}
            Ok(other) => return Err(unexpected(&other)),
            Err(RaftError::Refused(refusal)) => {
                wish.forget();
                return Err(match refusal {
                    Refusal::SessionEnded => RaftError::NoSession,
                    other => other.into(),
                });
            }
            Err(error) => return Err(error),
        }
        loop {
            changed.borrow_and_update();
            let core = self.inner.live_core()?;
            let (live, granted) = core.reader.with(|applied| {
                let key = applied.state.permits.get(key);
                let live = applied.state.is_live(self.inner.identity.node_id, session);
                (live, key.and_then(|key| key.granted(&wish.request)))
            });
            drop(core);
            if let Some((slot, token)) = granted {
                return Ok(wish.granted(token, slot));
            }
            if !live {
                wish.forget();
                return Err(RaftError::NoSession);
            }
            if tokio::time::timeout_at(deadline.into(), changed.changed()).await.is_err() {
                let request = wish.forget();
                self.inner.propose(Command::CancelPermit { key: key.to_owned(), request }).await?;
                return Err(Refusal::Busy.into());
            }
        }
    }

    /// Gives a permit back; the next in line gets it.
    ///
    /// # Errors
    /// [`Refusal::PermitNotHeld`] when it ended before.
    pub async fn release(&self, permit: &Permit) -> Result<(), RaftError> {
        let command = Command::ReleasePermit { key: permit.key.clone(), token: permit.token };
        self.inner.propose(command).await.map(|_| ())
    }
}

/// A wish whose caller may go away (be cancelled) before it is granted: then it is taken back.
struct Wish<'a> {
    group: &'a Group,
    key: &'a str,
    request: String,
    armed: bool,
}

impl Wish<'_> {
    fn granted(mut self, token: u64, slot: u32) -> Permit {
        self.armed = false;
        Permit { key: self.key.to_owned(), token, slot }
    }

    fn forget(mut self) -> String {
        self.armed = false;
        std::mem::take(&mut self.request)
    }
}

impl Drop for Wish<'_> {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        let command = Command::CancelPermit { key: self.key.to_owned(), request: std::mem::take(&mut self.request) };
        let inner = self.group.inner.clone();
        // If even this fails, the wish ends with the session.
        let task = async move {
            if let Err(error) = inner.propose(command).await {
                tracing::debug!(%error, "a given-up wish for a permit stays until the session ends");
            }
        };
        let mut tasks = self.group.tasks.lock();
        tasks.retain(|task| !task.is_finished());
        tasks.push(tokio::spawn(task));
    }
}
