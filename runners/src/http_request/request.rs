//! From the parameters to a request.

use std::collections::BTreeMap;
use std::time::Duration;

use expr::params::FinalParameters;
use model::Object;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use super::body::{self, Body};
use super::clients::Connection;
use crate::runner::Failure;
use crate::shell::python_text::str_of;

const DEFAULT_TIMEOUT: f64 = 60.0;

/// StackStorm's version that we are compatible with.
const USER_AGENT: &str = "st2/v3.9.0";

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallError {
    Timeout(String),
    Failed(String),
}

/// A request, ready to be sent.
#[derive(Debug)]
pub struct Call {
    pub connection: Connection,
    method: reqwest::Method,
    url: url::Url,
    headers: HeaderMap,
    body: Option<Body>,
    credentials: Option<(String, String)>,
    timeout: Duration,
}

fn text(object: &Object, name: &str) -> Option<String> {
    match object.get(name)? {
        Value::Null => None,
        Value::String(text) if text.is_empty() => None,
        value => Some(str_of(value)),
    }
}

fn texts(object: &Object, name: &str) -> Vec<String> {
    object.get(name).and_then(Value::as_array).map(|items| items.iter().map(str_of).collect()).unwrap_or_default()
}

impl Call {
    pub fn from(parameters: &FinalParameters, action_name: &str) -> Result<Self, Failure> {
        let (runner, action) = (&parameters.runner, &parameters.action);
        let raw = text(runner, "url").ok_or_else(|| Failure::new("url is required"))?;
        let hosts =
            Hosts { blacklist: texts(runner, "url_hosts_blacklist"), whitelist: texts(runner, "url_hosts_whitelist") };
        hosts.check(&raw)?;
        let mut url: url::Url = raw.parse().map_err(|error| Failure::new(format!("Invalid URL '{raw}': {error}")))?;
        add_query(&mut url, action.get("params"));
        let given = headers(runner, action_name)?;
        let content_type = given.get("content-type").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let body = make_body(action, content_type.as_deref())?;
        let method = text(action, "method").unwrap_or_else(|| if body.is_some() { "POST" } else { "GET" }.to_owned());
        let method = method.parse().map_err(|_| Failure::new(format!("invalid method {method:?}")))?;
        let flag = |name: &str, default| runner.get(name).and_then(Value::as_bool).unwrap_or(default);
        let timeout = action.get("timeout").and_then(Value::as_f64).unwrap_or(DEFAULT_TIMEOUT);
        let allow_redirects = flag("allow_redirects", false);
        let credentials = match text(runner, "username") {
            Some(name) => Some((name, text(runner, "password").unwrap_or_default())),
            None => pair(action.get("auth"))?,
        };
        Ok(Self {
            connection: Connection {
                allow_redirects,
                hosts: if allow_redirects { hosts } else { Hosts::default() },
                verify: flag("verify_ssl_cert", true),
                http_proxy: text(runner, "http_proxy"),
                https_proxy: text(runner, "https_proxy"),
            },
            method,
            url,
            headers: given,
            body,
            credentials,
            timeout: Duration::try_from_secs_f64(timeout)
                .map_err(|_| Failure::new(format!("invalid timeout {timeout}")))?,
        })
    }

    pub async fn send(&self, client: &reqwest::Client) -> Result<reqwest::Response, CallError> {
        let mut request = client.request(self.method.clone(), self.url.clone()).timeout(self.timeout);
        let mut headers = self.headers.clone();
        if let Some(body) = &self.body {
            if let Some(kind) = &body.content_type
                && let Ok(kind) = HeaderValue::from_str(kind)
            {
                headers.insert(reqwest::header::CONTENT_TYPE, kind);
            }
            request = request.body(body.bytes.clone());
        }
        if let Some((name, password)) = &self.credentials {
            request = request.basic_auth(name, Some(password));
        }
        request.headers(headers).send().await.map_err(|error| classify(&error))
    }
}

/// The whole chain of causes; never with the URL's password.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

pub fn classify(error: &reqwest::Error) -> CallError {
    let text = chain(error);
    if error.is_timeout() { CallError::Timeout(text) } else { CallError::Failed(text) }
}

fn make_body(action: &Object, content_type: Option<&str>) -> Result<Option<Body>, Failure> {
    if let (Some(name), Some(content)) = (text(action, "file_name"), text(action, "file_content")) {
        return Ok(Some(body::from_file(&name, &content, text(action, "file_content_type").as_deref())));
    }
    let Some(given) = text(action, "body") else { return Ok(None) };
    match body::from_text(&given, content_type) {
        Ok(body) => Ok(Some(body)),
        Err(CallError::Timeout(text) | CallError::Failed(text)) => Err(Failure::new(text)),
    }
}

