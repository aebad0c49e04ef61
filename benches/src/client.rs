//! One keep-alive HTTP/1.1 connection: as little work for the client as possible, for it shares the machine.

use anyhow::{Context, Result, bail};
use base64::Engine;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// A connection with a token.
#[derive(Debug)]
pub struct Client {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
    authority: String,
    pub token: String,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Client {
    pub async fn connect(authority: &str, token: &str) -> Result<Self> {
        let stream = TcpStream::connect(authority).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(async move {
            // A broken connection shows in the next request.
            let _ = connection.await;
        });
        Ok(Self { sender, driver, authority: authority.to_owned(), token: token.to_owned() })
    }

    /// Logs in as the administrator.
    pub async fn login(authority: &str, password: &str) -> Result<Self> {
        let mut client = Self::connect(authority, "").await?;
        let credentials = base64::engine::general_purpose::STANDARD.encode(format!("st2admin:{password}"));
        let request = Request::post("/auth/v1/tokens")
            .header("Host", authority)
            .header("Authorization", format!("Basic {credentials}"))
            .header("Content-Type", "application/json")
            .body(Full::from("{}"))?;
        let (status, body) = client.send(request).await?;
        let answer: Value = serde_json::from_slice(&body)?;
        client.token = answer["token"].as_str().with_context(|| format!("login: {status} {answer}"))?.to_owned();
        Ok(client)
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<(u16, Bytes)> {
        self.sender.ready().await?;
        let answer = self.sender.send_request(request).await?;
        let status = answer.status().as_u16();
        Ok((status, answer.into_body().collect().await?.to_bytes()))
    }

    /// The body of an answer with a 2xx status.
    pub async fn call(&mut self, method: Method, path: &str, body: impl Into<Bytes>) -> Result<Bytes> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("Host", self.authority.as_str())
            .header("X-Auth-Token", self.token.as_str())
            .header("Content-Type", "application/json")
            .body(Full::new(body.into()))?;
        let uri = request.uri().clone();
        let (status, body) = self.send(request).await?;
        if !(200..300).contains(&status) {
            bail!("{uri}: {status} {}", String::from_utf8_lossy(&body));
        }
        Ok(body)
    }

    pub async fn post(&mut self, path: &str, body: &Value) -> Result<Value> {
        Ok(serde_json::from_slice(&self.call(Method::POST, path, body.to_string()).await?)?)
    }
}

/// The text of a JSON string field that stands before any other field of that name: cheaper than parsing it all.
pub fn field<'a>(body: &'a [u8], name: &str) -> Option<&'a str> {
    let text = std::str::from_utf8(body).ok()?;
    let marker = format!("\"{name}\":\"");
    let start = text.rfind(&marker)? + marker.len();
    let end = text[start..].find('"')? + start;
    Some(&text[start..end])
}

impl Client {
    /// `X-Total-Count` of a list.
    pub async fn total(&mut self, path: &str) -> Result<u64> {
        let request = Request::get(path)
            .header("Host", self.authority.as_str())
            .header("X-Auth-Token", self.token.as_str())
            .body(Full::default())?;
        self.sender.ready().await?;
        let answer = self.sender.send_request(request).await?;
        let total = answer.headers().get("x-total-count").and_then(|value| value.to_str().ok()?.parse().ok());
        answer.into_body().collect().await?;
        total.context("no X-Total-Count")
    }
}
