//! `winrm-cmd`, `winrm-ps-cmd` and `winrm-ps-script`: commands on a Windows host, over WS-Management
//! (spec/runners.md §16.6).
//!
//! [`shell`] opens a shell with the requests of [`soap`], which [`client`] sends over one [`connection`], logged in by
//! Basic or [`ntlm`], and sealed ([`sealing`]) where there is no TLS; [`powershell`] makes command lines of scripts.

pub mod client;
pub mod connection;
pub mod ntlm;
pub mod powershell;
pub mod sealing;
pub mod shell;
pub mod soap;
pub mod trust;

use std::time::Duration;

use async_trait::async_trait;
use model::{Object, Status};
use serde_json::Value;

use crate::process::spawn::Environment;
use crate::runner::{Ending, Failure, Run, Runner};
use crate::shell::execute::{text, user_environment};
use crate::shell::outcome::as_value;
use crate::stop::StopReason;
use client::{Client, WinrmError};
use shell::{Done, Shell};

/// StackStorm's default of `timeout`, seconds.
const TIMEOUT: u64 = 60;

/// Reported where there is no exit code.
const NO_CODE: i32 = -1;

/// Command lines of `cmd.exe`.
#[derive(Debug)]
pub struct WinrmCmd;

/// Commands of PowerShell.
#[derive(Debug)]
pub struct WinrmPsCmd;

/// PowerShell scripts of packs.
#[derive(Debug)]
pub struct WinrmPsScript;

/// What is run.
enum Work {
    Line(String),
    Script(String),
}

#[async_trait]
impl Runner for WinrmCmd {
    async fn run(&self, run: &mut Run<'_>) -> Result<Ending, Failure> {
        let line = text(&run.parameters.runner, "cmd").unwrap_or_default().to_owned();
        execute(run, Work::Line(line)).await
    }
}

#[async_trait]
impl Runner for WinrmPsCmd {
    async fn run(&self, run: &mut Run<'_>) -> Result<Ending, Failure> {
        let script = text(&run.parameters.runner, "cmd").unwrap_or_default().to_owned();
        execute(run, Work::Script(script)).await
    }
}

#[async_trait]
impl Runner for WinrmPsScript {
    async fn run(&self, run: &mut Run<'_>) -> Result<Ending, Failure> {
        let file = run.entry_file(&run.pack_directory().await?)?;
        let script = tokio::fs::read_to_string(&file).await;
        let script = script.map_err(|error| Failure::new(format!("{}: {error}", file.display())))?;
        let operator = run.parameters.runner.get("kwarg_op").and_then(Value::as_str).unwrap_or("-");
        let schemas = &run.action.parameters;
        let script = script.trim_start_matches('\u{feff}');
        let script = powershell::with_arguments(script, schemas, &run.parameters.action, operator);
        execute(run, Work::Script(script)).await
    }
}

async fn execute(run: &mut Run<'_>, work: Work) -> Result<Ending, Failure> {
    let parameters = &run.parameters.runner;
    let host = text(parameters, "host").unwrap_or_default().to_owned();
    let mut environment = Environment::new();
    user_environment(parameters, &mut environment)?;
    let environment: Vec<(String, String)> = environment.into_iter().collect();
    let cwd = text(parameters, "cwd");
    let limit = Duration::from_secs(parameters.get("timeout").and_then(Value::as_u64).unwrap_or(TIMEOUT));
    let client = Client::new(parameters).map_err(Failure)?;
    let mut shell = Shell::new(client, run.host.options.output_limit);
    let ended = {
        let running = async {
            shell.open(cwd, &environment).await?;
            match &work {
                Work::Line(line) => shell.run(line, Some(&mut run.live)).await,
                Work::Script(script) => {
                    let done = shell.run_script(script, &mut run.live).await?;
                    Ok(Done { stderr: powershell::clean_errors(&done.stderr), ..done })
                }
            }
        };
        tokio::select! {
            done = running => Ended::Itself(done),
            () = tokio::time::sleep(limit) => Ended::TimedOut,
            reason = run.stop.next() => Ended::Stopped(reason),
        }
    };
    run.live.finish().await;
    // What was given up in the middle of an answer has lost its connection: the client opens another one.
    shell.close(&host).await;
    ending(ended, limit.as_secs())
}

enum Ended {
    Itself(Result<Done, WinrmError>),
    TimedOut,
    Stopped(StopReason),
}

fn ending(ended: Ended, seconds: u64) -> Result<Ending, Failure> {
    let without_code = |status, error: String| {
        let done = Done { code: NO_CODE, stdout: String::new(), stderr: String::new() };
        Ending::new(status, result(done, Some(error)))
    };
    Ok(match ended {
        Ended::Itself(Ok(done)) => {
            let status = if done.code == 0 { Status::Succeeded } else { Status::Failed };
            Ending::new(status, result(done, None))
        }
        Ended::Itself(Err(error)) => return Err(Failure::new(error.to_string())),
        Ended::TimedOut => without_code(Status::Timeout, format!("Action failed to complete in {seconds} seconds")),
        Ended::Stopped(StopReason::Cancel) => without_code(Status::Canceled, "the execution was stopped".to_owned()),
        Ended::Stopped(_) => without_code(Status::Abandoned, "the execution was stopped".to_owned()),
    })
}

fn result(done: Done, error: Option<String>) -> Value {
    let succeeded = done.code == 0;
    let mut result = Object::new();
    result.insert("failed".to_owned(), (!succeeded).into());
    result.insert("succeeded".to_owned(), succeeded.into());
    result.insert("return_code".to_owned(), done.code.into());
    result.insert("stdout".to_owned(), as_value(done.stdout));
    result.insert("stderr".to_owned(), as_value(done.stderr));
    if let Some(error) = error {
        result.insert("error".to_owned(), error.into());
    }
    Value::Object(result)
}