/// The action's, then cookies, then those that always override. `Content-Length` is left to the client: StackStorm
/// counts characters where HTTP wants bytes.
fn headers(runner: &Object, action_name: &str) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    let mut put = |name: &str, value: &str| {
        let invalid = || Failure::new(format!("invalid header {name:?}"));
        let name_ok = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid())?;
        let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| invalid())?;
        headers.insert(name_ok, value);
        Ok::<(), Failure>(())
    };
    if let Some(Value::Object(given)) = runner.get("headers") {
        for (name, value) in given.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("content-length")) {
            put(name, &str_of(value))?;
        }
    }
    if let Some(Value::Object(cookies)) = runner.get("cookies")
        && !cookies.is_empty()
    {
        let sorted: BTreeMap<_, _> = cookies.iter().collect();
        let pairs: Vec<String> = sorted.iter().map(|(name, value)| format!("{name}={}", str_of(value))).collect();
        put("cookie", &pairs.join("; "))?;
    }
    put("user-agent", USER_AGENT)?;
    put("x-stanley-action", action_name)?;
    Ok(headers)
}

fn add_query(url: &mut url::Url, params: Option<&Value>) {
    match params {
        Some(Value::String(text)) if !text.is_empty() => {
            let query = match url.query() {
                Some(old) => format!("{old}&{text}"),
                None => text.clone(),
            };
            url.set_query(Some(&query));
        }
        Some(Value::Object(pairs)) if !pairs.is_empty() => {
            let mut query = url.query_pairs_mut();
            for (name, value) in pairs {
                match value {
                    Value::Null => {}
                    Value::Array(items) => {
                        for item in items {
                            query.append_pair(name, &str_of(item));
                        }
                    }
                    value => {
                        query.append_pair(name, &str_of(value));
                    }
                }
            }
        }
        _ => {}
    }
}

/// `auth`: a name and a password. Text, which StackStorm's core action declares, it can't use either.
fn pair(auth: Option<&Value>) -> Result<Option<(String, String)>, Failure> {
    match auth {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::Array(items)) if items.len() == 2 => Ok(Some((str_of(&items[0]), str_of(&items[1])))),
        Some(_) => Err(Failure::new("auth must be a list of a name and a password; or use username and password")),
    }
}

/// Hosts that may not be called, or that alone may be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Hosts {
    pub blacklist: Vec<String>,
    pub whitelist: Vec<String>,
}

impl Hosts {
    pub fn check(&self, url: &str) -> Result<(), Failure> {
        let Self { blacklist, whitelist } = self;
        if !blacklist.is_empty() && !whitelist.is_empty() {
            return Err(Failure::new(
                "\"url_hosts_blacklist\" and \"url_hosts_whitelist\" parameters are mutually exclusive. Only one \
                 should be provided.",
            ));
        }
        if blacklist.is_empty() && whitelist.is_empty() {
            return Ok(());
        }
        let host = host_of(url);
        if blacklist.contains(&host) {
            return Err(Failure::new(format!("URL \"{url}\" is blacklisted")));
        }
        if !whitelist.is_empty() && !whitelist.contains(&host) {
            return Err(Failure::new(format!("URL \"{url}\" is not whitelisted")));
        }
        Ok(())
    }
}

/// The host alone. StackStorm leaves credentials in, so that `user@host` escapes its lists: here they don't count.
fn host_of(url: &str) -> String {
    match url.parse::<url::Url>() {
        Ok(url) => url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned(),
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn hosts_are_checked_against_either_list() {
        let list = |host: &str| vec![host.to_owned()];
        let check_host = |url: &str, blacklist: &[String], whitelist: &[String]| {
            Hosts { blacklist: blacklist.to_vec(), whitelist: whitelist.to_vec() }.check(url)
        };
        assert!(check_host("http://a.example:80/x", &list("a.example"), &[]).is_err());
        assert!(check_host("http://u:p@a.example/x", &list("a.example"), &[]).is_err());
        assert!(check_host("http://[::1]:8/", &list("::1"), &[]).is_err());
        assert!(check_host("http://b.example/", &list("a.example"), &[]).is_ok());
        assert!(check_host("http://a.example/", &[], &list("a.example")).is_ok());
        assert!(check_host("http://b.example/", &[], &list("a.example")).is_err());
        assert!(check_host("http://b.example/", &list("a"), &list("b")).is_err());
    }

    #[test]
    fn queries_are_appended() {
        let mut url: url::Url = "http://h/p?a=1".parse().unwrap();
        add_query(&mut url, Some(&json!({"b": "x y", "c": [1, 2], "d": null})));
        assert_eq!(url.as_str(), "http://h/p?a=1&b=x+y&c=1&c=2");
        let mut url: url::Url = "http://h/p".parse().unwrap();
        add_query(&mut url, Some(&json!("q=city")));
        assert_eq!(url.as_str(), "http://h/p?q=city");
    }
}
