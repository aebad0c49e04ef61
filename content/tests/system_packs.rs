//! The system packs, and packs that ran on StackStorm, register on a real store as they are.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bus::local::LocalBus;
use content::{BootstrapOptions, ContentError, Kind, RegisterRequest, bootstrap, register};
use domain::{Services, Settings};
use model::{Action, Object, Resource, Rule, SystemClock, Trigger};
use serde_json::Value;
use store::sqlite::{SqliteOptions, SqliteStore};
use store::{Query, StoreExt};

struct Bench {
    services: Arc<Services>,
    dir: tempfile::TempDir,
}

fn workspace() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn shared() -> Option<PathBuf> {
    let path = std::env::var_os("SQUALL_SHARED").map_or_else(|| workspace().join("../shared"), PathBuf::from);
    if path.join("data").is_dir() {
        return Some(path);
    }
    eprintln!("SKIPPED: recorded data isn't at {} (set SQUALL_SHARED)", path.display());
    None
}

impl Bench {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("packs")).unwrap();
        let store = SqliteStore::open(SqliteOptions::new(dir.path().join("store.db"))).await.unwrap();
        let settings = Settings {
            pack_dirs: vec![workspace().join("packs"), dir.path().join("packs")],
            base_path: dir.path().to_owned(),
            ..Settings::default()
        };
        let bus = Arc::new(LocalBus::default());
        Self {
            services: Services::new(
                Arc::new(store),
                bus,
                Arc::new(coordinator::LocalCoordinator::new()),
                Arc::new(SystemClock),
                settings,
                None,
            ),
            dir,
        }
    }

    async fn bootstrapped() -> Self {
        let bench = Self::new().await;
        bootstrap(&bench.services, &bench.options()).await.unwrap();
        bench
    }

    fn options(&self) -> BootstrapOptions {
        BootstrapOptions { system_packs_dir: workspace().join("packs"), data_dir: self.dir.path().to_owned() }
    }

    fn pack(&self, name: &str, files: &[(&str, &str)]) {
        let dir = self.dir.path().join("packs").join(name);
        let manifest = "description: d\nversion: 1.0.0\nauthor: a\n";
        write(&dir.join("pack.yaml"), &format!("name: {name}\n{manifest}"));
        for (path, text) in files {
            write(&dir.join(path), text);
        }
    }

    async fn register(&self, names: &[&str]) -> Result<Object, ContentError> {
        let packs = Some(names.iter().map(|name| (*name).to_owned()).collect());
        let request = RegisterRequest { packs, kinds: None, fail_on_failure: true };
        register(&self.services, &request).await.map(|counts| counts.to_api())
    }
}

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

#[tokio::test]
async fn registering_again_writes_nothing() {
    let bench = Bench::bootstrapped().await;
    let before = bench.services.store.search::<Action>(&Query::all()).await.unwrap();
    assert!(before.iter().any(|action| action.reference == "core.noop"));
    let rules = bench.services.store.search::<Rule>(&Query::all()).await.unwrap();
    let triggers = bench.services.store.search::<Trigger>(&Query::all()).await.unwrap();
    std::fs::remove_file(bench.dir.path().join("registered-content")).unwrap();
    bootstrap(&bench.services, &bench.options()).await.unwrap();
    assert_eq!(bench.services.store.search::<Action>(&Query::all()).await.unwrap(), before);
    assert_eq!(bench.services.store.search::<Rule>(&Query::all()).await.unwrap(), rules);
    assert_eq!(bench.services.store.search::<Trigger>(&Query::all()).await.unwrap(), triggers);
}

/// Three nodes of a cluster start at the same moment, each with directories and caches of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nodes_that_start_together_register_the_same_packs() {
    let first = Bench::new().await;
    let mut starts = tokio::task::JoinSet::new();
    let mut dirs = Vec::new();
    for _ in 0..3 {
        let dir = tempfile::tempdir().unwrap();
        let options = BootstrapOptions { data_dir: dir.path().to_owned(), ..first.options() };
        dirs.push(dir);
        let services = Services::new(
            first.services.store.clone(),
            Arc::new(LocalBus::default()),
            first.services.coordinator.clone(),
            Arc::new(SystemClock),
            first.services.settings.clone(),
            None,
        );
        starts.spawn(async move { bootstrap(&services, &options).await });
    }
    for start in starts.join_all().await {
        start.unwrap();
    }
    let together: Vec<_> = first.services.store.search::<Action>(&Query::all()).await.unwrap();
    let alone = Bench::bootstrapped().await.services.store.search::<Action>(&Query::all()).await.unwrap();
    let refs = |actions: &[model::Versioned<Action>]| -> std::collections::BTreeSet<String> {
        actions.iter().map(|action| action.reference.clone()).collect()
    };
    assert_eq!((together.len(), refs(&together)), (alone.len(), refs(&alone)));
}

