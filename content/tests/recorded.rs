//! What registration stores, compared with what StackStorm's API showed of the same packs; and how long it takes.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bus::local::LocalBus;
use content::{BootstrapOptions, RegisterRequest, bootstrap, builtin, register};
use domain::{Services, Settings};
use model::{
    Action, ActionAlias, ConfigSchema, Object, Policy, Resource, Rule, RunnerType, SensorType, SystemClock, TriggerType,
};
use serde_json::Value;
use store::sqlite::{SqliteOptions, SqliteStore};
use store::{Query, StoreExt};

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

async fn services(dir: &Path) -> Arc<Services> {
    std::fs::create_dir(dir.join("packs")).unwrap();
    let store = SqliteStore::open(SqliteOptions::new(dir.join("store.db"))).await.unwrap();
    let settings = Settings {
        pack_dirs: vec![workspace().join("packs"), dir.join("packs")],
        base_path: dir.to_owned(),
        ..Settings::default()
    };
    let services = Services::new(
        Arc::new(store),
        Arc::new(LocalBus::default()),
        Arc::new(coordinator::LocalCoordinator::new()),
        Arc::new(SystemClock),
        settings,
        None,
    );
    let options = BootstrapOptions { system_packs_dir: workspace().join("packs"), data_dir: dir.to_owned() };
    bootstrap(&services, &options).await.unwrap();
    services
}

async fn register_pack(services: &Services, name: &str) -> Object {
    let request = RegisterRequest { packs: Some(vec![name.to_owned()]), kinds: None, fail_on_failure: true };
    register(services, &request).await.unwrap().to_api()
}

/// The objects of a recorded answer that belong to packs that we have.
fn recorded(shared: &Path, file: &str) -> Vec<Object> {
    let text = std::fs::read_to_string(shared.join("data/golden").join(file)).unwrap();
    let exchange: Value = serde_json::from_str(&text).unwrap();
    let objects = match exchange["response"]["body"].clone() {
        Value::Array(items) => items,
        one => vec![one],
    };
    let ours = |object: &Object| {
        let pack = object.get("pack").and_then(Value::as_str).unwrap_or("core");
        ["core", "examples", "linux", "chatops", "golden", "bench"].contains(&pack)
    };
    let objects = objects.into_iter().filter_map(|object| serde_json::from_value::<Object>(object).ok());
    objects.filter(ours).collect()
}

