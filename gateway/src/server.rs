//! The shell: listeners, connections, and a stop that lets requests finish.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::gateway::{Mount, Shared};
use crate::options::GatewayOptions;
use crate::stream::hub;

/// A request's head must have arrived by then.
const HEAD_DEADLINE: Duration = Duration::from_secs(30);
/// After a failed accept (no file descriptors left), connections are accepted again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The gateway of one node.
#[derive(Debug, Clone)]
pub struct Gateway(Arc<Shared>);

impl Gateway {
    pub fn build(options: GatewayOptions) -> Self {
        Self(Shared::new(options))
    }

    /// Serves until `cancel`, then lets requests under way finish (at most [`crate::Limits::drain`] long).
    pub async fn serve(&self, listeners: Vec<(TcpListener, Mount)>, cancel: CancellationToken) {
        let mut tasks = JoinSet::new();
        tasks.spawn(hub::run(self.0.clone(), cancel.clone()));
        let slots = Arc::new(Semaphore::new(self.0.limits.max_connections));
        for (listener, mount) in listeners {
            tasks.spawn(accept(self.0.clone(), listener, mount, slots.clone(), cancel.clone()));
        }
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended
                && error.is_panic()
            {
                tracing::error!(%error, "a gateway task panicked");
            }
        }
    }
}

/// Accepts on one port; owns the connections' tasks.
async fn accept(
    shared: Arc<Shared>,
    listener: TcpListener,
    mount: Mount,
    slots: Arc<Semaphore>,
    cancel: CancellationToken,
) {
    let mut connections = JoinSet::new();
    loop {
        let slot = tokio::select! {
            () = cancel.cancelled() => break,
            slot = slots.clone().acquire_owned() => slot,
        };
        // The semaphore is never closed.
        let Ok(slot) = slot else { break };
        let accepted = tokio::select! {
            () = cancel.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (shared, cancel) = (shared.clone(), cancel.clone());
                connections.spawn(async move {
                    serve_connection(shared, stream, peer, mount, cancel).await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        while let Some(ended) = connections.try_join_next() {
            log_panic(ended);
        }
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        log_panic(ended);
    }
}

fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "serving a connection panicked");
    }
}

async fn serve_connection(
    shared: Arc<Shared>,
    stream: TcpStream,
    peer: SocketAddr,
    mount: Mount,
    cancel: CancellationToken,
) {
    // Answers are written whole: waiting for more would only delay them. Failing to set it costs latency only.
    drop(stream.set_nodelay(true));
    let drain = shared.limits.drain;
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let shared = shared.clone();
        async move {
            let response = shared.answer(mount, Some(peer), request.map(Body::new)).await;
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_DEADLINE);
    builder.http2().timer(TokioTimer::new());
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = cancel.cancelled() => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(drain, connection).await {
                Ok(ended) => ended,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}
