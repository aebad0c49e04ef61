//! Actions of the pack `packs` that the node does itself: no Python, and what is half done is undone.
//!
//! Their metadata says what StackStorm's says (runner types included), so that tools see what they know; the
//! [`registry`](crate::registry) sends them here by their refs.

use std::time::Duration;

use async_trait::async_trait;
use content::install::{Progress, Workshop, index, run as whole, steps, virtualenv};
use content::{InstallError, InstallRequest, register::Kind};
use model::{Object, OutputType, Status};
use serde_json::{Value, json};

use crate::runner::{Ending, Failure, Run, Runner};
use crate::stop::StopReason;

/// Lines of progress that may wait to be stored.
const LINES: usize = 256;

/// Seconds, where the action has no parameter `timeout`.
const DEFAULT_TIMEOUT: u64 = 600;

/// Refs of the actions that are done here.
pub const ACTIONS: [&str; 12] = [
    "packs.install",
    "packs.uninstall",
    "packs.download",
    "packs.virtualenv_prerun",
    "packs.get_pack_dependencies",
    "packs.get_pack_warnings",
    "packs.setup_virtualenv",
    "packs.update_virtualenv",
    "packs.unload",
    "packs.delete",
    "packs.search",
    "packs.show",
];

#[derive(Debug)]
pub struct PackManagement;

/// How results look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// `{"output": …}`, and `errors` if it failed.
    Workflow,
    /// `{"result": …, "stdout", "stderr", "exit_code"}`.
    Python,
}

#[async_trait]
impl Runner for PackManagement {
    async fn run(&self, run: &mut Run<'_>) -> Result<Ending, Failure> {
        let (lines, mut progress) = tokio::sync::mpsc::channel(LINES);
        let workshop = workshop(run, Progress::to(lines)).await?;
        let action = run.action.name.clone();
        let parameters = run.parameters.action.clone();
        let limit = run.parameters.action.get("timeout").or_else(|| run.parameters.runner.get("timeout"));
        let seconds = limit.and_then(Value::as_u64).filter(|seconds| *seconds > 0).unwrap_or(DEFAULT_TIMEOUT);
        let shape = if matches!(action.as_str(), "install" | "uninstall") { Shape::Workflow } else { Shape::Python };
        let mut stdout = String::new();
        let work = perform(&workshop, &action, &parameters);
        tokio::pin!(work);
        let deadline = tokio::time::sleep(Duration::from_secs(seconds));
        tokio::pin!(deadline);
        let outcome = loop {
            tokio::select! {
                biased;
                outcome = &mut work => break outcome,
                Some(line) = progress.recv() => {
                    let line = format!("{line}\n");
                    run.live.push(OutputType::Stdout, line.as_bytes());
                    if stdout.len() < run.host.options.output_limit {
                        stdout.push_str(&line);
                    }
                }
                () = run.live.work(), if run.live.has_work() => {}
                // What was begun is undone by dropping it: nothing is in force yet, or all of it.
                reason = run.stop.next() => {
                    let status = if reason == StopReason::Shutdown { Status::Abandoned } else { Status::Canceled };
                    return Ok(Ending::new(status, result(shape, Err("canceled".to_owned()), stdout)));
                }
                () = &mut deadline => {
                    let text = format!("Action failed to complete in {seconds} seconds");
                    return Ok(Ending::new(Status::Timeout, result(shape, Err(text), stdout)));
                }
            }
        };
        while let Ok(line) = progress.try_recv() {
            run.live.push(OutputType::Stdout, format!("{line}\n").as_bytes());
            stdout.push_str(&line);
            stdout.push('\n');
        }
        run.live.finish().await;
        let status = if outcome.is_ok() { Status::Succeeded } else { Status::Failed };
        Ok(Ending::new(status, result(shape, outcome.map_err(|error| error.to_string()), stdout)))
    }
}

fn result(shape: Shape, outcome: Result<Value, String>, stdout: String) -> Value {
    match (shape, outcome) {
        (Shape::Workflow, Ok(output)) => json!({"output": output, "stdout": stdout}),
        (Shape::Workflow, Err(text)) => {
            json!({"output": null, "errors": [{"type": "error", "message": text}], "stdout": stdout})
        }
        (Shape::Python, Ok(value)) => json!({"result": value, "exit_code": 0, "stdout": stdout, "stderr": ""}),
        (Shape::Python, Err(text)) => json!({"result": "None", "exit_code": 1, "stdout": stdout, "stderr": text}),
    }
}

/// Proxies come from the configuration of the pack `packs`, unless the node's environment has them.
async fn workshop(run: &Run<'_>, progress: Progress) -> Result<Workshop, Failure> {
    let config = domain::rendering::pack_config(run.services, "packs", run.user()).await?;
    let text = |name: &str| config.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let mut environment = Vec::new();
    let proxied = text("https_proxy").is_some() || text("http_proxy").is_some();
    for name in ["https_proxy", "http_proxy", "no_proxy"] {
        let set = std::env::var_os(name).is_some() || std::env::var_os(name.to_uppercase()).is_some();
        if let Some(value) = text(name).filter(|_| proxied && !set) {
            environment.push((name.to_owned(), value.to_owned()));
        }
    }
    if let Some(bundle) = text("proxy_ca_bundle_path") {
        for name in ["GIT_SSL_CAINFO", "PIP_CERT", "SSL_CERT_FILE"] {
            environment.push((name.to_owned(), bundle.to_owned()));
        }
    }
    for source in [run.parameters.action.get("env"), run.parameters.runner.get("env")] {
        for (name, value) in source.and_then(Value::as_object).into_iter().flatten() {
            if let Some(value) = value.as_str() {
                environment.push((name.clone(), value.to_owned()));
            }
        }
    }
    let python = run.host.python.own().await.ok();
    Ok(Workshop { services: run.services.clone(), python, environment, progress })
}