#[tokio::test]
async fn system_packs_are_as_recorded() {
    let Some(shared) = shared() else { return };
    let bench = Bench::bootstrapped().await;
    let mut recorded = Vec::new();
    for group in ["actions", "executions", "extras"] {
        for entry in std::fs::read_dir(shared.join("data/golden").join(group)).unwrap() {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            let Ok(exchange) = serde_json::from_str::<Value>(&text) else { continue };
            collect(&exchange["response"]["body"], &mut recorded);
        }
    }
    let mut compared = 0;
    for theirs in recorded
        .iter()
        .filter(|action| ["core", "examples", "linux", "chatops", "packs"].iter().any(|pack| action["pack"] == *pack))
    {
        let reference = theirs["ref"].as_str().unwrap();
        let found = bench.services.store.first::<Action>(&Query::eq("ref", reference)).await.unwrap();
        let ours = found.unwrap_or_else(|| panic!("{reference} is missing")).doc.to_api();
        for (field, value) in theirs.as_object().unwrap() {
            let ours = ours.get(field);
            // What the node does itself has no file, and says in its own words what it is.
            if native(reference) && ["entry_point", "description", "parameters"].contains(&field.as_str()) {
                let plain = |value: Option<&Value>| value.map(without_descriptions);
                assert!(field != "parameters" || plain(ours) == plain(Some(value)), "{reference}: {field}");
            } else if field != "id" {
                assert_eq!(ours, Some(value), "{reference}: {field}");
            }
        }
        compared += 1;
    }
    assert!(compared > 100, "{compared} compared");
}

/// Actions that the node does itself: they need no file.
fn native(reference: &str) -> bool {
    reference == "chatops.format_execution_result"
        || reference.starts_with("packs.") && !["packs.load", "packs.get", "packs.get_config"].contains(&reference)
}

fn without_descriptions(parameters: &Value) -> Value {
    let mut parameters = parameters.clone();
    for parameter in parameters.as_object_mut().into_iter().flat_map(|all| all.values_mut()) {
        parameter.as_object_mut().unwrap().remove("description");
    }
    parameters
}

