//! `remote-shell-cmd` and `remote-shell-script`: commands and scripts on hosts, over SSH (spec/runners.md §8 to §10).
//!
//! The way of a run: [`plan`] makes destinations of the parameters, the ssh configuration and the node's settings →
//! [`fan_out`] serves them, some at a time: [`connect`] checks the host's key ([`host_keys`]) and logs in
//! ([`credentials`]), [`upload`] brings a script, [`exec`] runs the line of [`command`] → [`outcome`] makes a result.

pub mod command;
pub mod connect;
pub mod credentials;
pub mod exec;
pub mod fan_out;
pub mod host_keys;
pub mod options;
pub mod outcome;
pub mod plan;
pub mod ssh_config;
pub mod target;
pub mod upload;

use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use crate::runner::{Ending, Failure, Run, Runner};
use crate::shell::args::{quote, script_arguments};
use crate::shell::execute::{text, user_environment};
use command::Command;
use fan_out::{Work, on_hosts};
use upload::Upload;

/// StackStorm's defaults of the parameters `cwd`, `dir` and `timeout`.
const DIRECTORY: &str = "/tmp";
const TIMEOUT: u64 = 60;

#[derive(Debug)]
pub struct RemoteShellCmd;

#[derive(Debug)]
pub struct RemoteShellScript;

#[async_trait]
impl Runner for RemoteShellCmd {
    async fn run(&self, run: &mut Run<'_>) -> Result<Ending, Failure> {
        if !run.action.entry_point.is_empty() {
            return Err(Failure::new(format!(
                "Action \"{}\" specified \"entry_point\" attribute. Perhaps wanted to use \"remote-shell-script\" \
                 runner?",
                run.action.name
            )));
        }
        let hosts = destinations(run).await?;
        let line = text(&run.parameters.runner, "cmd").unwrap_or_default().to_owned();
        let work = Work { command: command(run, line, false)?, upload: None, timeout: limit(run) };
        Ok(on_hosts(run, hosts, work).await)
    }
}

#[async_trait]
impl Runner for RemoteShellScript {
    async fn run(&self, run: &mut Run<'_>) -> Result<Ending, Failure> {
        let file = run.entry_file(&run.pack_directory().await?)?;
        let hosts = destinations(run).await?;
        let parameters = &run.parameters.runner;
        let base = text(parameters, "dir").unwrap_or(DIRECTORY).trim_end_matches('/');
        let directory = format!("{base}/{}", run.execution.id);
        let collected = tokio::task::spawn_blocking(move || {
            Upload::collect(&file, directory).map_err(|error| format!("{}: {error}", file.display()))
        });
        let upload = collected.await.map_err(|error| Failure::new(error.to_string()))?.map_err(Failure)?;
        let kwarg_op = parameters.get("kwarg_op").and_then(Value::as_str).unwrap_or("--");
        let arguments = script_arguments(&run.action.parameters, &run.parameters.action, kwarg_op);
        let mut line = quote(&upload.script());
        if !arguments.is_empty() {
            line = format!("{line} {arguments}");
        }
        let work = Work { command: command(run, line, true)?, upload: Some(upload), timeout: limit(run) };
        Ok(on_hosts(run, hosts, work).await)
    }
}

async fn destinations(run: &Run<'_>) -> Result<Vec<plan::Destination>, Failure> {
    plan::hosts(&run.parameters.runner, &run.host.options.ssh, &run.execution.id.to_string()).await
}

fn limit(run: &Run<'_>) -> Duration {
    Duration::from_secs(run.parameters.runner.get("timeout").and_then(Value::as_u64).unwrap_or(TIMEOUT))
}

fn command(run: &Run<'_>, line: String, quote_cwd: bool) -> Result<Command, Failure> {
    let parameters = &run.parameters.runner;
    let mut environment = crate::process::spawn::Environment::new();
    user_environment(parameters, &mut environment)?;
    environment.extend(run.environment(false));
    Ok(Command {
        text: line,
        cwd: text(parameters, "cwd").unwrap_or(DIRECTORY).to_owned(),
        quote_cwd,
        environment,
        sudo: parameters.get("sudo").and_then(Value::as_bool).unwrap_or(false),
        sudo_password: text(parameters, "sudo_password").map(str::to_owned),
    })
}
