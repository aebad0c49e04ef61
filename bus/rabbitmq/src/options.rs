//! What the adapter is told, and what of it may be shown.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use lapin::uri::{AMQPScheme, AMQPUri};
use url::{Host, Url};

/// How to reach the broker and what to ask of it. `Debug` shows neither passwords nor user names.
#[derive(Clone)]
pub struct RabbitOptions {
    /// `amqp[s]://user:password@host:port/vhost`, one for each broker of the cluster, tried in turn. `?ssl=true` is
    /// as good as `amqps`; no virtual host means `/` (spec/config.md, `messaging.url`).
    pub urls: Vec<String>,
    /// Instead of what the URLs say, for secrets that come from files.
    pub credentials: Option<Credentials>,
    pub tls: TlsOptions,
    /// All names on the broker begin with `squall.<cluster>.`: several clusters can share a virtual host.
    pub cluster: String,
    /// This node's name, for whoever looks at the broker's connections.
    pub node: String,
    /// Hand jobs to this process' own consumers if they have room, without asking the broker.
    pub local_first: bool,
    /// Jobs that may wait in one queue of the broker; then senders are told that it is full.
    pub max_queue_length: u32,
    /// A job that was delivered this often, and neither acknowledged nor released, goes to the dead letters.
    pub delivery_limit: u32,
    /// How long a message stays unacknowledged while its job is worked on, so that the broker sends no other for its
    /// slot. Brokers close the channel of a consumer that owes them an answer for long (half an hour).
    pub owed: Duration,
    /// A broker that hasn't confirmed a message within this time is given up on for another.
    pub deadline: Duration,
    /// For reaching a broker: name look-up, TCP, TLS and the protocol's greeting.
    pub connect_timeout: Duration,
    /// A connection on which nothing came for twice this time is dead. Whole seconds.
    pub heartbeat: Duration,
    /// Jobs that may wait in this process for each queue while the broker is away.
    pub backlog: usize,
    /// Events that a subscriber may be behind, and events that may wait to be sent to other nodes.
    pub event_buffer: usize,
    /// A job's document travels with it up to this size in bytes.
    pub hint_limit: usize,
}

#[derive(Clone)]
pub struct Credentials {
    pub user: String,
    pub password: String,
}

/// For `amqps`. Files are read at each connect, so that renewed certificates are found.
#[derive(Debug, Clone, Default)]
pub struct TlsOptions {
    /// PEM; only these authorities are trusted. Without it those of the system are.
    pub ca: Option<PathBuf>,
    /// PEM: this node's certificate (and those above it) and its key, for brokers that ask for one.
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
}

impl RabbitOptions {
    pub fn new(urls: Vec<String>, cluster: impl Into<String>, node: impl Into<String>) -> Self {
        Self {
            urls,
            credentials: None,
            tls: TlsOptions::default(),
            cluster: cluster.into(),
            node: node.into(),
            local_first: true,
            max_queue_length: 50_000,
            delivery_limit: 20,
            owed: Duration::from_secs(60),
            deadline: Duration::from_secs(3),
            connect_timeout: Duration::from_secs(5),
            heartbeat: Duration::from_secs(5),
            backlog: 16_384,
            event_buffer: 4_096,
            hint_limit: 64 * 1024,
        }
    }

    /// The brokers, checked.
    pub(crate) fn brokers(&self) -> Result<Vec<Broker>, OptionsError> {
        if self.urls.is_empty() {
            return Err(OptionsError::NoUrl);
        }
        let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if self.cluster.is_empty() || self.cluster.len() > 100 || !self.cluster.chars().all(valid) {
            return Err(OptionsError::Cluster);
        }
        if self.tls.certificate.is_some() != self.tls.key.is_some() {
            return Err(OptionsError::HalfIdentity);
        }
        let parse = |(at, url): (usize, &String)| self.broker(url).map_err(|reason| OptionsError::Url(at + 1, reason));
        self.urls.iter().enumerate().map(parse).collect()
    }