/// Whole actions in an answer: those with all of their fields.
fn collect(value: &Value, found: &mut Vec<Value>) {
    match value {
        Value::Object(object) => {
            // Overviews have the runner's parameters mixed in; they are no actions as registered.
            let whole = ["ref", "entry_point", "metadata_file", "output_schema", "notify", "parameters"];
            let mixed = object.get("parameters").is_some_and(|p| p.get("kwarg_op").is_some() && p.get("cwd").is_some());
            if whole.iter().all(|field| object.contains_key(*field))
                && !mixed
                && object["name"] == object["uid"].as_str().unwrap_or_default().rsplit(':').next().unwrap_or_default()
            {
                found.push(value.clone());
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        _ => {}
    }
}

/// What an action's metadata names is there; what Python runs is Python.
#[tokio::test]
async fn entry_points_exist_and_compile() {
    let bench = Bench::bootstrapped().await;
    let python = std::process::Command::new("python3").arg("--version").output().is_ok();
    if !python {
        eprintln!("python3 is missing: files are not compiled");
    }
    for action in bench.services.store.search::<Action>(&Query::all()).await.unwrap() {
        if action.entry_point.is_empty() || native(&action.reference) {
            continue;
        }
        let path = workspace().join("packs").join(&action.pack).join("actions").join(&action.entry_point);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        if action.entry_point.ends_with(".yaml") {
            model::yaml::load(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        } else if python && action.entry_point.ends_with(".py") {
            let code = "import ast, sys; ast.parse(open(sys.argv[1], encoding='utf-8').read())";
            let parsed = std::process::Command::new("python3").args(["-c", code]).arg(&path).output().unwrap();
            assert!(parsed.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&parsed.stderr));
        }
    }
}

#[tokio::test]
async fn packs_that_ran_on_stackstorm_register_unchanged() {
    let Some(shared) = shared() else { return };
    let bench = Bench::bootstrapped().await;
    let packs = bench.dir.path().join("packs");
    for (source, name) in [("data/golden-pack", "golden"), ("tools/bench-pack", "bench")] {
        let status = std::process::Command::new("cp").arg("-r").arg(shared.join(source)).arg(packs.join(name)).status();
        assert!(status.unwrap().success());
    }
    let counts = Value::Object(bench.register(&["golden"]).await.unwrap());
    let text = std::fs::read_to_string(shared.join("data/golden/packs/015-register-golden.json")).unwrap();
    let recorded: Value = serde_json::from_str(&text).unwrap();
    let expected = &recorded["response"]["body"];
    for (kind, count) in expected.as_object().unwrap() {
        // The recorded pack had an action more, made by an earlier test.
        if kind != "actions" {
            assert_eq!(counts.get(kind), Some(count), "{kind}: {counts}");
        }
    }
    bench.register(&["bench"]).await.unwrap();
    let rule = bench.services.store.first::<Rule>(&Query::eq("ref", "golden.evt_to_echo")).await.unwrap().unwrap();
    assert_eq!(rule.trigger, "golden.evt");
}

#[tokio::test]
async fn errors_name_the_file_and_the_field() {
    let bench = Bench::bootstrapped().await;
    let noop = "name: a\nrunner_type: noop\n";
    for (name, files, expected) in [
        (
            "p1",
            vec![("actions/a.yaml", "runner_type: noop\n")],
            "actions/a.yaml\" from pack \"p1\": 'name' is a required property",
        ),
        ("p2", vec![("actions/a.yaml", "name: a\nrunner_type: nope\n")], "RunnerType nope is not found"),
        ("p3", vec![("actions/a.yaml", "name: a\nrunner_type: noop\ncolour: red\n")], "('colour' was unexpected)"),
        ("p4", vec![("rules/r.yaml", "name: r\ntrigger: {type: x.y}\naction: {ref: core.noop}\n")], "rules/r.yaml"),
        ("p5", vec![("actions/a.yaml", "name: [\n")], "line"),
        (
            "p6",
            vec![("actions/a.yaml", "name: a\nrunner_type: noop\npack: other\n")],
            "field \"pack\" is different: other",
        ),
        ("p7", vec![("actions/a.yaml", "name: a\nrunner_type: python-script\nentry_point: ../../x.py\n")], "outside"),
        ("p8", vec![("config.schema.yaml", ""), ("actions/a.yaml", noop)], "is empty and invalid"),
        (
            "p9",
            vec![("policies/p.yaml", "name: p\nresource_ref: core.noop\npolicy_type: action.nope\n")],
            "doesnt exist",
        ),
    ] {
        bench.pack(name, &files);
        let error = bench.register(&[name]).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{name}: {error}");
    }
    let error = bench.register(&["nope"]).await.unwrap_err().to_string();
    assert!(error.starts_with("Pack \"nope\" not found on disk"), "{error}");
    // What is good in a bad pack is registered where bad files are tolerated.
    bench.pack("mixed", &[("actions/bad.yaml", "x"), ("actions/good.yaml", noop)]);
    let packs = Some(vec!["mixed".to_owned()]);
    let request = RegisterRequest { packs, kinds: Some(vec![Kind::Action]), fail_on_failure: false };
    let counts = register(&bench.services, &request).await.unwrap().to_api();
    assert_eq!(counts["actions"], 1);
}

#[tokio::test]
async fn links_that_leave_the_pack_are_refused() {
    let bench = Bench::bootstrapped().await;
    bench.pack("linked", &[("actions/keep.txt", "")]);
    let outside = bench.dir.path().join("outside.yaml");
    std::fs::write(&outside, "name: stolen\nrunner_type: noop\n").unwrap();
    std::os::unix::fs::symlink(&outside, bench.dir.path().join("packs/linked/actions/a.yaml")).unwrap();
    let error = bench.register(&["linked"]).await.unwrap_err().to_string();
    assert!(error.contains("leaves the pack"), "{error}");
}

#[tokio::test]
async fn overrides_and_configurations_are_taken() {
    let bench = Bench::bootstrapped().await;
    bench.pack(
        "p",
        &[
            ("actions/a.yaml", "name: a\nrunner_type: noop\n"),
            ("config.schema.yaml", "size: {type: integer, default: 3}\ntoken: {type: string, secret: true}\n"),
        ],
    );
    write(&bench.dir.path().join("overrides/p.yaml"), "actions: {exceptions: {a: {enabled: false}}}\n");
    write(&bench.dir.path().join("configs/p.yaml"), "token: '{{st2kv.system.t}}'\n");
    bench.register(&["p"]).await.unwrap();
    let action = bench.services.catalog.action("p.a").await.unwrap().unwrap();
    assert!(!action.enabled);
    let config = bench.services.catalog.config("p").await.unwrap().unwrap();
    assert_eq!(config.values["size"], 3);
    assert_eq!(Action::COLLECTION.name, "actions");
    write(&bench.dir.path().join("configs/p.yaml"), "size: big\n");
    let error = bench.register(&["p"]).await.unwrap_err().to_string();
    assert!(error.contains("'big' is not of type 'integer'"), "{error}");
}
