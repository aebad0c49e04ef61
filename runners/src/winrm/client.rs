//! WS-Management over HTTP: one connection, logged in by Basic or NTLM; sealed where there is no TLS.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, WWW_AUTHENTICATE};
use model::Object;
use serde_json::Value;

use super::connection::{Answer, Connection, Endpoint};
use super::ntlm::{Account, Challenge, Fresh, Login, negotiate};
use super::sealing::{SealError, Sealing};
use super::soap::{AnswerError, Ask, Envelope};
use crate::shell::execute::text;

/// Without TLS.
const PLAIN_PORT: u16 = 5985;
const TLS_PORT: u16 = 5986;

/// What a request may take longer than the host may wait for output.
const MARGIN: Duration = Duration::from_secs(15);

const SOAP: &str = "application/soap+xml;charset=UTF-8";

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WinrmError {
    #[error("{0}")]
    Http(String),
    #[error("the specified credentials were rejected by the server")]
    Refused,
    #[error("the server does not offer NTLM")]
    NotOffered,
    #[error("the server does not agree to encrypt messages, and without TLS they must be")]
    NotSealed,
    #[error("Bad HTTP response returned from server. Code {0}")]
    Status(u16),
    #[error(transparent)]
    Sealed(#[from] SealError),
    #[error(transparent)]
    Answer(#[from] AnswerError),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Basic,
    Ntlm,
}

/// Talks to one host.
pub struct Client {
    endpoint: Endpoint,
    url: String,
    transport: Transport,
    user: String,
    password: String,
    /// Between requests: the connection, logged in.
    link: Option<Link>,
}

#[derive(Debug)]
struct Link {
    connection: Connection,
    sealing: Option<Sealing>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl Client {
    /// From the runner's parameters.
    pub fn new(parameters: &Object) -> Result<Self, String> {
        let required = |name: &str| text(parameters, name).ok_or_else(|| format!("{name} is required"));
        let transport = match text(parameters, "transport").unwrap_or("ntlm") {
            "ntlm" => Transport::Ntlm,
            "basic" | "plaintext" | "ssl" => Transport::Basic,
            other => return Err(format!("transport \"{other}\" is not supported: use ntlm, basic, plaintext or ssl")),
        };
        let endpoint = endpoint(parameters, required("host")?)?;
        Ok(Self {
            url: endpoint.url(),
            endpoint,
            transport,
            user: required("username")?.to_owned(),
            password: required("password")?.to_owned(),
            link: None,
        })
    }

    /// The host's answer, that may be a fault; `wait`: seconds that it may take to have output.
    ///
    /// If it is dropped before its end, the next request opens another connection.
    pub async fn ask(&mut self, ask: &Ask<'_>, wait: u64) -> Result<String, WinrmError> {
        let body = Envelope { endpoint: &self.url, message: uuid::Uuid::new_v4(), wait }.text(ask);
        let limit = Duration::from_secs(wait) + MARGIN;
        let answered = tokio::time::timeout(limit, self.ask_without_limit(&body)).await;
        answered.map_err(|_| WinrmError::Http(format!("no answer in {} s", limit.as_secs())))?
    }

    async fn ask_without_limit(&mut self, body: &str) -> Result<String, WinrmError> {
        let kept = self.link.take().filter(|link| link.connection.is_open());
        let mut link = match kept {
            Some(link) => link,
            None => self.connect().await?,
        };
        let answered = self.send(&mut link, body).await?;
        self.link = Some(link);
        Ok(answered)
    }

    async fn connect(&self) -> Result<Link, WinrmError> {
        let mut connection = Connection::open(&self.endpoint).await?;
        let sealing = match self.transport {
            Transport::Basic => None,
            Transport::Ntlm => {
                let login = self.log_in(&mut connection).await?;
                let seal = !self.endpoint.tls;
                if seal && login.session_key.is_none() {
                    return Err(WinrmError::NotSealed);
                }
                login.session_key.filter(|_| seal).map(|key| Sealing::of_client(&key))
            }
        };
        Ok(Link { connection, sealing })
    }

    async fn send(&self, link: &mut Link, body: &str) -> Result<String, WinrmError> {
        let (kind, bytes) = match &mut link.sealing {
            Some(sealing) => sealing.request(body),
            None => (SOAP.to_owned(), body.as_bytes().to_vec()),
        };
        let mut headers = vec![(CONTENT_TYPE, kind)];
        if self.transport == Transport::Basic {
            let login = STANDARD.encode(format!("{}:{}", self.user, self.password));
            headers.push((AUTHORIZATION, format!("Basic {login}")));
        }
        let answered = link.connection.post(&self.endpoint, &headers, bytes).await?;
        match answered.status.as_u16() {
            401 => return Err(WinrmError::Refused),
            // Faults come with 500.
            200 | 500 if !answered.body.is_empty() => {}
            other => return Err(WinrmError::Status(other)),
        }
        let bytes = match &mut link.sealing {
            Some(sealing) => sealing.answer(&answered.body)?,
            None => answered.body.to_vec(),
        };
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The three messages of NTLM, in requests without a body.
    async fn log_in(&self, connection: &mut Connection) -> Result<Login, WinrmError> {
        let mut scheme = "Negotiate";
        loop {
            let answered = self.step(connection, scheme, &negotiate()).await?;
            if let Some(challenge) = offers(&answered.headers, scheme).find_map(Challenge::parse) {
                let account = Account::new(&self.user, &self.password);
                let fresh = Fresh { nonce: rand::random(), session_key: rand::random(), time: now() };
                let login = challenge.answer(&account, &fresh, connection.channel);
                let answered = self.step(connection, scheme, &login.message).await?;
                return match answered.status.as_u16() {
                    401 => Err(WinrmError::Refused),
                    // What a host has to say to a request without content doesn't matter.
                    _ => Ok(login),
                };
            }
            // A host that doesn't take this scheme is asked once more, with the other one, if it names that.
            if scheme == "NTLM" || offers(&answered.headers, "NTLM").next().is_none() {
                return Err(if answered.status == http::StatusCode::UNAUTHORIZED {
                    WinrmError::NotOffered
                } else {
                    WinrmError::Status(answered.status.as_u16())
                });
            }
            scheme = "NTLM";
        }
    }

    async fn step(&self, connection: &mut Connection, scheme: &str, token: &str) -> Result<Answer, WinrmError> {
        let headers = [(CONTENT_TYPE, SOAP.to_owned()), (AUTHORIZATION, format!("{scheme} {token}"))];
        connection.post(&self.endpoint, &headers, Vec::new()).await
    }
}

/// Port 5985 has no TLS (spec/runners.md §16.6).
fn endpoint(parameters: &Object, host: &str) -> Result<Endpoint, String> {
    let port = match parameters.get("port").and_then(Value::as_i64) {
        Some(port) => u16::try_from(port).map_err(|_| format!("port {port} is not in 0 to 65535"))?,
        None => TLS_PORT,
    };
    let tls = match text(parameters, "scheme").unwrap_or("https") {
        _ if port == PLAIN_PORT => false,
        "https" => true,
        "http" => false,
        other => return Err(format!("scheme \"{other}\" is neither http nor https")),
    };
    let verify = parameters.get("verify_ssl_cert").and_then(Value::as_bool).unwrap_or(true);
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).to_owned();
    Ok(Endpoint { host, port, tls, verify })
}

/// What follows the scheme's name in the headers that ask for a login.
fn offers<'a>(headers: &'a HeaderMap, scheme: &'a str) -> impl Iterator<Item = &'a str> {
    headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()).filter_map(move |value| {
        let (name, rest) = value.split_once(' ').unwrap_or((value, ""));
        name.eq_ignore_ascii_case(scheme).then_some(rest)
    })
}

/// Seconds between 1601 and 1970.
const WINDOWS_EPOCH: u64 = 11_644_473_600;

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (now.as_secs() + WINDOWS_EPOCH) * 10_000_000 + u64::from(now.subsec_nanos() / 100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn endpoints() {
        for (parameters, host, wanted) in [
            (json!({}), "h", "https://h:5986/wsman"),
            (json!({"port": 5985, "scheme": "https"}), "h", "http://h:5985/wsman"),
            (json!({"port": 80, "scheme": "http"}), "::1", "http://[::1]:80/wsman"),
            (json!({"port": 80, "scheme": "http"}), "[::1]", "http://[::1]:80/wsman"),
        ] {
            assert_eq!(endpoint(parameters.as_object().unwrap(), host).unwrap().url(), wanted);
        }
        for bad in [json!({"port": 70000}), json!({"scheme": "ftp"})] {
            assert!(endpoint(bad.as_object().unwrap(), "h").is_err());
        }
    }

    #[test]
    fn transports_without_a_way_are_refused() {
        for transport in ["kerberos", "credssp", "certificate"] {
            let given = json!({"host": "h", "username": "u", "password": "p", "transport": transport});
            assert!(Client::new(given.as_object().unwrap()).unwrap_err().contains(transport));
        }
    }
}
