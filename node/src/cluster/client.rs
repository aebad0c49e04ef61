//! The group over a node's API, for whoever isn't on a node's host.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use http::Method;
use serde_json::{Value, json};

use crate::config::ServerUrl;

const DEADLINE: Duration = Duration::from_secs(15);

/// A client of `/v1/cluster`, and of what else operators ask an API.
pub struct ApiClient {
    client: reqwest::Client,
    base: String,
    token: String,
}

impl ApiClient {
    /// `url` is the API's address with or without `/v1`, as `ST2_API_URL` holds it.
    pub fn new(url: &str, token: Option<String>) -> Result<Self> {
        let base = url.trim_end_matches('/');
        let base = if base.ends_with("/v1") { base.to_owned() } else { format!("{base}/v1") };
        let token = token.context("no token: give --token, or log in and set ST2_AUTH_TOKEN")?;
        // A proxy of the environment is not meant for a cluster's nodes on this machine.
        let client = reqwest::Client::builder().timeout(DEADLINE).no_proxy().build()?;
        Ok(Self { client, base, token })
    }

    pub async fn status(&self) -> Result<Value> {
        self.call(Method::GET, &["cluster", "status"], None).await
    }

    pub async fn remove(&self, member: &str) -> Result<()> {
        self.call(Method::DELETE, &["cluster", "members", member], None).await.map(drop)
    }

    /// The new leader's name.
    pub async fn transfer(&self, to: Option<&str>) -> Result<String> {
        let answer = self.call(Method::POST, &["cluster", "transfer"], Some(json!({"to": to}))).await?;
        Ok(answer["leader"].as_str().unwrap_or_default().to_owned())
    }

    /// The answer's body; an error holds the answer's text.
    pub async fn call(&self, method: Method, path: &[&str], body: Option<Value>) -> Result<Value> {
        // The address may hold a password.
        let shown = ServerUrl::new(self.base.as_str());
        let mut url = reqwest::Url::parse(&self.base).with_context(|| format!("'{shown}' is not a URL"))?;
        match url.path_segments_mut() {
            Ok(mut segments) => drop(segments.extend(path)),
            Err(()) => bail!("'{shown}' is not the URL of an API"),
        }
        let mut request = self.client.request(method, url).header("X-Auth-Token", &self.token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.map_err(|error| error.without_url());
        let answer = answer.with_context(|| format!("can't reach {shown}"))?;
        let status = answer.status();
        let text = answer.text().await.unwrap_or_default();
        let value: Value = serde_json::from_str(&text).unwrap_or_default();
        if !status.is_success() {
            bail!("{shown} answers {status}: {}", value["faultstring"].as_str().unwrap_or(&text));
        }
        Ok(value)
    }
}