async fn perform(workshop: &Workshop, action: &str, parameters: &Object) -> Result<Value, InstallError> {
    let flag = |name: &str| parameters.get(name).and_then(Value::as_bool).unwrap_or(false);
    let text = |name: &str| parameters.get(name).and_then(Value::as_str).unwrap_or_default();
    let seconds = parameters.get("timeout").and_then(Value::as_u64).unwrap_or(DEFAULT_TIMEOUT);
    let timeout = Duration::from_secs(seconds);
    let packs = texts(parameters.get("packs"));
    match action {
        "install" => {
            let request = InstallRequest {
                packs,
                kinds: kinds(text("register")),
                force: flag("force"),
                skip_dependencies: flag("skip_dependencies"),
                timeout,
            };
            Ok(whole::install(workshop, &request).await?.to_output())
        }
        "uninstall" => {
            whole::uninstall(workshop, &packs).await?;
            Ok(json!({"packs_list": packs}))
        }
        "download" => {
            let more = texts(parameters.get("dependency_list"));
            let packs = if more.is_empty() { packs } else { more };
            whole::download(workshop, &packs, flag("force")).await
        }
        "virtualenv_prerun" => {
            let mut list = texts(parameters.get("packs_list"));
            list.extend(succeeded(parameters));
            Ok(list.into())
        }
        "get_pack_dependencies" => dependencies(workshop, parameters).await,
        "get_pack_warnings" => warnings(workshop, parameters).await,
        "setup_virtualenv" | "update_virtualenv" => {
            for pack in &packs {
                // Updating wants what requirements.txt says now; the name of a virtualenv is the hash of that.
                let anew = action == "setup_virtualenv" && !flag("update");
                let dirs = &workshop.services.settings.pack_dirs;
                let dir = content::pack_dir::find(dirs, pack)?;
                let order = virtualenv::Order { pack, pack_directory: &dir.path, anew, timeout };
                virtualenv::ensure(workshop, order).await?;
            }
            Ok(format!("Successfully set up virtualenv for the following packs: {}", packs.join(", ")).into())
        }
        "unload" => {
            content::unload::unload(&workshop.services, &packs).await?;
            Ok(Value::Null)
        }
        "delete" => {
            whole::delete(workshop, &packs, parameters.get("delete_env") != Some(&Value::Bool(false))).await?;
            Ok(Value::Null)
        }
        "search" | "show" => {
            let indexes = index::read(&workshop.services.settings.index_urls).await;
            if let Some(text) = indexes.all_failed() {
                return Err(InstallError::refused(text));
            }
            if action == "search" {
                return Ok(indexes.search(text("query")).into());
            }
            Ok(json!({"pack": indexes.pack(text("pack"))}))
        }
        other => Err(InstallError::refused(format!("packs.{other} is not an action of this node"))),
    }
}

fn texts(value: Option<&Value>) -> Vec<String> {
    let items = value.and_then(Value::as_array).into_iter().flatten();
    items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

/// `all`, or kinds separated by commas; unknown words ask for nothing.
fn kinds(register: &str) -> Option<Vec<Kind>> {
    let words: Vec<&str> = register.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
    if words.is_empty() || words.contains(&"all") {
        return None;
    }
    let spelled = |word: &str| if word == "policiy_types" { Kind::PolicyType } else { Kind::Policy };
    Some(
        words
            .into_iter()
            .filter_map(|word| Kind::parse(word).or_else(|| word.starts_with("polic").then(|| spelled(word))))
            .collect(),
    )
}

/// Refs that a download tells as done.
fn succeeded(parameters: &Object) -> Vec<String> {
    let status = parameters.get("packs_status").and_then(Value::as_object);
    let is_good = |value: &Value| value.as_str().is_some_and(|text| text.to_lowercase().contains("success"));
    status.into_iter().flatten().filter(|(_, value)| is_good(value)).map(|(name, _)| name.clone()).collect()
}

async fn manifest(workshop: &Workshop, pack: &str) -> Object {
    let dirs = workshop.services.settings.pack_dirs.clone();
    let pack = pack.to_owned();
    let read = tokio::task::spawn_blocking(move || {
        let dir = content::pack_dir::find(&dirs, &pack).ok()?;
        content::pack_dir::read_object(&dir.path.join("pack.yaml")).ok()
    });
    read.await.ok().flatten().unwrap_or_default()
}

async fn dependencies(workshop: &Workshop, parameters: &Object) -> Result<Value, InstallError> {
    let nested = parameters.get("nested").and_then(Value::as_u64).unwrap_or(0);
    if nested == 0 || parameters.get("packs_status").is_none_or(Value::is_null) {
        return Ok(json!({}));
    }
    let mut wanted = Vec::new();
    for pack in succeeded(parameters) {
        wanted.extend(texts(manifest(workshop, &pack).await.get("dependencies")));
    }
    let missing = steps::missing(workshop, &[], &wanted).await?;
    Ok(json!({"dependency_list": missing.sources, "conflict_list": missing.conflicts, "nested": nested - 1}))
}

async fn warnings(workshop: &Workshop, parameters: &Object) -> Result<Value, InstallError> {
    let mut warnings = Vec::new();
    for pack in succeeded(parameters) {
        let versions = texts(manifest(workshop, &pack).await.get("python_versions"));
        warnings.extend(whole::python_2_warning(&pack, &versions));
    }
    Ok(json!({"warning_list": warnings}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_registration() {
        assert_eq!(kinds("all"), None);
        assert_eq!(kinds("actions, policiy_types"), Some(vec![Kind::Action, Kind::PolicyType]));
    }
}
