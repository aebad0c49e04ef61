//! Clients by what can't be chosen for a single request; the plain ones are kept, with their connections.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::request::{CallError, Hosts};

/// Redirects followed where the action allows them; as many as Python's `requests`.
const MAX_REDIRECTS: usize = 30;

/// What a client is made for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Connection {
    pub allow_redirects: bool,
    /// Where redirects may lead; of no matter without.
    pub hosts: Hosts,
    pub verify: bool,
    pub http_proxy: Option<String>,
    pub https_proxy: Option<String>,
}

/// The clients of a node.
#[derive(Debug, Default)]
pub struct Clients {
    kept: Mutex<HashMap<Connection, reqwest::Client>>,
}

impl Clients {
    pub fn get(&self, connection: &Connection) -> Result<reqwest::Client, CallError> {
        if let Some(client) = self.kept.lock().get(connection) {
            return Ok(client.clone());
        }
        let client = build(connection).map_err(|error| CallError::Failed(super::request::chain(&error)))?;
        // Proxies may hold passwords and be many, as lists of hosts may; a client for them lives for one request.
        let is_plain = connection.http_proxy.is_none() && connection.https_proxy.is_none();
        if is_plain && connection.hosts == Hosts::default() {
            self.kept.lock().insert(connection.clone(), client.clone());
        }
        Ok(client)
    }
}

/// HTTP/1 only, as StackStorm's client: header names keep the form that they have there.
fn build(connection: &Connection) -> reqwest::Result<reqwest::Client> {
    let redirects =
        if connection.allow_redirects { followed(connection.hosts.clone()) } else { reqwest::redirect::Policy::none() };
    let mut builder = reqwest::Client::builder().redirect(redirects).http1_only();
    if !connection.verify {
        builder = builder.tls_danger_accept_invalid_certs(true);
    }
    if let Some(proxy) = &connection.http_proxy {
        builder = builder.proxy(reqwest::Proxy::http(proxy)?);
    }
    if let Some(proxy) = &connection.https_proxy {
        builder = builder.proxy(reqwest::Proxy::https(proxy)?);
    }
    builder.build()
}

/// StackStorm looks at the first URL only, so that a redirect escapes its lists.
fn followed(hosts: Hosts) -> reqwest::redirect::Policy {
    reqwest::redirect::Policy::custom(move |attempt| {
        if attempt.previous().len() > MAX_REDIRECTS {
            return attempt.error(format!("Exceeded {MAX_REDIRECTS} redirects."));
        }
        match hosts.check(attempt.url().as_str()) {
            Ok(()) => attempt.follow(),
            Err(refused) => attempt.error(refused.0),
        }
    })
}
