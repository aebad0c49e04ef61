//! What answers on a node's ports before the gateway can: health checks, and 503 for everything else.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::header::CONNECTION;
use http::{HeaderValue, Method, Request, Response};
use tokio_util::sync::CancellationToken;

use crate::gateway::Mount;
use crate::health;
use crate::http::{ApiError, Reply};
use crate::options::Readiness;
use crate::server::{self, Answers};
use crate::socket::Socket;
use crate::tls::Tls;

/// Serves while what the node depends on isn't there yet.
#[derive(Debug, Clone)]
pub struct Starting {
    readiness: Arc<dyn Readiness>,
    tls: Option<Arc<Tls>>,
}

impl Starting {
    pub fn new(readiness: Arc<dyn Readiness>, tls: Option<Arc<Tls>>) -> Self {
        Self { readiness, tls }
    }

    /// Serves until `cancel`; gives the ports back, still open: nobody is turned away in between.
    pub async fn serve(self, listeners: Vec<(Socket, Mount)>, cancel: CancellationToken) -> Vec<(Socket, Mount)> {
        server::serve(&Arc::new(self), listeners, 1024, &cancel).await
    }
}

impl Answers for Starting {
    const KEEPS_PORTS: bool = true;

    async fn answer(self: Arc<Self>, _: Mount, _: Option<SocketAddr>, request: Request<Body>) -> Response<Body> {
        let path = request.uri().path();
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        let outcome = if is_read && health::is_live(path) {
            Ok(Reply::text("ok\n"))
        } else if is_read && health::is_ready(path) {
            health::ready(self.readiness.as_ref(), request.headers()).await
        } else {
            Err(ApiError::unavailable("The node is starting, try again."))
        };
        let mut response = outcome.unwrap_or_else(|error| Reply::from(&error)).into_response();
        if request.version() < http::Version::HTTP_2 {
            // The gateway that comes later takes new connections only.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    fn drain(&self) -> Duration {
        Duration::from_secs(2)
    }

    fn tls(&self) -> Option<Arc<Tls>> {
        self.tls.clone()
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::options::Dependency;

    #[derive(Debug)]
    struct Waits;

    #[async_trait]
    impl Readiness for Waits {
        async fn check(&self) -> Vec<Dependency> {
            vec![Dependency { name: "store".to_owned(), ready: false, detail: "no server".to_owned() }]
        }
    }

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text.to_ascii_lowercase()
    }

    #[tokio::test]
    async fn health_is_answered_and_everything_else_is_asked_to_come_back() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cancel = CancellationToken::new();
        let serving = tokio::spawn(
            Starting::new(Arc::new(Waits), None).serve(vec![(listener.into(), Mount::Combined)], cancel.clone()),
        );
        assert!(get(address, "/healthz/live").await.starts_with("http/1.1 200"));
        let ready = get(address, "/healthz/ready").await;
        assert!(ready.starts_with("http/1.1 503") && ready.contains("fail store: no server"), "{ready}");
        let api = get(address, "/api/v1/actions").await;
        assert!(api.starts_with("http/1.1 503") && api.contains("retry-after: 2"), "{api}");
        assert!(api.contains("connection: close") && api.contains("faultstring"), "{api}");
        cancel.cancel();
        let listeners = serving.await.unwrap();
        let Some((Socket::Tcp(kept), _)) = listeners.first() else { panic!("the port is given back") };
        assert_eq!(kept.local_addr().unwrap(), address);
        // Still open: a connection waits for whoever accepts next.
        assert!(TcpStream::connect(address).await.is_ok());
    }
}
