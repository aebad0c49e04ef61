//! What the child is told: see `sdk/python/squall_host/child.py`.

use std::path::{Path, PathBuf};

use domain::rendering;
use model::Object;
use serde_json::{Value, json};

use super::interpreter::Interpreter;
use crate::process::Group;
use crate::process::spawn::Environment;
use crate::runner::{Failure, Run};
use crate::shell::execute::{text, user_environment};

/// The request as JSON.
pub async fn build(
    run: &Run<'_>,
    pack_directory: &Path,
    interpreter: &Interpreter,
    group: Option<&Group>,
) -> Result<Vec<u8>, Failure> {
    let pack = &run.action.pack;
    let file = run.entry_file(pack_directory)?;
    let config = rendering::pack_config(run.services, pack, run.user()).await?;
    let options = &run.host.options.python;
    // The default of the parameter means: as the node is configured.
    let log_level = match text(&run.parameters.runner, "log_level") {
        None | Some("DEBUG") => options.log_level.as_str(),
        Some(level) => level,
    };
    let path = import_path(run, pack_directory, interpreter).await;
    let request = json!({
        "file_path": file,
        "pack": pack,
        "user": run.user(),
        "parameters": run.parameters.action,
        "config": config,
        "log_level": log_level,
        "env": environment(run, interpreter, &path)?,
        "path": path,
        "limits": options.limits(),
        "join": group.map(Group::doors).unwrap_or_default(),
    });
    Ok(request.to_string().into_bytes())
}

/// What comes before the standard library (spec/runners.md §11.3).
async fn import_path(run: &Run<'_>, pack_directory: &Path, interpreter: &Interpreter) -> Vec<PathBuf> {
    let mut path = Vec::new();
    if super::interpreter::is_system(&run.action.pack) {
        return path;
    }
    if run.host.options.python.enable_common_libs {
        path.push(pack_directory.join("lib"));
    }
    if let Some(virtualenv) = &interpreter.virtualenv {
        path.extend(run.host.python.library_directories(virtualenv).await);
    }
    path.push(pack_directory.join("actions").join("lib"));
    path
}

/// Variables on top of the node's own, which the interpreter was started with.
fn environment(run: &Run<'_>, interpreter: &Interpreter, path: &[PathBuf]) -> Result<Object, Failure> {
    let mut given = Environment::new();
    user_environment(&run.parameters.runner, &mut given)?;
    given.retain(|name, _| !name.eq_ignore_ascii_case("PYTHONPATH"));
    let debug = run.parameters.runner.get("debug") == Some(&Value::Bool(true));
    given.extend(run.environment(debug));
    if let Some(token) = given.get("ST2_ACTION_AUTH_TOKEN").cloned() {
        given.insert("ST2_AUTH_TOKEN".to_owned(), token);
    }
    given.insert("ST2_API_URL".to_owned(), run.host.options.api_url.clone());
    if let Some(socket) = &run.host.options.api_socket {
        given.insert("ST2_ACTION_API_SOCKET".to_owned(), socket.to_string_lossy().into_owned());
    }
    given.insert("SQUALL_BASE_PATH".to_owned(), run.services.settings.base_path.to_string_lossy().into_owned());
    if let Some(virtualenv) = &interpreter.virtualenv {
        let inherited = given.get("PATH").or_else(|| run.host.environment.get("PATH")).cloned().unwrap_or_default();
        given.insert("PATH".to_owned(), format!("{}/bin/:{inherited}", virtualenv.display()));
    }
    let sdk = &run.host.options.python.sdk_path;
    let mut entries: Vec<String> = path.iter().map(|entry| entry.to_string_lossy().into_owned()).collect();
    entries.extend(run.host.environment.get("PYTHONPATH").cloned());
    entries.push(sdk.to_string_lossy().into_owned());
    given.insert("PYTHONPATH".to_owned(), entries.join(":"));
    Ok(given.into_iter().map(|(name, value)| (name, Value::String(value))).collect())
}
