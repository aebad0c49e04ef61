//! Where packs come from, and what is refused: nothing changes then.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use e2e::repo::{Repo, manifest, say, write};
use e2e::{Api, Node, NodeOptions};
use serde_json::{Value, json};

const LONG: Duration = Duration::from_secs(120);

/// A server of static files: git's dumb protocol and an index need no more. Ends with the process.
fn serve(root: PathBuf) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = format!("http://{}", listener.local_addr()?);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let root = root.clone();
            std::thread::spawn(move || answer(stream, &root));
        }
    });
    Ok(address)
}

fn answer(stream: TcpStream, root: &Path) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut out = stream;
    loop {
        let mut first = String::new();
        reader.read_line(&mut first).ok().filter(|read| *read > 0)?;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).ok()?;
            if header.trim().is_empty() {
                break;
            }
        }
        let path = first.split(' ').nth(1)?.split('?').next()?.trim_start_matches('/').to_owned();
        let (status, body) = match std::fs::read(root.join(path)) {
            Ok(body) => ("200 OK", body),
            Err(_) => ("404 Not Found", Vec::new()),
        };
        write!(out, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len()).ok()?;
        out.write_all(&body).ok()?;
    }
}

/// Installs; the execution.
async fn install(api: &Api, packs: &[&str], more: Value) -> Result<Value> {
    let mut parameters = json!({"packs": packs});
    for (name, value) in more.as_object().into_iter().flatten() {
        parameters[name] = value.clone();
    }
    let id = api.run("packs.install", parameters).await?;
    Ok(api.finished(&id, LONG).await)
}

async fn installed(api: &Api, packs: &[&str]) -> Result<Value> {
    let done = install(api, packs, json!({})).await?;
    assert_eq!(done["status"], "succeeded", "{packs:?}: {}", done["result"]);
    Ok(done)
}