    fn broker(&self, text: &str) -> Result<Broker, &'static str> {
        let url = Url::parse(text).map_err(|_| "is not a URL")?;
        if !matches!(url.scheme(), "amqp" | "amqps") || url.cannot_be_a_base() {
            return Err("must begin with amqp:// or amqps://");
        }
        let mut uri: AMQPUri = text.parse().map_err(|_| "has a part that is not understood")?;
        if let Some(Host::Ipv6(address)) = url.host() {
            uri.authority.host = address.to_string();
        }
        if uri.vhost.is_empty() {
            "/".clone_into(&mut uri.vhost);
        }
        let asks_tls = url.query_pairs().any(|(key, value)| key == "ssl" && matches!(&*value, "true" | "True" | "1"));
        if asks_tls && uri.scheme == AMQPScheme::AMQP {
            uri.scheme = AMQPScheme::AMQPS;
            uri.authority.port = url.port().unwrap_or_else(|| AMQPScheme::AMQPS.default_port());
        }
        if let Some(credentials) = &self.credentials {
            uri.authority.userinfo.username.clone_from(&credentials.user);
            uri.authority.userinfo.password.clone_from(&credentials.password);
        }
        let heartbeat = self.heartbeat.as_secs().clamp(1, 60);
        uri.query.heartbeat = Some(uri.query.heartbeat.unwrap_or(heartbeat as u16));
        Ok(Broker(uri))
    }
}

impl fmt::Debug for RabbitOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitOptions")
            .field("brokers", &self.brokers().unwrap_or_default())
            .field("tls", &self.tls)
            .field("cluster", &self.cluster)
            .field("node", &self.node)
            .field("local_first", &self.local_first)
            .field("max_queue_length", &self.max_queue_length)
            .field("delivery_limit", &self.delivery_limit)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(..)")
    }
}

/// Where a broker is and how to log in there; shown as host and port.
#[derive(Clone)]
pub(crate) struct Broker(pub AMQPUri);

impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = &self.0.authority;
        match authority.host.contains(':') {
            true => write!(f, "[{}]:{}", authority.host, authority.port),
            false => write!(f, "{}:{}", authority.host, authority.port),
        }
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The options can't be right. Never holds (parts of) a URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    #[error("no URL of a message broker")]
    NoUrl,
    #[error("URL {0} of the message broker {1}")]
    Url(usize, &'static str),
    #[error("the cluster's name on the message broker must be 1 to 100 letters, digits, `-`, `_` or `.`")]
    Cluster,
    #[error("a client certificate for the message broker needs both its certificate and its key")]
    HalfIdentity,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(url: &str) -> RabbitOptions {
        RabbitOptions::new(vec![url.to_owned()], "c", "n")
    }

    fn only(url: &str) -> AMQPUri {
        options(url).brokers().unwrap().remove(0).0
    }

    #[test]
    fn urls_are_understood() {
        assert_eq!(only("amqp://guest:guest@127.0.0.1:5672//").vhost, "/");
        assert_eq!(only("amqp://h").vhost, "/");
        assert_eq!(only("amqp://h/").vhost, "/");
        assert_eq!(only("amqp://h/%2f").vhost, "/");
        assert_eq!(only("amqp://h/squall").vhost, "squall");
        assert_eq!(only("amqp://127.0.0.1").authority.host, "127.0.0.1");
        assert_eq!(only("amqp://[::1]:7").authority.host, "::1");
        assert_eq!(options("amqp://[::1]:7").brokers().unwrap()[0].to_string(), "[::1]:7");
        assert_eq!(only("amqp://h/x").query.heartbeat, Some(5));
        let secured = only("amqp://u:p%40q@h/x?ssl=true");
        assert_eq!((secured.scheme, secured.authority.port), (AMQPScheme::AMQPS, 5671));
        assert_eq!(secured.authority.userinfo.password, "p@q");
        assert_eq!(only("amqp://h:5672/x?ssl=true").authority.port, 5672);
        assert_eq!(only("amqps://h").authority.port, 5671);
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(RabbitOptions::new(Vec::new(), "c", "n").brokers().unwrap_err(), OptionsError::NoUrl);
        for url in
            ["secret", "http://u:secret@h", "amqp:secret", "amqp://u:secret@h:99999/", "amqp://u:secret@h?heartbeat=x"]
        {
            let error = options(url).brokers().unwrap_err().to_string();
            assert!(error.starts_with("URL 1 of") && !error.contains("secret"), "{error}");
        }
        assert_eq!(
            RabbitOptions::new(vec!["amqp://h".into()], "a b", "n").brokers().unwrap_err(),
            OptionsError::Cluster
        );
    }

    #[test]
    fn secrets_are_not_shown() {
        let mut options = options("amqps://someuser:hunter2@broker.example:5671/v");
        options.credentials = Some(Credentials { user: "other".into(), password: "hunter3".into() });
        let shown = format!("{options:?} {:?} {:?}", options.credentials, options.brokers().unwrap());
        assert!(shown.contains("broker.example:5671"), "{shown}");
        assert!(!shown.contains("hunter") && !shown.contains("someuser") && !shown.contains("other"), "{shown}");
    }
}
