//! A stranger's pack, installed from a git repository by our `st2`, runs as it is.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::repo::Repo;
use e2e::{Node, NodeOptions, binary};
use serde_json::json;

/// Files of the pack in its first version.
const FILES: &[(&str, &str)] = &[
    (
        "pack.yaml",
        "---\nref: weatherman\nname: Weather Man\ndescription: Forecasts\nkeywords: [weather]\nversion: 1.2.0\n\
         python_versions: [\"3\"]\nauthor: A. Stranger\nemail: a@stranger.example\n",
    ),
    ("requirements.txt", "# nothing beyond what is there\n"),
    (
        "config.schema.yaml",
        "---\ncity:\n  type: string\n  required: true\n  default: Ghent\ntoken:\n  type: string\n  secret: true\n",
    ),
    ("actions/lib/__init__.py", ""),
    ("actions/lib/words.py", "def greet(city):\n    return 'sunny in ' + city\n"),
    (
        "actions/forecast.py",
        "import six\nfrom lib.words import greet\nfrom st2common.runners.base_action import Action\n\n\n\
         class Forecast(Action):\n    def run(self, days):\n        self.logger.info('looking')\n        \
         return (True, {'text': six.text_type(greet(self.config['city'])), 'days': days})\n",
    ),
    (
        "actions/forecast.yaml",
        "---\nname: forecast\nrunner_type: python-script\nentry_point: forecast.py\nparameters:\n  days:\n    \
         type: integer\n    default: 3\n",
    ),
    ("actions/measure.sh", "#!/bin/sh\necho \"degrees=$1\"\n"),
    (
        "actions/measure.yaml",
        "---\nname: measure\nrunner_type: local-shell-script\nentry_point: measure.sh\nparameters:\n  degrees:\n    \
         type: integer\n    required: true\n    position: 0\n",
    ),
    (
        "actions/say.yaml",
        "---\nname: say\nrunner_type: local-shell-cmd\nparameters:\n  what:\n    type: string\n    default: hi\n  cmd:\n    \
         immutable: true\n    default: echo {{ what }}\n",
    ),
    (
        "sensors/storm.py",
        "from st2reactor.sensor.base import PollingSensor\n\n\nclass StormSensor(PollingSensor):\n    \
         def setup(self):\n        pass\n\n    def poll(self):\n        \
         self.sensor_service.dispatch(trigger='weatherman.storm', payload={'strength': 9})\n\n    \
         def cleanup(self):\n        pass\n\n    def add_trigger(self, trigger):\n        pass\n\n    \
         def update_trigger(self, trigger):\n        pass\n\n    def remove_trigger(self, trigger):\n        pass\n",
    ),
    (
        "sensors/storm.yaml",
        "---\nclass_name: StormSensor\nentry_point: storm.py\npoll_interval: 4\ntrigger_types:\n  - name: storm\n    \
         payload_schema:\n      type: object\n      properties:\n        strength:\n          type: integer\n",
    ),
    (
        "rules/warn.yaml",
        "---\nname: warn\nenabled: true\ntrigger:\n  type: weatherman.storm\ncriteria:\n  trigger.strength:\n    \
         type: gt\n    pattern: 5\naction:\n  ref: weatherman.say\n  parameters:\n    \
         what: \"storm {{ trigger.strength }}\"\n",
    ),
    (
        "aliases/forecast.yaml",
        "---\nname: forecast\naction_ref: weatherman.forecast\nformats:\n  - forecast for {{ days }} days\n",
    ),
    (
        "policies/say.yaml",
        "---\nname: say.concurrency\nresource_ref: weatherman.say\npolicy_type: action.concurrency\nparameters:\n  \
         threshold: 2\n",
    ),
];

/// The pack as a repository: 1.2.0 with a tag, then a bad commit, then 1.3.0 on main.
fn repository(root: &Path) -> Result<Repo> {
    let repo = Repo::new(root.join("stackstorm-weatherman"))?;
    for (path, text) in FILES {
        repo.write(path, text)?;
    }
    repo.commit("one")?;
    repo.git(&["tag", "v1.2.0"])?;
    repo.git(&["checkout", "--quiet", "-b", "broken"])?;
    repo.write("rules/worse.yaml", "---\nname: worse\nno_such_key: 1\n")?;
    repo.write("actions/measure.sh", "#!/bin/sh\necho broken\n")?;
    repo.commit("bad")?;
    repo.git(&["checkout", "--quiet", "main"])?;
    repo.write("pack.yaml", &FILES[0].1.replace("1.2.0", "1.3.0"))?;
    repo.write("actions/measure.sh", "#!/bin/sh\necho \"kelvin=$1\"\n")?;
    repo.commit("two")?;
    Ok(repo)
}

