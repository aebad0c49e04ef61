//! `local-shell-script`: a script of the pack, with the action's parameters as arguments (spec/runners.md §5, §7).

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use async_trait::async_trait;
use serde_json::Value;

use crate::runner::{Ending, Failure, Run, Runner};
use crate::shell::args::{quote, script_arguments};
use crate::shell::{ShellRun, execute};

#[derive(Debug)]
pub struct LocalShellScript;

#[async_trait]
impl Runner for LocalShellScript {
    async fn run(&self, run: &mut Run<'_>) -> Result<Ending, Failure> {
        let parameters = &run.parameters.runner;
        let directory = run.content_directory(&run.pack_directory().await?).await?;
        let file = run.entry_file(&directory)?;
        make_executable(&file).await;
        let kwarg_op = parameters.get("kwarg_op").and_then(Value::as_str).unwrap_or("--");
        let arguments = script_arguments(&run.action.parameters, &run.parameters.action, kwarg_op);
        let mut command = quote(&file.to_string_lossy());
        if !arguments.is_empty() {
            command = format!("{command} {arguments}");
        }
        let debug = parameters.get("debug") == Some(&Value::Bool(true));
        execute(run, ShellRun { command, debug }).await
    }
}

/// As far as we may; where the shell can't run the script, it says so.
async fn make_executable(file: &Path) {
    let Ok(found) = tokio::fs::metadata(file).await else { return };
    let mut permissions = found.permissions();
    let wanted = permissions.mode() | 0o111;
    if permissions.mode() != wanted {
        permissions.set_mode(wanted);
        if let Err(error) = tokio::fs::set_permissions(file, permissions).await {
            tracing::debug!(file = %file.display(), %error, "the script could not be made executable");
        }
    }
}
