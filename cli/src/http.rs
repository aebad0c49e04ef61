//! The HTTP client: one connection per service, TLS set up only for `https`, errors worded as `st2` words them.

use std::cell::{OnceCell, RefCell};
use std::time::Duration;

use base64::Engine as _;
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use crate::config::{Settings, Verify};
use crate::error::{Error, Result};

const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
const ANSWER_DEADLINE: Duration = Duration::from_secs(150);

/// Which server a request goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    Api,
    Auth,
    Stream,
}

/// What proves who we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    Token(String),
    ApiKey(String),
}

/// A query string's pairs.
pub type Query = Vec<(&'static str, String)>;

/// A successful answer.
#[derive(Debug)]
pub struct Answer {
    pub headers: HeaderMap,
    /// `null` for an empty body, a string for one that isn't JSON.
    pub body: Value,
}

impl Answer {
    /// The list in the body.
    pub fn list(self) -> Vec<Value> {
        match self.body {
            Value::Array(items) => items,
            Value::Null => Vec::new(),
            other => vec![other],
        }
    }

    /// `X-Total-Count`.
    pub fn total(&self) -> Option<usize> {
        self.headers.get("x-total-count")?.to_str().ok()?.parse().ok()
    }
}

/// Talks to the three services.
pub struct Client {
    pub settings: Settings,
    credential: RefCell<Option<Credential>>,
    http: OnceCell<reqwest::Client>,
}

impl Client {
    pub fn new(settings: Settings) -> Client {
        Client { settings, credential: RefCell::default(), http: OnceCell::new() }
    }

    /// Every later request carries this.
    pub fn set_credential(&self, credential: Option<Credential>) {
        *self.credential.borrow_mut() = credential;
    }

    pub async fn get(&self, path: &str, query: &Query) -> Result<Answer> {
        self.send(Method::GET, Service::Api, path, query, None).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send(Method::POST, Service::Api, path, &Vec::new(), Some(body)).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send(Method::PUT, Service::Api, path, &Vec::new(), Some(body)).await
    }

    pub async fn delete(&self, path: &str, query: &Query, body: Option<&Value>) -> Result<Answer> {
        self.send(Method::DELETE, Service::Api, path, query, body).await
    }

    /// Asks for a token. The password goes into the `Authorization` header.
    pub async fn token(&self, user: &str, password: &str, ttl: Option<u64>) -> Result<Value> {
        let url = format!("{}/tokens", self.settings.auth_url);
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        let body = ttl.map_or_else(|| serde_json::json!({}), |ttl| serde_json::json!({ "ttl": ttl }));
        let request = self.http()?.post(&url).header("authorization", format!("Basic {pair}")).body(body.to_string());
        self.answer(request.header("content-type", "application/json").timeout(ANSWER_DEADLINE), Service::Auth, &url)
            .await
            .map(|answer| answer.body)
    }

    /// Opens a stream of events. The answer's head is here when this returns; there is no deadline for its body.
    pub async fn events(&self, path: &str, query: &Query) -> Result<Events> {
        let url = self.url(Service::Stream, path, query);
        let request = self.authenticated(self.http()?.get(&url));
        let response = request.send().await.map_err(|error| self.unreachable(Service::Stream, &error))?;
        if !response.status().is_success() {
            return Err(self.refusal(response, &url).await);
        }
        Ok(Events { response, buffer: Vec::new() })
    }

    async fn send(
        &self,
        method: Method,
        service: Service,
        path: &str,
        query: &Query,
        body: Option<&Value>,
    ) -> Result<Answer> {
        let url = self.url(service, path, query);
        let mut request = self.authenticated(self.http()?.request(method.clone(), &url)).timeout(ANSWER_DEADLINE);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        if self.settings.debug {
            println!("# -------- begin request ----------\n{}", curl(&method, &url, body));
        }
        self.answer(request, service, &url).await
    }

    async fn answer(&self, request: reqwest::RequestBuilder, service: Service, url: &str) -> Result<Answer> {
        let response = request.send().await.map_err(|error| self.unreachable(service, &error))?;
        if !response.status().is_success() {
            return Err(self.refusal(response, url).await);
        }
        let headers = response.headers().clone();
        let text = response.text().await.map_err(|error| self.unreachable(service, &error))?;
        if self.settings.debug {
            // an answer to a login holds a token
            let shown = if service == Service::Auth { "(not shown)" } else { text.as_str() };
            println!("# -------- begin response ----------\n{shown}\n# -------- end response ------------\n");
        }
        let body = match text.as_str() {
            "" => Value::Null,
            text => serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())),
        };
        Ok(Answer { headers, body })
    }

    async fn refusal(&self, response: reqwest::Response, url: &str) -> Error {
        let status = response.status();
        let kind = if status.is_server_error() { "Server" } else { "Client" };
        let reason = status.canonical_reason().unwrap_or_default();
        let body = response.text().await.unwrap_or_default();
        let fault = serde_json::from_str::<Value>(&body).ok();
        let fault = fault.as_ref().and_then(|body| body.get("faultstring")).and_then(Value::as_str);
        let head = format!("{} {kind} Error: {reason}", status.as_u16());
        let text = match fault {
            Some(fault) => format!("{head}\nMESSAGE: {fault} for url: {url}"),
            None => format!("{head} for url: {url}"),
        };
        Error::Http { status: status.as_u16(), text }
    }

    fn unreachable(&self, service: Service, error: &reqwest::Error) -> Error {
        let (name, url, setting) = match service {
            Service::Api => ("API", &self.settings.api_url, "api"),
            Service::Auth => ("authentication", &self.settings.auth_url, "auth"),
            Service::Stream => ("stream", &self.settings.stream_url, "stream"),
        };
        let mut cause: &dyn std::error::Error = error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        let what = match (error.is_connect(), error.is_timeout()) {
            (_, true) => "no answer from",
            (true, _) => "cannot connect to",
            _ => "lost the connection to",
        };
        let variable = setting.to_uppercase();
        let hint = match error.is_connect() {
            true => format!(
                "\nIs it running there? The address comes from --{setting}-url, the configuration file or \
                 ST2_{variable}_URL."
            ),
            false => String::new(),
        };
        Error::Unreachable(format!("{what} the {name} service at {url}: {cause}{hint}"))
    }

    fn url(&self, service: Service, path: &str, query: &Query) -> String {
        let base = match service {
            Service::Api => &self.settings.api_url,
            Service::Auth => &self.settings.auth_url,
            Service::Stream => &self.settings.stream_url,
        };
        if query.is_empty() {
            return format!("{base}{path}");
        }
        let pairs = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
        format!("{base}{path}?{pairs}")
    }

    fn authenticated(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        let (name, text) = match &*self.credential.borrow() {
            None => return request,
            Some(Credential::Token(token)) => ("x-auth-token", token.clone()),
            Some(Credential::ApiKey(key)) => ("st2-api-key", key.clone()),
        };
        match HeaderValue::from_str(&text) {
            Ok(mut value) => {
                value.set_sensitive(true);
                request.header(HeaderName::from_static(name), value)
            }
            // no server would take it either
            Err(_) => request,
        }
    }

    /// Made at the first request, so that commands that need none don't pay for it.
    fn http(&self) -> Result<&reqwest::Client> {
        if let Some(client) = self.http.get() {
            return Ok(client);
        }
        // fails only if a provider is set already, which is as good
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder().connect_timeout(CONNECT_DEADLINE).tcp_nodelay(true);
        builder = builder.user_agent(concat!("st2/", env!("CARGO_PKG_VERSION"), " (squall)"));
        builder = match &self.settings.verify {
            Verify::System => builder,
            Verify::Off => builder.tls_danger_accept_invalid_certs(true),
            Verify::Bundle(path) => {
                let wrong = |error: &dyn std::fmt::Display| Error::failed(format!("{}: {error}", path.display()));
                let pem = std::fs::read(path).map_err(|error| wrong(&error))?;
                let bundle = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| wrong(&error))?;
                builder.tls_certs_only(bundle)
            }
        };
        if let Some((user, password)) = &self.settings.basic_auth {
            let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
            let mut value =
                HeaderValue::from_str(&format!("Basic {pair}")).map_err(|e| Error::failed(e.to_string()))?;
            value.set_sensitive(true);
            builder = builder.default_headers(HeaderMap::from_iter([(reqwest::header::AUTHORIZATION, value)]));
        }
        let client = builder.build().map_err(|error| Error::failed(format!("cannot set up HTTP: {error}")))?;
        Ok(self.http.get_or_init(|| client))
    }
}

