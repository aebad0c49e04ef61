//! Where the consensus of a cluster runs: a small runtime of its own, so that a busy application doesn't delay
//! heartbeats. A group of one needs none and runs where it was opened.

use std::future::Future;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::error::RaftError;

/// How long blocking work may take at the end.
const END: Duration = Duration::from_millis(500);

/// The runtime; it ends when this value is dropped.
pub struct Home {
    handle: Handle,
    /// Its own thread waits for this to go.
    _alive: Option<oneshot::Sender<()>>,
}

impl Home {
    /// The current runtime, or two threads of our own.
    pub fn new(own: bool) -> Result<Self, RaftError> {
        if !own {
            return Ok(Self { handle: Handle::current(), _alive: None });
        }
        let failed = |error: std::io::Error| RaftError::Storage(format!("the consensus' threads: {error}"));
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(4)
            .thread_name("raft")
            .enable_all()
            .build()
            .map_err(failed)?;
        let handle = runtime.handle().clone();
        let (alive, gone) = oneshot::channel::<()>();
        // A runtime must not be dropped in async code.
        let keep = move || {
            let _ = gone.blocking_recv();
            runtime.shutdown_timeout(END);
        };
        std::thread::Builder::new().name("raft-home".to_owned()).spawn(keep).map_err(failed)?;
        Ok(Self { handle, _alive: Some(alive) })
    }

    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    pub fn spawn<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.handle.spawn(task)
    }
}
