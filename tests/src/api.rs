//! A client of the node's API.

use std::io::Read;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use crate::wait::eventually;

/// Base address and credentials.
#[derive(Debug, Clone)]
pub struct Api {
    http: reqwest::Client,
    /// `http://127.0.0.1:PORT`, with `/auth`, `/api` and `/stream` behind it.
    pub base: String,
    pub token: String,
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
    /// Null if the text isn't JSON.
    pub json: Value,
}

impl Api {
    pub fn anonymous(base: &str) -> Self {
        // A second installation in the same process is refused, and harmless.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().timeout(Duration::from_secs(30)).no_proxy().build();
        Self { http: http.expect("a plain client can be built"), base: base.to_owned(), token: String::new() }
    }

    /// The same credentials at another address.
    pub fn at(&self, base: &str) -> Self {
        Self { base: base.to_owned(), ..self.clone() }
    }

    pub async fn login(base: &str, user: &str, password: &str) -> Result<Self> {
        Self::login_for(base, user, password, &json!({})).await
    }

    /// Another client, whose token is good for so many seconds.
    pub async fn token_with_ttl(&self, user: &str, password: &str, ttl: u64) -> Result<Self> {
        Self::login_for(&self.base, user, password, &json!({"ttl": ttl})).await
    }

    async fn login_for(base: &str, user: &str, password: &str, body: &Value) -> Result<Self> {
        let mut api = Self::anonymous(base);
        let request = api.http.post(format!("{base}/auth/v1/tokens")).basic_auth(user, Some(password));
        let answer = request.json(body).send().await?;
        if answer.status() != 201 {
            bail!("login: {} {}", answer.status(), answer.text().await?);
        }
        let body: Value = answer.json().await?;
        api.token = body["token"].as_str().context("no token in the answer")?.to_owned();
        Ok(api)
    }

    /// `path` begins with `/v1`; the API's prefix is put before it. An empty token sends none.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Reply> {
        let mut request = self.http.request(method, format!("{}/api{path}", self.base));
        if !self.token.is_empty() {
            request = request.header("X-Auth-Token", &self.token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await?;
        Self::read(answer).await
    }

    async fn read(answer: reqwest::Response) -> Result<Reply> {
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let bytes = answer.bytes().await?;
        let zipped = headers.get("content-encoding").is_some_and(|encoding| encoding == "gzip");
        let mut text = String::new();
        if zipped {
            flate2::read::GzDecoder::new(bytes.as_ref()).read_to_string(&mut text)?;
        } else {
            text = String::from_utf8_lossy(&bytes).into_owned();
        }
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        Ok(Reply { status, headers, text, json })
    }

    /// As [`call`](Self::call); a body that is a JSON string is sent as it is, as clients with broken bodies do.
    pub async fn raw(&self, method: Method, path: &str, body: &Value) -> Result<Reply> {
        let Value::String(text) = body else {
            return self.call(method, path, (!body.is_null()).then_some(body)).await;
        };
        let request = self.http.request(method, format!("{}/api{path}", self.base));
        let answer = request.header("X-Auth-Token", &self.token).body(text.clone()).send().await?;
        Self::read(answer).await
    }

    /// `/healthz/<which>`, unauthenticated.
    pub async fn health(&self, which: &str) -> Result<Reply> {
        Self::read(self.http.get(format!("{}/healthz/{which}", self.base)).send().await?).await
    }

    /// A GET, whatever it answers.
    pub async fn get_raw(&self, path: &str) -> Result<Reply> {
        self.call(Method::GET, path, None).await
    }

    /// A GET that must answer 200.
    pub async fn get(&self, path: &str) -> Result<Value> {
        let reply = self.call(Method::GET, path, None).await?;
        if reply.status != 200 {
            bail!("GET {path}: {} {}", reply.status, reply.text);
        }
        Ok(reply.json)
    }

    /// A POST that must answer 200, 201 or 202.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let reply = self.call(Method::POST, path, Some(body)).await?;
        if !(200..=202).contains(&reply.status) {
            bail!("POST {path}: {} {}", reply.status, reply.text);
        }
        Ok(reply.json)
    }

    /// Requests an execution; its id.
    pub async fn run(&self, action: &str, parameters: Value) -> Result<String> {
        let body = json!({"action": action, "parameters": parameters});
        let execution = self.post("/v1/executions", &body).await?;
        Ok(execution["id"].as_str().context("no id in the answer")?.to_owned())
    }

    /// Waits until the execution has ended; the execution.
    pub async fn finished(&self, id: &str, deadline: Duration) -> Value {
        let path = format!("/v1/executions/{id}");
        eventually(&format!("execution {id} ends"), deadline, || async {
            let execution = self.get(&path).await.ok()?;
            let status = model::Status::parse(execution["status"].as_str()?)?;
            status.is_completed().then_some(execution)
        })
        .await
    }
}