/// The request as a shell command; the credential is left out.
fn curl(method: &Method, url: &str, body: Option<&Value>) -> String {
    let body = body.map(|body| format!(" -H 'content-type: application/json' --data-binary '{body}'"));
    format!("curl -X {method} -H 'X-Auth-Token: ...'{} {url}", body.unwrap_or_default())
}

/// One path segment: what has a meaning in URLs is escaped.
pub fn segment(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => out.push(byte as char),
            b'-' | b'.' | b'_' | b'~' | b':' | b'@' | b'!' | b'$' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' => {
                out.push(byte as char);
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

/// An event of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub name: String,
    pub data: String,
}

/// Events as they arrive.
pub struct Events {
    response: reqwest::Response,
    buffer: Vec<u8>,
}

/// An event of more bytes than this is a broken stream.
const LONGEST_EVENT: usize = 64 * 1024 * 1024;

impl Events {
    /// The next event, `None` at the end of the stream.
    pub async fn next(&mut self) -> Result<Option<Event>> {
        loop {
            if let Some(event) = take_event(&mut self.buffer) {
                return Ok(Some(event));
            }
            if self.buffer.len() > LONGEST_EVENT {
                return Err(Error::failed("the stream sent an endless event"));
            }
            let chunk = self.response.chunk().await;
            match chunk.map_err(|error| Error::Unreachable(format!("lost the event stream: {error}")))? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
    }
}

/// Cuts the first whole event off the buffer; blank lines between events are heartbeats.
fn take_event(buffer: &mut Vec<u8>) -> Option<Event> {
    loop {
        let blank = buffer.iter().position(|byte| *byte != b'\n' && *byte != b'\r').unwrap_or(buffer.len());
        buffer.drain(..blank);
        let lf = buffer.windows(2).position(|pair| pair == b"\n\n").map(|at| at + 2);
        let crlf = buffer.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
        let end = [lf, crlf].into_iter().flatten().min()?;
        let block: Vec<u8> = buffer.drain(..end).collect();
        let block = String::from_utf8_lossy(&block);
        let mut event = Event { name: String::new(), data: String::new() };
        for line in block.lines() {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => value.clone_into(&mut event.name),
                "data" => {
                    if !event.data.is_empty() {
                        event.data.push('\n');
                    }
                    event.data.push_str(value);
                }
                _ => {}
            }
        }
        if !event.name.is_empty() {
            return Some(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_cut_off_the_stream() {
        let mut buffer =
            b"\n\n: hello\n\nevent: a\ndata: {\"x\":\ndata: 1}\n\n\nevent: b\r\ndata: ''\r\n\r\nevent: c\n".to_vec();
        let first = take_event(&mut buffer).unwrap();
        assert_eq!((first.name.as_str(), first.data.as_str()), ("a", "{\"x\":\n1}"));
        assert_eq!(take_event(&mut buffer).unwrap().name, "b");
        assert_eq!(take_event(&mut buffer), None);
    }

    #[test]
    fn segments_keep_colons_and_escape_slashes() {
        assert_eq!(segment("a:b/c d%"), "a:b%2Fc%20d%25");
    }
}
