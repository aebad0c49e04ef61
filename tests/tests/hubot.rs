//! A chat bot's calls, made by the npm client that Hubot's StackStorm adapter uses: commands in, answers out.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::{Api, Node};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

const CLIENT: &str = "st2client@1.2.6";
const LIMIT: Duration = Duration::from_secs(30);

/// The bot's process.
struct Bot {
    _process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Bot {
    fn start(client: &PathBuf, api: &Api, login: &[(&str, &str)]) -> Result<Self> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/chat/bot.js");
        let mut process = Command::new("node")
            .arg(script)
            .env("BOT_CLIENT", client)
            .env("ST2_API_URL", format!("{}/api", api.base))
            .env("ST2_AUTH_URL", format!("{}/auth", api.base))
            .env("ST2_STREAM_URL", format!("{}/stream", api.base))
            .envs(login.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("node can't be started")?;
        let input = process.stdin.take().context("standard input")?;
        let output = BufReader::new(process.stdout.take().context("standard output")?).lines();
        Ok(Self { _process: process, input, output })
    }

    /// What it says next of a kind; anything else before that is dropped.
    async fn hears(&mut self, what: &str) -> Result<Value> {
        let mut before = Vec::new();
        let found = timeout(LIMIT, async {
            while let Some(line) = self.output.next_line().await? {
                let said: Value = serde_json::from_str(&line)?;
                if said["what"] == what {
                    return anyhow::Ok(said);
                }
                before.push(line);
            }
            anyhow::bail!("the bot has ended")
        });
        let found = found.await.map_err(anyhow::Error::from).and_then(|found| found);
        found.with_context(|| format!("the bot doesn't say {what}; before: {before:#?}"))
    }

    async fn says(&mut self, message: &Value) -> Result<()> {
        self.input.write_all(format!("{message}\n").as_bytes()).await?;
        Ok(self.input.flush().await?)
    }
}

/// The client's module, fetched once beside the binaries.
fn client() -> Result<PathBuf> {
    let beside = e2e::binary("squall");
    let dir = beside.parent().and_then(std::path::Path::parent).context("the target directory")?.join("npm-st2client");
    let module = dir.join("node_modules/st2client");
    if !module.exists() {
        std::fs::create_dir_all(&dir)?;
        let install = ["install", "--no-audit", "--no-fund", "--no-save", "--prefix"];
        let done = std::process::Command::new("npm").args(install).arg(&dir).arg(CLIENT).output()?;
        ensure!(done.status.success(), "npm: {}", String::from_utf8_lossy(&done.stderr));
    }
    Ok(module)
}

fn alias(name: &str, action: &str, more: Value) -> Value {
    let mut alias =
        json!({"name": name, "pack": "default", "description": name, "action_ref": action, "enabled": true});
    if let (Some(alias), Value::Object(more)) = (alias.as_object_mut(), more) {
        alias.extend(more);
    }
    alias
}

async fn set_up(api: &Api) -> Result<()> {
    let say = json!({
        "formats": ["say {{ message }}"],
        "ack": {"format": "on it: {{ execution.id }}", "append_url": false},
        "result": {"format": "it said {{ execution.result.stdout }}", "extra": {"slack": {"color": "#123456"}}},
    });
    api.post("/v1/actionalias", &alias("say", "core.echo", say)).await?;
    api.post("/v1/actionalias", &alias("plain", "core.local", json!({"formats": ["run {{ cmd }}"]}))).await?;
    let quiet = json!({"formats": ["whisper {{ message }}"], "ack": {"enabled": false}, "result": {"enabled": false}});
    api.post("/v1/actionalias", &alias("quiet", "core.echo", quiet)).await.map(drop)
}

/// A message as a chat adapter hands it over: large, and nobody else's business.
fn message(command: &str) -> Value {
    json!({
        "command": command, "user": "zoe", "room": "#ops",
        "id": "1699.42", "rawMessage": {"thread": {"ts": "1699.42", "nested": [1, {"a": null}]}, "text": command},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_is_served() -> Result<()> {
    let client = client()?;
    let node = Node::start().await?;
    let api = node.admin().await?;
    set_up(&api).await?;
    let mut bot =
        Bot::start(&client, &api, &[("ST2_AUTH_USERNAME", "st2admin"), ("ST2_AUTH_PASSWORD", node.password())])?;
    assert_eq!(bot.hears("token").await?["user"], "st2admin");
    let names = bot.hears("aliases").await?["names"].as_array().context("a list")?.clone();
    assert!(["say", "plain", "quiet"].iter().all(|name| names.contains(&json!(name))), "{names:?}");
    bot.hears("listening").await?;

    bot.says(&message("say hello there")).await?;
    let started = bot.hears("started").await?["started"].clone();
    let id = started["execution"]["id"].as_str().context("an id")?.to_owned();
    assert_eq!(started["message"], format!("on it: {id}"));
    assert_eq!(started["actionalias"]["ack"]["append_url"], false);
    // The result comes by way of the notification, a rule, and a workflow.
    let said = bot.hears("announcement").await?["payload"].clone();
    assert_eq!((&said["user"], &said["channel"], &said["whisper"]), (&json!("zoe"), &json!("#ops"), &json!(false)));
    assert!(said["message"].as_str().is_some_and(|text| text.starts_with("it said hello there")), "{said:#}");
    assert_eq!(said["extra"]["slack"]["color"], "#123456");
    assert_eq!(said["context"], message("say hello there"), "the chat's own context comes back as it was");

    bot.says(&message("run exit 3")).await?;
    bot.hears("started").await?;
    let failed = bot.hears("announcement").await?["payload"].clone();
    let text = failed["message"].as_str().unwrap_or_default();
    assert!(text.starts_with("Action core.local completed.\nstatus : failed\n"), "{text}");

    bot.says(&message("dance")).await?;
    bot.hears("unknown").await?;
    // The bot's matching ignores case, the server's doesn't.
    bot.says(&message("SAY x")).await?;
    let refused = bot.hears("refused").await?;
    assert_eq!(refused["status"], 400, "{refused}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bots_log_in_by_token_or_key_and_are_told_when_they_may_not() -> Result<()> {
    let client = client()?;
    let node = Node::start().await?;
    let api = node.admin().await?;
    set_up(&api).await?;
    let key = api.post("/v1/apikeys", &json!({"user": "st2admin"})).await?;
    let key = key["key"].as_str().context("a key")?;
    for login in [("ST2_AUTH_TOKEN", api.token.as_str()), ("ST2_API_KEY", key)] {
        let mut bot = Bot::start(&client, &api, &[login])?;
        bot.hears("aliases").await?;
        bot.hears("listening").await?;
        bot.says(&message("say hi")).await?;
        bot.hears("started").await?;
        assert_eq!(bot.hears("announcement").await?["payload"]["user"], "zoe");
    }
    let mut stranger = Bot::start(&client, &api, &[("ST2_AUTH_TOKEN", "nonsense")])?;
    assert_eq!(stranger.hears("failed").await?["status"], 401);
    Ok(())
}
