//! Sign-on at an identity provider: a real one from PyPI, and a browser's requests made one by one.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::{Api, Node, NodeOptions, eventually};
use reqwest::header::{COOKIE, LOCATION, REFERER, SET_COOKIE};
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};

const PROVIDER: &str = "oidc-provider-mock==0.3.4";
/// The node's port isn't known before it starts; a front end's address is not its own either.
const PUBLIC: &str = "http://127.0.0.1:1";

/// A provider that knows Ana, of the group `ops`, and Bob, of none.
struct Provider {
    child: Child,
    port: u16,
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Provider {
    async fn start(port: u16) -> Result<Option<Self>> {
        let installed = tokio::task::spawn_blocking(|| e2e::programs("oidc-venv", &[PROVIDER])).await??;
        let Some(programs) = installed else { return Ok(None) };
        let ana = json!({"sub": "ana", "preferred_username": "ana", "groups": ["ops", "all"]});
        let bob = json!({"sub": "bob", "preferred_username": "bob", "groups": ["all"]});
        let child = Command::new(programs.join("oidc-provider-mock"))
            .args(["--port", &port.to_string(), "--require-nonce"])
            .args(["--user-claims", &ana.to_string(), "--user-claims", &bob.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let provider = Self { child, port };
        let client = browser()?;
        let described = format!("{}/.well-known/openid-configuration", provider.issuer());
        eventually("the provider answers", Duration::from_secs(30), || async {
            client.get(&described).send().await.ok().filter(|answer| answer.status() == 200).map(|_| ())
        })
        .await;
        Ok(Some(provider))
    }

    fn issuer(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

/// Follows nothing by itself.
fn browser() -> Result<Client> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Ok(Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build()?)
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn header(answer: &Response, name: reqwest::header::HeaderName) -> Result<String> {
    let value = answer.headers().get(&name).with_context(|| format!("{} has no {name}", answer.status()))?;
    Ok(value.to_str()?.to_owned())
}

/// A sign-on under way: the cookie, and the address at the provider.
async fn begin(client: &Client, base: &str, from: &str) -> Result<(String, String)> {
    let answer = client.get(format!("{base}/auth/v1/sso/request")).header(REFERER, from).send().await?;
    ensure!(answer.status() == StatusCode::TEMPORARY_REDIRECT, "{}", answer.status());
    let cookie = header(&answer, SET_COOKIE)?;
    ensure!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"), "{cookie}");
    Ok((cookie.split(';').next().unwrap_or_default().to_owned(), header(&answer, LOCATION)?))
}

/// Consents at the provider, and returns where it sends the browser, at the node's real address.
async fn consent(client: &Client, at: &str, who: &str, base: &str) -> Result<String> {
    let answer = client.post(at).form(&[("sub", who)]).send().await?;
    ensure!(answer.status().is_redirection(), "{}: {}", answer.status(), answer.text().await?);
    let back = header(&answer, LOCATION)?;
    ensure!(back.starts_with(&format!("{PUBLIC}/auth/v1/sso/callback?")), "{back}");
    Ok(back.replace(PUBLIC, base))
}

async fn come_back(client: &Client, url: &str, cookie: &str) -> Result<Response> {
    Ok(client.get(url).header(COOKIE, cookie).send().await?)
}

/// The token in the cookie for the UI.
fn token_of(answer: &Response) -> Result<Value> {
    let cookies = answer.headers().get_all(SET_COOKIE).iter().filter_map(|value| value.to_str().ok());
    let cookie = cookies.filter_map(|cookie| cookie.strip_prefix("st2-auth-token=")).next().context("no token")?;
    let encoded = cookie.split(';').next().unwrap_or_default();
    let (_, decoded) = url::form_urlencoded::parse(format!("x={encoded}").as_bytes())
        .next()
        .map(|(key, value)| (key.into_owned(), value.into_owned()))
        .context("an encoded value")?;
    Ok(serde_json::from_str(&decoded)?)
}

async fn node(provider: &Provider, more: &[(&str, &str)]) -> Result<Node> {
    let mut env = vec![
        ("SQUALL_AUTH__OIDC__ISSUER".to_owned(), provider.issuer()),
        ("SQUALL_AUTH__OIDC__CLIENT_ID".to_owned(), "squall".to_owned()),
        ("SQUALL_AUTH__OIDC__CLIENT_SECRET".to_owned(), "not-known-to-browsers".to_owned()),
        ("SQUALL_AUTH__OIDC__REDIRECT_URL".to_owned(), format!("{PUBLIC}/auth/v1/sso/callback")),
        ("SQUALL_AUTH__OIDC__GROUPS_CLAIM".to_owned(), "groups".to_owned()),
    ];
    env.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    Node::start_with(NodeOptions { env }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn people_sign_on_and_get_the_roles_of_their_groups() -> Result<()> {
    let Some(provider) = Provider::start(free_port()?).await? else { return Ok(()) };
    let mut node = node(&provider, &[]).await?;
    let client = browser()?;
    let enabled: Value = client.get(format!("{}/auth/v1/sso", node.base)).send().await?.json().await?;
    ensure!(enabled["enabled"] == true, "{enabled}");

    let (cookie, at) = begin(&client, &node.base, "http://127.0.0.1:8080/ui/#/rules").await?;
    ensure!(at.starts_with(&provider.issuer()) && at.contains("code_challenge_method=S256"), "{at}");
    // Another process, as another node would be, takes the way back.
    node.kill();
    node.restart().await?;
    let back = consent(&client, &at, "ana", &node.base).await?;
    let answer = come_back(&client, &back, &cookie).await?;
    ensure!(answer.status() == 200, "{}", answer.status());
    let token = token_of(&answer)?;
    ensure!(token["user"] == "ana", "{token}");
    // A page of an origin that is allowed.
    ensure!(answer.text().await?.contains("url=http://127.0.0.1:8080/ui/#/rules\""));
    let mut api = Api::anonymous(&node.base);
    api.token = token["token"].as_str().context("a token")?.to_owned();
    ensure!(api.get("/v1/user").await?["username"] == "ana");

    // The same code again, in the same browser.
    ensure!(come_back(&client, &back, &cookie).await?.status() == 401);
    // Pages of others aren't led back to.
    let (cookie, at) = begin(&client, &node.base, "https://evil.example/steal").await?;
    let back = consent(&client, &at, "bob", &node.base).await?;
    let page = come_back(&client, &back, &cookie).await?.text().await?;
    ensure!(page.contains(&format!("url={PUBLIC}/\"")) && !page.contains("evil"), "{page}");
    ensure!(!node.log().contains("not-known-to-browsers"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_bring_roles() -> Result<()> {
    let Some(provider) = Provider::start(free_port()?).await? else { return Ok(()) };
    let more = [("SQUALL_RBAC__ENABLE", "true"), ("SQUALL_RBAC__SYNC_REMOTE_GROUPS", "true")];
    let node = node(&provider, &more).await?;
    let folder = node.data_dir.join("definitions");
    for (file, text) in [
        ("assignments/a.yaml", "---\nusername: st2admin\nroles: [system_admin]\n"),
        ("mappings/ops.yaml", "---\ngroup: ops\nroles: [observer]\n"),
    ] {
        let path = folder.join(file);
        std::fs::create_dir_all(path.parent().context("a folder")?)?;
        std::fs::write(path, text)?;
    }
    let applied = Command::new(e2e::binary("squall"))
        .args(["rbac", "apply", "--dir"])
        .arg(&folder)
        .arg("--data-dir")
        .arg(&node.data_dir)
        .output()?;
    ensure!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    let client = browser()?;
    for (who, expected) in [("ana", 200), ("bob", 403)] {
        let (cookie, at) = begin(&client, &node.base, &node.base).await?;
        let answer = come_back(&client, &consent(&client, &at, who, &node.base).await?, &cookie).await?;
        let mut api = Api::anonymous(&node.base);
        api.token = token_of(&answer)?["token"].as_str().context("a token")?.to_owned();
        eventually(&format!("{who} gets {expected}"), Duration::from_secs(10), || async {
            let reply = api.call(reqwest::Method::GET, "/v1/rules", None).await.ok()?;
            (reply.status == expected).then_some(())
        })
        .await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_belong_together_is_refused() -> Result<()> {
    let Some(provider) = Provider::start(free_port()?).await? else { return Ok(()) };
    let node = node(&provider, &[("SQUALL_AUTH__OIDC__ALLOWED_GROUPS", "[\"ops\"]")]).await?;
    let client = browser()?;
    let (cookie, at) = begin(&client, &node.base, "").await?;
    let back = consent(&client, &at, "ana", &node.base).await?;
    let (other, _) = begin(&client, &node.base, "").await?;
    let state = back.split("state=").nth(1).and_then(|rest| rest.split('&').next()).context("a state")?;
    for (url, cookie, why) in [
        (back.clone(), "", "no cookie"),
        (back.clone(), other.as_str(), "another browser's sign-on"),
        (back.clone(), "squall-sign-on=e30.AAAA", "a forged cookie"),
        (back.replace(state, "another"), &cookie, "another state"),
        (back.replace("code=", "code=x"), &cookie, "another code"),
        (format!("{}/auth/v1/sso/callback?error=access_denied&state={state}", node.base), &cookie, "no consent"),
        (format!("{}/auth/v1/sso/callback", node.base), &cookie, "nothing"),
    ] {
        let answer = come_back(&client, &url, cookie).await?;
        ensure!(answer.status() == 401, "{why}: {}", answer.status());
        ensure!(answer.headers().get(SET_COOKIE).is_none(), "{why}");
    }
    // Bob is in none of the groups.
    let (cookie, at) = begin(&client, &node.base, "").await?;
    let back = consent(&client, &at, "bob", &node.base).await?;
    ensure!(come_back(&client, &back, &cookie).await?.status() == 401);
    let api = node.admin().await?;
    let users = api.get("/v1/user").await?;
    ensure!(users["username"] == "st2admin", "passwords go on working: {users}");

    let (cookie, at) = begin(&client, &node.base, "").await?;
    let back = consent(&client, &at, "ana", &node.base).await?;
    drop(provider);
    ensure!(come_back(&client, &back, &cookie).await?.status() == 503, "the provider is away");
    Ok(())
}
