//! The shell: listeners, connections, and a stop that lets requests finish.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::header::{HOST, HeaderValue, LOCATION, STRICT_TRANSPORT_SECURITY};
use http::{Request, Response, StatusCode};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::gateway::{Mount, Shared};
use crate::options::GatewayOptions;
use crate::socket::{Accepted, Socket};
use crate::stream::hub;
use crate::tls::Tls;

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
    pub async fn serve(&self, listeners: Vec<(Socket, Mount)>, cancel: CancellationToken) {
        let shared = &self.0;
        let limit = shared.limits.max_connections;
        tokio::join!(hub::run(shared.clone(), cancel.clone()), serve(shared, listeners, limit, &cancel));
    }

    /// Serves the API on a socket of this machine until `cancel`, beside [`Gateway::serve`].
    pub async fn serve_local(&self, listener: UnixListener, cancel: CancellationToken) {
        let limit = self.0.limits.max_connections;
        serve(&self.0, vec![(Socket::from(listener), Mount::Api)], limit, &cancel).await;
    }
}

/// What answers requests.
pub(crate) trait Answers: Send + Sync + 'static {
    /// Answers one request; never fails.
    fn answer(
        self: Arc<Self>,
        mount: Mount,
        peer: Option<SocketAddr>,
        request: Request<Body>,
    ) -> impl Future<Output = Response<Body>> + Send;

    /// How long requests under way may take when the serving ends.
    fn drain(&self) -> Duration;

    /// For ports with TLS.
    fn tls(&self) -> Option<Arc<Tls>>;

    /// Whether somebody else will accept on the ports when the serving has ended. If not, they are closed at once:
    /// a client that is turned away finds another node sooner.
    const KEEPS_PORTS: bool;
}

impl Answers for Shared {
    const KEEPS_PORTS: bool = false;

    fn answer(
        self: Arc<Self>,
        mount: Mount,
        peer: Option<SocketAddr>,
        request: Request<Body>,
    ) -> impl Future<Output = Response<Body>> + Send {
        Self::answer(self, mount, peer, request)
    }

    fn drain(&self) -> Duration {
        self.limits.drain
    }

    fn tls(&self) -> Option<Arc<Tls>> {
        self.tls.clone()
    }
}

/// Accepts on all ports until `cancel` and lets requests under way finish; gives back the ports that it kept.
pub(crate) async fn serve<A: Answers>(
    answers: &Arc<A>,
    listeners: Vec<(Socket, Mount)>,
    max_connections: usize,
    cancel: &CancellationToken,
) -> Vec<(Socket, Mount)> {
    let mut tasks = JoinSet::new();
    let slots = Arc::new(Semaphore::new(max_connections));
    for (listener, mount) in listeners {
        tasks.spawn(accept(answers.clone(), listener, mount, slots.clone(), cancel.clone()));
    }
    let mut listeners = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        match ended {
            Ok(port) => listeners.extend(port),
            Err(error) if error.is_panic() => tracing::error!(%error, "a gateway task panicked"),
            Err(_) => {}
        }
    }
    listeners
}

/// Accepts on one port; owns the connections' tasks.
async fn accept<A: Answers>(
    shared: Arc<A>,
    listener: Socket,
    mount: Mount,
    slots: Arc<Semaphore>,
    cancel: CancellationToken,
) -> Option<(Socket, Mount)> {
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
            Ok(accepted) => {
                let (shared, cancel) = (shared.clone(), cancel.clone());
                connections.spawn(async move {
                    serve_connection(shared, accepted, mount, cancel).await;
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
    let port = A::KEEPS_PORTS.then_some((listener, mount));
    while let Some(ended) = connections.join_next().await {
        log_panic(ended);
    }
    port
}

fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "serving a connection panicked");
    }
}

async fn serve_connection<A: Answers>(shared: Arc<A>, accepted: Accepted, mount: Mount, cancel: CancellationToken) {
    let (stream, peer) = match accepted {
        Accepted::Tcp(stream, peer) => (stream, Some(peer)),
        Accepted::Local(stream) => return serve_stream(shared, stream, None, mount, cancel).await,
    };
    // Answers are written whole: waiting for more would only delay them. Failing to set it costs latency only.
    drop(stream.set_nodelay(true));
    if mount != Mount::Tls {
        return serve_stream(shared, stream, peer, mount, cancel).await;
    }
    let Some(tls) = shared.tls() else { return };
    let shaken = tokio::select! {
        () = cancel.cancelled() => return,
        shaken = tls.accept(stream) => shaken,
    };
    match shaken {
        Ok(stream) => serve_stream(shared, stream, peer, mount, cancel).await,
        Err(error) => tracing::debug!(%error, "no TLS handshake"),
    }
}

/// Half a year: browsers that were here once don't try without TLS.
const HSTS: HeaderValue = HeaderValue::from_static("max-age=15768000");

/// 308 to the same place over TLS.
fn redirect<B>(request: &Request<B>, port: u16) -> Response<Body> {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let host = request.uri().host().unwrap_or_else(|| match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    });
    let place = request.uri().path_and_query().map_or("/", |place| place.as_str());
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::BAD_REQUEST;
    if !host.is_empty()
        && let Ok(location) = HeaderValue::from_str(&format!("https://{host}{port}{place}"))
    {
        *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

async fn serve_stream<A: Answers, S>(
    shared: Arc<A>,
    stream: S,
    peer: Option<SocketAddr>,
    mount: Mount,
    cancel: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let drain = shared.drain();
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let shared = shared.clone();
        async move {
            if let Mount::Redirect(port) = mount {
                return Ok(redirect(&request, port));
            }
            let mut response = shared.answer(mount, peer, request.map(Body::new)).await;
            if mount == Mount::Tls {
                response.headers_mut().insert(STRICT_TRANSPORT_SECURITY, HSTS);
            }
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