/// Compares a recorded answer with the rows of our store, but for fields that may differ.
async fn compare<T: Resource>(
    services: &Services,
    shared: &Path,
    (file, key): (&str, &'static str),
    differing: &[&str],
    to_api: impl Fn(&T) -> Object,
) {
    let recorded = recorded(shared, file);
    assert!(!recorded.is_empty(), "{file} has nothing to compare");
    for theirs in recorded {
        let name = theirs[key].as_str().unwrap();
        let found = services.store.first::<T>(&Query::eq(key, name)).await.unwrap();
        let ours = to_api(&found.unwrap_or_else(|| panic!("{file}: {name} is missing")).doc);
        for (field, value) in &theirs {
            if field != "id" && !differing.contains(&field.as_str()) {
                assert_eq!(ours.get(field), Some(value), "{file}: {name}: {field}");
            }
        }
        let more: Vec<&String> = ours.keys().filter(|field| !theirs.contains_key(*field)).collect();
        assert!(more.iter().all(|field| differing.contains(&field.as_str())), "{file}: {name} has also {more:?}");
    }
}

#[tokio::test]
async fn rows_are_as_recorded() {
    let Some(shared) = shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    let services = services(dir.path()).await;
    for (source, name) in [("data/golden-pack", "golden"), ("tools/bench-pack", "bench")] {
        let target = dir.path().join("packs").join(name);
        let status = std::process::Command::new("cp").arg("-r").arg(shared.join(source)).arg(target).status();
        assert!(status.unwrap().success());
        register_pack(&services, name).await;
    }
    let (services, shared) = (&*services, shared.as_path());

    // Texts of the system packs are our own; so is whom the examples' disabled rules would tell.
    let rule = |rule: &Rule| {
        let Value::Object(mut object) = serde_json::to_value(rule).unwrap() else { panic!("a rule is an object") };
        let reference = object["trigger"].take();
        object["trigger"] = serde_json::json!({"type": reference, "parameters": {}, "ref": reference});
        object
    };
    compare(services, shared, ("rules/001-list.json", "ref"), &["description", "action", "criteria"], rule).await;
    for file in ["rules/005-list-enabled.json", "rules/008-list-user.json"] {
        compare(services, shared, (file, "ref"), &["description"], rule).await;
    }
    compare(services, shared, ("rules/002-list-pack.json", "ref"), &[], rule).await;

    let alias = |alias: &ActionAlias| alias.to_api();
    compare(services, shared, ("aliases/001-list.json", "ref"), &["description", "ack", "result"], alias).await;
    compare(services, shared, ("aliases/002-list-pack.json", "ref"), &[], alias).await;
    compare(services, shared, ("policies/005-list.json", "ref"), &[], |policy: &Policy| policy.to_api()).await;

    let trigger_type = |trigger_type: &TriggerType| trigger_type.to_api();
    for file in ["003-triggertypes-get.json", "004-triggertypes-get-golden.json"] {
        // Rows that no file brought say nothing of a file.
        compare(services, shared, (&format!("triggers/{file}"), "ref"), &["metadata_file"], trigger_type).await;
    }
    let differing = ["description", "artifact_uri", "enabled"];
    compare(services, shared, ("sensors/001-list.json", "ref"), &differing, |s: &SensorType| s.to_api()).await;
    let schema = |schema: &ConfigSchema| {
        let mut object = schema.to_api();
        // `required: false` says nothing; descriptions are ours.
        for attribute in object["attributes"].as_object_mut().unwrap().values_mut() {
            attribute.as_object_mut().unwrap().retain(|name, _| name != "description");
        }
        object
    };
    for mut theirs in recorded(shared, "configs/001-schemas-list.json") {
        for attribute in theirs["attributes"].as_object_mut().unwrap().values_mut() {
            let attribute = attribute.as_object_mut().unwrap();
            attribute.retain(|name, value| name != "description" && !(name == "required" && *value == false));
        }
        let query = Query::eq("pack", theirs["pack"].as_str().unwrap());
        let ours = services.store.first::<ConfigSchema>(&query).await.unwrap().unwrap();
        assert_eq!(schema(&ours.doc)["attributes"], theirs["attributes"], "{}", theirs["pack"]);
    }
    for file in ["003-get.json", "004-get-by-id.json"] {
        let runner = |runner: &RunnerType| runner.to_api();
        compare(services, shared, (&format!("runnertypes/{file}"), "name"), &["enabled"], runner).await;
    }
    for theirs in recorded(shared, "policies/001-types-list.json") {
        let ours = builtin::policy_types().into_iter().find(|ours| ours["ref"] == theirs["ref"]).unwrap();
        for (field, value) in theirs.iter().filter(|(field, _)| *field != "id") {
            assert_eq!(ours.get(field), Some(value), "{}: {field}", theirs["ref"]);
        }
    }
}

/// A rule may name a trigger type of a pack whose name comes later.
#[tokio::test]
async fn rules_find_trigger_types_of_all_packs() {
    let dir = tempfile::tempdir().unwrap();
    let services = services(dir.path()).await;
    let manifest = "description: d\nversion: 1.0.0\nauthor: a\n";
    for (path, text) in [
        ("a/pack.yaml", format!("name: a\n{manifest}")),
        ("a/rules/r.yaml", "name: r\ntrigger: {type: b.t}\naction: {ref: core.noop}\n".to_owned()),
        ("b/pack.yaml", format!("name: b\n{manifest}")),
        ("b/triggers/t.yaml", "name: t\n".to_owned()),
        ("bad/pack.yaml", "name: bad\n".to_owned()),
    ] {
        let path = dir.path().join("packs").join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let request = RegisterRequest { packs: None, kinds: None, fail_on_failure: false };
    register(&services, &request).await.unwrap();
    let rule = services.store.first::<Rule>(&Query::eq("ref", "a.r")).await.unwrap().unwrap();
    assert_eq!(rule.trigger, "b.t");
    // A bad pack is an error where nothing may fail.
    let request = RegisterRequest { fail_on_failure: true, ..request };
    let error = register(&services, &request).await.unwrap_err().to_string();
    assert!(error.starts_with("Failed to register pack \"bad\""), "{error}");
}

#[tokio::test]
async fn large_packs_register_quickly() {
    let dir = tempfile::tempdir().unwrap();
    let services = services(dir.path()).await;
    let pack = dir.path().join("packs/large");
    std::fs::create_dir_all(pack.join("actions")).unwrap();
    std::fs::write(pack.join("pack.yaml"), "name: large\ndescription: d\nversion: 1.0.0\nauthor: a\n").unwrap();
    for index in 0..300 {
        let mut text = format!("name: a{index}\nrunner_type: local-shell-cmd\nparameters:\n");
        for parameter in 0..10 {
            writeln!(text, "  p{parameter}: {{type: string, description: Some text, default: '{index}'}}").unwrap();
        }
        std::fs::write(pack.join(format!("actions/a{index}.yaml")), text).unwrap();
    }
    let started = Instant::now();
    assert_eq!(register_pack(&services, "large").await["actions"], 300);
    let first = started.elapsed();
    let rows = services.store.search::<Action>(&Query::eq("pack", "large")).await.unwrap();
    let started = Instant::now();
    register_pack(&services, "large").await;
    eprintln!("300 actions: {first:?}, unchanged {:?}", started.elapsed());
    assert_eq!(services.store.search::<Action>(&Query::eq("pack", "large")).await.unwrap(), rows);
    assert!(first < Duration::from_secs(20), "300 actions took {first:?}");
}
