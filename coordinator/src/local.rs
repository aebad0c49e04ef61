//! The in-process adapter: a model of what a coordinator does, for tests and for a node that is alone.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::feed::Feed;
use crate::port::{
    Answer, Ask, Coordinator, CoordinatorError, Grants, Heard, Holder, check_ask, check_holders, check_name,
};
use crate::state::{KeyState, Woken};

/// Everything under one lock: linearizable. Clones share it, as nodes share a server.
#[derive(Debug, Clone, Default)]
pub struct LocalCoordinator {
    memory: Arc<Mutex<Memory>>,
    feed: Feed,
}

#[derive(Debug, Default)]
struct Memory {
    keys: HashMap<String, KeyState>,
    token: u64,
    generation: u64,
    unavailable: bool,
}

impl LocalCoordinator {
    pub fn new() -> Self {
        Self::default()
    }

    /// Loses all memory, as a server does that is wiped: the generation changes, tokens begin anew.
    pub fn forget(&self) {
        {
            let mut memory = self.memory.lock();
            memory.keys.clear();
            memory.token = 0;
            memory.generation += 1;
        }
        self.feed.tell(Heard::Lost);
    }

    /// While it is unavailable every call fails so.
    pub fn set_available(&self, available: bool) {
        let was = std::mem::replace(&mut self.memory.lock().unavailable, !available);
        if was && available {
            self.feed.tell(Heard::Lost);
        }
    }

    fn with<T>(
        &self,
        key: &str,
        act: impl FnOnce(&mut KeyState, &mut u64) -> Result<(T, Vec<Woken>), CoordinatorError>,
    ) -> Result<T, CoordinatorError> {
        let mut memory = self.memory.lock();
        memory.check()?;
        let Memory { keys, token, .. } = &mut *memory;
        let state = keys.entry(key.to_owned()).or_default();
        let outcome = act(state, token);
        if state.is_idle() {
            keys.remove(key);
        }
        let (answer, woken) = outcome?;
        // Under the lock: listeners hear grants in their order.
        for (request, grant) in woken {
            self.feed.tell(Heard::Granted { key: key.to_owned(), request, grant });
        }
        Ok(answer)
    }
}

impl Memory {
    fn check(&self) -> Result<(), CoordinatorError> {
        match self.unavailable {
            true => Err(CoordinatorError::Unavailable("switched off".to_owned())),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Coordinator for LocalCoordinator {
    async fn acquire(&self, ask: Ask) -> Result<Answer, CoordinatorError> {
        check_ask(&ask)?;
        self.with(&ask.key, |state, token| {
            state.ask(ask.limit, &ask.request, ask.wait, token).map_err(|_| CoordinatorError::TooManyWaiters)
        })
    }

    async fn release(&self, key: &str, request: &str) -> Result<(), CoordinatorError> {
        check_name("key", key)?;
        check_name("request", request)?;
        self.with(key, |state, token| Ok(((), state.release(request, token))))
    }

    async fn restore(&self, key: &str, limit: u32, holders: &[Holder]) -> Result<(), CoordinatorError> {
        check_holders(key, holders)?;
        self.with(key, |state, token| Ok(((), state.restore(limit, holders, token))))
    }

    async fn holders(&self, key: &str) -> Result<Vec<(Holder, crate::port::Grant)>, CoordinatorError> {
        check_name("key", key)?;
        self.with(key, |state, _| Ok((state.holders(), Vec::new())))
    }

    async fn generation(&self) -> Result<u64, CoordinatorError> {
        let memory = self.memory.lock();
        memory.check()?;
        Ok(memory.generation)
    }

    fn grants(&self) -> Box<dyn Grants> {
        self.feed.listen()
    }

    async fn check(&self) -> Result<(), CoordinatorError> {
        self.memory.lock().check()
    }
}
