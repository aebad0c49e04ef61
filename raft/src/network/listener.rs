//! Accepts connections of other nodes: TCP without delay, TLS with a deadline, who is there from the certificate, then
//! their calls until the connection or this node ends.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::MAX_MESSAGE;
use super::proto::node_server::NodeServer;
use super::service::NodeService;
use super::tls::{LOOK, Tls, speaks_for};
use crate::error::RaftError;
use crate::group::Inner;

/// A handshake that takes longer is cut off.
const HANDSHAKE: Duration = Duration::from_secs(3);
/// Connections at a time; further ones wait in the kernel's queue.
const CONNECTIONS: usize = 512;
/// Calls at a time on one connection.
const CALLS: u32 = 256;
/// A silent connection is probed so often, and given up after as long without an answer.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// Pause after a failed `accept` (no file descriptors, for example).
const BREATH: Duration = Duration::from_millis(100);

/// Whose connection a request came over.
#[derive(Debug, Clone)]
pub struct Who {
    /// The node that the certificate names; none without a certificate (then only enrolling is allowed).
    pub name: Option<Arc<str>>,
}

/// A bound listener.
pub struct Server {
    listener: TcpListener,
    tls: Arc<Tls>,
}

impl Server {
    pub async fn bind(listen: SocketAddr, tls: Arc<Tls>) -> Result<Self, RaftError> {
        let listener = TcpListener::bind(listen).await;
        let listener = listener.map_err(|error| RaftError::Listen(format!("{listen}: {error}")))?;
        Ok(Self { listener, tls })
    }

    /// Serves until cancelled; open calls are cut off then.
    pub async fn run(self, inner: Arc<Inner>, cancel: CancellationToken) {
        let service = NodeServer::new(NodeService(inner));
        let service = service.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE);
        tokio::select! {
            () = cancel.cancelled() => {}
            () = accept(self.listener, &self.tls, service) => {}
            () = follow_files(&self.tls) => {}
        }
    }
}

async fn follow_files(tls: &Arc<Tls>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let tls = tls.clone();
        // A panic there would be told by the runtime; the next look comes anyway.
        let _ = tokio::task::spawn_blocking(move || tls.refresh()).await;
    }
}

/// Never ends. Connections end with it.
async fn accept(listener: TcpListener, tls: &Arc<Tls>, service: NodeServer<NodeService>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = async {
            // Never closed, so never an error.
            let slot = slots.clone().acquire_owned().await.ok();
            (listener.accept().await, slot)
        };
        let (accepted, slot) = tokio::select! {
            Some(_) = connections.join_next() => continue,
            accepted = accepted => accepted,
        };
        let (stream, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection of another node can't be accepted");
                tokio::time::sleep(BREATH).await;
                continue;
            }
        };
        let (tls, service) = (tls.clone(), service.clone());
        connections.spawn(async move {
            let _slot = slot;
            match tokio::time::timeout(HANDSHAKE, shake(stream, &tls)).await {
                Ok(Ok((stream, who))) => serve(stream, who, service).await,
                Ok(Err(error)) => tracing::debug!(%remote, %error, "a connection was refused"),
                Err(_) => tracing::debug!(%remote, "a connection was cut off: no handshake in time"),
            }
        });
    }
}

async fn shake(stream: TcpStream, tls: &Tls) -> io::Result<(TlsStream<TcpStream>, Who)> {
    // Without this every answer waits for the kernel's batching: 40 ms and more.
    stream.set_nodelay(true)?;
    let stream = TlsAcceptor::from(tls.server()).accept(stream).await?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let name = match certificate {
        Some(certificate) => {
            let name = speaks_for(certificate);
            Some(name.ok_or_else(|| io::Error::other("the certificate names no node"))?.into())
        }
        None => None,
    };
    Ok((stream, Who { name }))
}

async fn serve(stream: TlsStream<TcpStream>, who: Who, service: NodeServer<NodeService>) {
    let calls = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(who.clone());
        let mut service = service.clone();
        async move { service.call(request).await }
    });
    let mut builder = Builder::new(TokioExecutor::new()).http2_only();
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(CALLS)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE);
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), calls).await {
        tracing::debug!(%error, "a connection of another node ended");
    }
}