async fn said(api: &Api, action: &str) -> Result<Value> {
    let id = api.run(action, json!({})).await?;
    Ok(api.finished(&id, LONG).await["result"]["stdout"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn from_everywhere() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let www = dir.path().join("www");
    let repo = Repo::pack(www.join("tools"), "tools", "1.0.0", "one")?;
    repo.git(&["tag", "v1.0.0"])?;
    let first = repo.git(&["rev-parse", "HEAD"])?;
    repo.write("actions/say.yaml", &say("dev"))?;
    repo.git(&["checkout", "--quiet", "-b", "dev"])?;
    repo.commit("dev")?;
    repo.git(&["checkout", "--quiet", "main"])?;
    repo.write("actions/say.yaml", &say("two"))?;
    repo.write("pack.yaml", &manifest("tools", "2.0.0", ""))?;
    repo.commit("two")?;
    repo.git(&["update-server-info"])?;
    let base = serve(www.clone())?;
    let index = json!({"packs": {
        "tools": {"name": "tools", "version": "1.0.0", "repo_url": format!("{base}/tools/.git")},
        "gone": {"name": "gone", "version": "1.0.0", "repo_url": format!("{base}/gone/.git")},
    }});
    std::fs::write(www.join("index.json"), index.to_string())?;
    let urls = json!(["file:///nowhere/index.json", format!("{base}/index.json")]).to_string();
    let own = nix::unistd::Group::from_gid(nix::unistd::getgid())?.context("a group")?;
    let env =
        vec![("SQUALL_CONTENT__INDEX_URLS".to_owned(), urls), ("SQUALL_CONTENT__PACK_GROUP".to_owned(), own.name)];
    let node = Node::start_with(NodeOptions { env }).await?;
    let api = node.admin().await?;

    let file = repo.source();
    let http = format!("{base}/tools/.git");
    for (source, version, word) in [
        (file.clone(), "2.0.0", "two"),
        (format!("{file}=1.0.0"), "1.0.0", "one"),
        (format!("{file}=v1.0.0"), "1.0.0", "one"),
        (format!("{file}=dev"), "1.0.0", "dev"),
        (format!("{file}={first}"), "1.0.0", "one"),
        (http.clone(), "2.0.0", "two"),
        (format!("{http}=dev"), "1.0.0", "dev"),
        ("tools".to_owned(), "1.0.0", "one"),
        ("tools=main".to_owned(), "2.0.0", "two"),
    ] {
        let done = installed(&api, &[&source]).await?;
        assert_eq!(done["result"]["output"]["packs_list"], json!(["tools"]), "{source}");
        assert_eq!(api.get("/v1/packs/tools").await?["version"], version, "{source}");
        assert_eq!(said(&api, "tools.say").await?, word, "{source}");
    }
    // The same commit is the same content, however often it is fetched; what somebody did to its files is undone.
    installed(&api, &[&file]).await?;
    let actions = node.data_dir.join("packs/tools/actions");
    let mode = std::fs::metadata(&actions)?.permissions().mode();
    assert_eq!(mode & 0o2070, 0o2070, "it is the group's: {mode:o}");
    std::fs::write(actions.join("say.yaml"), say("edited by hand"))?;
    installed(&api, &[&file]).await?;
    assert_eq!(said(&api, "tools.say").await?, "two");
    let before = api.get("/v1/packs/tools/nodes").await?;
    installed(&api, &[&format!("{file}=main")]).await?;
    let after = api.get("/v1/packs/tools/nodes").await?;
    assert_eq!(before["content"], after["content"]);
    assert_eq!(after["nodes"][0]["state"], "ready");
    assert_eq!(after["nodes"].as_array().map(Vec::len), Some(1));

    // A plain directory, several at once, one of them not to be had.
    let plain = dir.path().join("plain");
    write(&plain, "pack.yaml", &manifest("plain", "1.0.0", ""))?;
    write(&plain, "actions/say.yaml", &say("plain"))?;
    let plain = plain.display().to_string();
    let done = installed(&api, &[&plain, "gone", &format!("{file}=1.0.0"), "unheard_of"]).await?;
    let output = &done["result"]["output"];
    assert_eq!(output["packs_list"], json!(["plain", "tools"]));
    let warnings = output["warning_list"].to_string();
    assert!(warnings.contains("gone") && warnings.contains("No record of the \\\"unheard_of\\\" pack"), "{warnings}");
    assert_eq!(said(&api, "plain.say").await?, "plain");

    let unknown = install(&api, &[&format!("{file}=9.9.9")], json!({})).await?;
    assert_eq!(unknown["status"], "failed");
    let text = unknown["result"].to_string();
    assert!(text.contains("is not a valid version, hash, tag or branch") && text.contains("1.0.0"), "{text}");

    // Another revision of one action, while the pack stays as it is.
    let id = api.run("packs.uninstall", json!({"packs": ["tools", "plain"]})).await?;
    assert_eq!(api.finished(&id, LONG).await["status"], "succeeded");
    for pack in ["tools", "plain"] {
        assert!(api.get(&format!("/v1/packs/{pack}")).await.is_err());
        assert!(api.get(&format!("/v1/actions/{pack}.say")).await.is_err());
        assert!(std::fs::symlink_metadata(node.data_dir.join("packs").join(pack)).is_err());
    }
    for system in ["core", "packs", "linux", "chatops"] {
        let id = api.run("packs.uninstall", json!({"packs": [system]})).await?;
        assert_eq!(api.finished(&id, LONG).await["status"], "failed");
        assert_eq!(api.get(&format!("/v1/packs/{system}")).await?["ref"], system);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_at_another_revision() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let repo = Repo::new(dir.path().join("ages"))?;
    repo.write("pack.yaml", &manifest("ages", "1.0.0", ""))?;
    repo.write("actions/word.yaml", "name: word\nrunner_type: local-shell-script\nentry_point: word.sh\n")?;
    repo.write("actions/word.sh", "#!/bin/sh\necho old\n")?;
    repo.write("actions/calc.yaml", "name: calc\nrunner_type: python-script\nentry_point: calc.py\n")?;
    let python = "from st2common.runners.base_action import Action\nfrom words import WORD\n\n\n\
                  class Calc(Action):\n    def run(self):\n        return WORD\n";
    repo.write("actions/calc.py", python)?;
    repo.write("actions/lib/__init__.py", "")?;
    repo.write("actions/lib/words.py", "WORD = 'old'\n")?;
    repo.commit("one")?;
    repo.git(&["tag", "v1.0.0"])?;
    let first = repo.git(&["rev-parse", "--short", "HEAD"])?;
    repo.write("actions/word.sh", "#!/bin/sh\necho new\n")?;
    repo.write("actions/lib/words.py", "WORD = 'new'\n")?;
    repo.commit("two")?;
    let node = Node::start().await?;
    let api = node.admin().await?;
    installed(&api, &[&repo.source()]).await?;
    for (version, word) in
        [(None, "new"), (Some("v1.0.0"), "old"), (Some(first.as_str()), "old"), (Some("main"), "new")]
    {
        for (action, pointer) in [("ages.word", "/result/stdout"), ("ages.calc", "/result/result")] {
            let parameters = version.map_or(json!({}), |version| json!({"content_version": version}));
            let id = api.run(action, parameters).await?;
            let execution = api.finished(&id, LONG).await;
            assert_eq!(
                execution.pointer(pointer),
                Some(&json!(word)),
                "{action} at {version:?}: {}",
                execution["result"]
            );
        }
    }
    for version in ["no-such", "--help", "HEAD; id"] {
        let id = api.run("ages.word", json!({"content_version": version})).await?;
        let execution = api.finished(&id, LONG).await;
        let text = execution["result"].to_string();
        assert_eq!(execution["status"], "failed", "{text}");
        assert!(
            text.contains("Failed to create git worktree for pack") && text.contains("Invalid content_version"),
            "{text}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn dependencies_come_first_and_conflicts_are_told() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let base = Repo::pack(dir.path().join("stackstorm-base"), "base", "1.0.0", "base")?;
    base.git(&["tag", "v1.0.0"])?;
    base.write("pack.yaml", &manifest("base", "1.1.0", ""))?;
    base.commit("more")?;
    base.git(&["tag", "v1.1.0"])?;
    let middle = Repo::pack(dir.path().join("middle"), "middle", "1.0.0", "middle")?;
    middle.write("pack.yaml", &manifest("middle", "1.0.0", &format!("dependencies: ['{}=1.0.0']\n", base.source())))?;
    middle.commit("needs")?;
    let top = Repo::pack(dir.path().join("top"), "top", "1.0.0", "top")?;
    let needs = format!("dependencies: [core, '{}']\n", middle.source());
    top.write("pack.yaml", &manifest("top", "1.0.0", &needs))?;
    // Its rule names a trigger type that comes with what it depends on.
    top.write("rules/r.yaml", "name: r\nenabled: true\ntrigger: {type: base.happened}\naction: {ref: top.say}\n")?;
    top.commit("needs")?;
    base.git(&["checkout", "--quiet", "v1.0.0"])?;
    base.write("triggers/happened.yaml", "name: happened\npayload_schema: {type: object}\n")?;
    base.commit("trigger")?;
    base.git(&["tag", "--force", "v1.0.0"])?;
    let node = Node::start().await?;
    let api = node.admin().await?;
    let alone = install(&api, &[&top.source()], json!({"skip_dependencies": true})).await?;
    println!("without what it depends on: {} {}", alone["status"], alone["result"]);
    let done = installed(&api, &[&top.source()]).await?;
    let list: BTreeSet<&str> =
        done["result"]["output"]["packs_list"].as_array().context("a list")?.iter().filter_map(Value::as_str).collect();
    assert_eq!(list, BTreeSet::from(["base", "middle", "top"]), "{}", done["result"]);
    assert_eq!(api.get("/v1/packs/base").await?["version"], "1.0.0");
    let other = Repo::pack(dir.path().join("other"), "other", "1.0.0", "other")?;
    other.write("pack.yaml", &manifest("other", "1.0.0", &format!("dependencies: ['{}=1.1.0']\n", base.source())))?;
    other.commit("needs")?;
    let conflict = install(&api, &[&other.source()], json!({})).await?;
    assert_eq!(conflict["status"], "failed");
    assert!(conflict["result"].to_string().contains("version 1.0.0 is installed"), "{}", conflict["result"]);
    assert!(api.get("/v1/packs/other").await.is_err());
    assert_eq!(api.get("/v1/packs/base").await?["version"], "1.0.0");
    Ok(())
}

/// All that installing could change.
async fn everything(api: &Api, node: &Node) -> Result<Value> {
    let mut found = json!({});
    for path in ["packs", "actions", "rules", "sensortypes", "triggertypes", "actionalias", "policies", "configs"] {
        found[path] = api.get(&format!("/v1/{path}?limit=-1")).await?;
    }
    for below in ["packs", "packs/.content", "virtualenvs", "virtualenvs/.envs"] {
        let entries = std::fs::read_dir(node.data_dir.join(below)).into_iter().flatten().flatten();
        let names = entries.map(|entry| {
            let target = std::fs::read_link(entry.path()).map(|target| target.display().to_string());
            format!("{} {}", entry.file_name().to_string_lossy(), target.unwrap_or_default())
        });
        // Drafts are removed in the background; locks of builds stay.
        let names: BTreeSet<String> = names
            .filter(|name| ![".staging", ".envs"].iter().any(|own| name.starts_with(own)) && !name.contains(".lock"))
            .collect();
        found[format!("below {below}")] = json!(names);
    }
    Ok(found)
}

/// Makes one pack that must not get in, in this directory.
type Make = fn(&Path) -> Result<()>;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_changes_nothing() -> Result<()> {
    let hostile: &[(&str, Make, &str)] = &[
        ("no manifest", |_| Ok(()), "missing the manifest"),
        (
            "a ref that leads elsewhere",
            |p| write(p, "pack.yaml", &manifest("../evil", "1.0.0", "")),
            "can't be a pack's ref",
        ),
        ("a system pack's ref", |p| write(p, "pack.yaml", &manifest("core", "9.0.0", "")), "system pack"),
        ("no version", |p| write(p, "pack.yaml", &manifest("bad", "1.0", "")), "semver"),
        ("a broken action", |p| write(p, "actions/a.yaml", "name: a\nrunner_type: no-such\n"), "no-such"),
        ("a key that isn't known", |p| write(p, "rules/a.yaml", "name: a\nno_such_key: 1\n"), "no_such_key"),
        ("broken YAML", |p| write(p, "actions/a.yaml", "name: [\n"), "a.yaml"),
        ("a YAML bomb", |p| write(p, "actions/a.yaml", &bomb()), "aliases"),
        ("deep YAML", |p| write(p, "actions/a.yaml", &format!("name: {}", "[".repeat(100_000))), "a.yaml"),
        (
            "an object of YAML's",
            |p| write(p, "actions/a.yaml", "name: !!python/object/apply:os.system [id]\n"),
            "a.yaml",
        ),
        ("a link to elsewhere", |p| Ok(symlink("/etc/passwd", p.join("leak"))?), "leaves the pack"),
        (
            "a manifest elsewhere",
            |p| {
                std::fs::remove_file(p.join("pack.yaml"))?;
                Ok(symlink("../../../../etc/hostname", p.join("pack.yaml"))?)
            },
            "leaves the pack",
        ),
        ("a file that fills the disk", |p| Ok(std::fs::File::create(p.join("big"))?.set_len(1 << 40)?), "bytes"),
        ("directories without end", |p| Ok(std::fs::create_dir_all(p.join("a/".repeat(60)))?), "nested deeper"),
        ("a pipe", |p| Ok(nix::unistd::mkfifo(&p.join("pipe"), nix::sys::stat::Mode::S_IRWXU)?), "neither a file"),
        (
            "for another StackStorm",
            |p| write(p, "pack.yaml", &manifest("bad", "1.0.0", "stackstorm_version: '>=9.0.0'\n")),
            "requires StackStorm",
        ),
        ("requirements that aren't there", |p| write(p, "requirements.txt", "./no-such-package\n"), "requirements"),
    ];
    let dir = tempfile::tempdir()?;
    let node = Node::start().await?;
    let api = node.admin().await?;
    let good = Repo::pack(dir.path().join("good"), "bad", "0.1.0", "kept")?;
    for is_there in [false, true] {
        if is_there {
            installed(&api, &[&good.source()]).await?;
        }
        let before = everything(&api, &node).await?;
        for (number, (name, make, expected)) in hostile.iter().enumerate() {
            let pack = dir.path().join(format!("{is_there}-{number}"));
            if *name != "no manifest" {
                write(&pack, "pack.yaml", &manifest("bad", "1.0.0", ""))?;
            } else {
                std::fs::create_dir_all(&pack)?;
            }
            make(&pack)?;
            let done = install(&api, &[&pack.display().to_string()], json!({})).await?;
            let text = done["result"].to_string();
            assert_eq!(done["status"], "failed", "{name}: {text}");
            assert!(text.contains(expected), "{name}: {text}");
            let now = everything(&api, &node).await?;
            for (what, before) in before.as_object().context("an object")? {
                assert_eq!(now.get(what), Some(before), "{name}: {what}");
            }
        }
    }
    assert_eq!(said(&api, "bad.say").await?, "kept");
    // Small to fetch, large to write: 300 MB of nothing.
    let bomb = Repo::pack(dir.path().join("bomb"), "bomb", "1.0.0", "boom")?;
    std::fs::File::create(bomb.path.join("zeros"))?.set_len(300 << 20)?;
    bomb.git(&["-c", "core.compression=1", "add", "-A"])?;
    bomb.commit("zeros")?;
    let done = install(&api, &[&bomb.source()], json!({})).await?;
    assert!(done["result"].to_string().contains("more than 268435456 bytes"), "{}", done["result"]);
    assert!(api.get("/v1/packs/bomb").await.is_err());
    Ok(())
}

/// A small text that stands for a billion words.
fn bomb() -> String {
    let mut text = "name: a\nrunner_type: noop\na: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (one, two) in "abcdefgh".chars().zip("bcdefghi".chars()) {
        let items = vec![format!("*{one}"); 10].join(", ");
        text.push_str(&format!("{two}: &{two} [{items}]\n"));
    }
    text
}