fn st2(program: &Path, node: &Node, token: &str, args: &[&str]) -> Result<Output> {
    Ok(Command::new(program)
        .args(args)
        .env("ST2_AUTH_TOKEN", token)
        .env("ST2_API_URL", format!("{}/api/v1", node.base))
        .env("ST2_STREAM_URL", format!("{}/stream/v1", node.base))
        .env("ST2_AUTH_URL", format!("{}/auth", node.base))
        .env("ST2_CONFIG_FILE", node.data_dir.join("no-settings"))
        .output()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_pack_installs_and_runs() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let repo = repository(dir.path())?;
    let node = Node::start_with(NodeOptions::default()).await?;
    std::fs::write(node.data_dir.join("no-settings"), "")?;
    let api = node.admin().await?;
    let token = api.token.clone();
    let address = format!("file://{}=1.2.0", repo.path.display());
    let done = st2(&binary("st2"), &node, &token, &["pack", "install", &address])?;
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    ensure!(done.status.success(), "{text}{}", String::from_utf8_lossy(&done.stderr));
    assert!(text.contains("weatherman") && text.contains("1.2.0"), "{text}");
    // What it did is in its output, the virtualenv's making included.
    let installs = api.get("/v1/executions?action=packs.install&limit=1").await?;
    let id = installs[0]["id"].as_str().unwrap_or_default();
    let output = api.get_raw(&format!("/v1/executions/{id}/output")).await?.text;
    for part in ["cloning", "making the virtualenv of weatherman", "installing the requirements", "registering"] {
        assert!(output.contains(part), "{part} is missing:\n{output}");
    }

    for (action, parameters, pointer, expected) in [
        ("weatherman.forecast", json!({}), "/result/result/text", json!("sunny in Ghent")),
        ("weatherman.measure", json!({"degrees": 21}), "/result/stdout", json!("degrees=21")),
        ("weatherman.say", json!({"what": "hello"}), "/result/stdout", json!("hello")),
    ] {
        let id = api.run(action, parameters).await?;
        let execution = api.finished(&id, Duration::from_secs(60)).await;
        assert_eq!(execution.pointer(pointer), Some(&expected), "{action}: {}", execution["result"]);
    }
    // The sensor's event comes through the rule.
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    loop {
        let fired = api.get("/v1/executions?rule=warn&status=succeeded&limit=1").await?;
        if fired.as_array().is_some_and(|fired| !fired.is_empty()) {
            break;
        }
        if std::time::Instant::now() > deadline {
            let sensor = api.get("/v1/sensortypes/weatherman.StormSensor").await?;
            let events = api.get("/v1/triggerinstances?trigger=weatherman.storm&limit=1").await?;
            panic!("the sensor's event never came through: {sensor} {events}\n{}", node.log());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(api.get("/v1/actionalias/weatherman.forecast").await?["action_ref"], "weatherman.forecast");
    assert_eq!(api.get("/v1/policies/weatherman.say.concurrency").await?["parameters"]["threshold"], 2);

    // A bad revision changes nothing.
    let bad =
        st2(&binary("st2"), &node, &token, &["pack", "install", &format!("file://{}=broken", repo.path.display())])?;
    assert_eq!(bad.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&bad.stdout).contains("no_such_key"), "{}", String::from_utf8_lossy(&bad.stdout));
    let id = api.run("weatherman.measure", json!({"degrees": 5})).await?;
    assert_eq!(api.finished(&id, Duration::from_secs(60)).await["result"]["stdout"], "degrees=5");
    assert_eq!(api.get("/v1/packs/weatherman").await?["version"], "1.2.0");

    // An update is in force at once.
    let id = api.run("packs.install", json!({"packs": [format!("file://{}", repo.path.display())]})).await?;
    let update = api.finished(&id, Duration::from_secs(60)).await;
    assert_eq!(update["result"]["output"]["packs_list"], json!(["weatherman"]), "{}", update["result"]);
    let id = api.run("weatherman.measure", json!({"degrees": 5})).await?;
    assert_eq!(api.finished(&id, Duration::from_secs(60)).await["result"]["stdout"], "kelvin=5");

    let gone = st2(&binary("st2"), &node, &token, &["pack", "remove", "weatherman"])?;
    ensure!(gone.status.success(), "{}", String::from_utf8_lossy(&gone.stdout));
    assert!(api.get("/v1/packs/weatherman").await.is_err());
    assert!(!node.data_dir.join("packs/weatherman").exists());
    Ok(())
}

/// With uv where it is; its virtualenvs serve actions as pip's do.
#[tokio::test(flavor = "multi_thread")]
async fn virtualenvs_are_made_with_uv_where_it_is() -> Result<()> {
    let installed = tokio::task::spawn_blocking(|| e2e::programs("uv-venv", &["uv==0.13.9"])).await??;
    let Some(programs) = installed else { return Ok(()) };
    let dir = tempfile::tempdir()?;
    let repo = repository(dir.path())?;
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default());
    // As pip is told on this machine.
    let find = std::env::var("PIP_FIND_LINKS").unwrap_or_default();
    let settings = dir.path().join("uv.toml");
    std::fs::write(&settings, if find.is_empty() { String::new() } else { format!("find-links = [{find:?}]\n") })?;
    let env = vec![("PATH".to_owned(), path), ("UV_CONFIG_FILE".to_owned(), settings.display().to_string())];
    let node = Node::start_with(NodeOptions { env }).await?;
    let api = node.admin().await?;
    let id = api.run("packs.install", json!({"packs": [format!("file://{}=1.2.0", repo.path.display())]})).await?;
    let done = api.finished(&id, Duration::from_secs(120)).await;
    assert_eq!(done["status"], "succeeded", "{}", done["result"]);
    let output = api.get_raw(&format!("/v1/executions/{id}/output")).await?.text;
    assert!(output.contains("making the virtualenv of weatherman with uv"), "{output}");
    let id = api.run("weatherman.forecast", json!({})).await?;
    let execution = api.finished(&id, Duration::from_secs(60)).await;
    assert_eq!(execution["result"]["result"]["text"], "sunny in Ghent", "{}", execution["result"]);
    Ok(())
}
