//! Runs a command line for a shell runner.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::time::Duration;

use model::Object;
use serde_json::Value;

use super::args::quote;
use super::outcome;
use crate::process::spawn::Environment;
use crate::process::{Command, Group, Limits, Pipes, supervise};
use crate::runner::{Ending, Failure, Run};

/// StackStorm's default of the parameter `timeout`, seconds.
const DEFAULT_TIMEOUT: u64 = 60;

/// A command line, ready to run.
#[derive(Debug)]
pub struct ShellRun {
    pub command: String,
    pub debug: bool,
}

/// Runs it with what the runner's parameters say: cwd, env, sudo, sudo_password, timeout.
pub async fn execute(run: &mut Run<'_>, shell: ShellRun) -> Result<Ending, Failure> {
    let parameters = &run.parameters.runner;
    let sudo = parameters.get("sudo").and_then(Value::as_bool).unwrap_or(false);
    let password = parameters.get("sudo_password").and_then(Value::as_str);
    let timeout = seconds(parameters);
    let line = run.host.users.line(&shell.command, sudo, password);
    let mut environment = run.host.environment.clone();
    user_environment(parameters, &mut environment)?;
    environment.extend(run.environment(shell.debug));
    let group = run.host.group(run.execution.id.to_string()).await?;
    let args = arguments(line.command, text(parameters, "cwd"), group.as_ref())?;
    let (pipes, stdout, stderr) = Pipes::open()?;
    let mut descriptors = vec![(stdout, 1), (stderr, 2)];
    if let Some(input) = &line.stdin {
        descriptors.push((filled_pipe(input)?, 0));
    }
    let mut child = Command { program: "/bin/sh".to_owned(), args, environment, descriptors }.spawn()?;
    let limits = Limits {
        timeout: Some(Duration::from_secs(timeout)),
        grace: run.host.options.kill_grace,
        output: run.host.options.output_limit,
    };
    let finished = supervise(&mut child, pipes, limits, &mut run.stop, &mut run.live).await?;
    let by_force = finished.timed_out || finished.stopped.is_some();
    let mut ending = outcome::ending(finished, timeout);
    if let Some(group) = group {
        outcome::out_of_memory(&mut ending, group.end(by_force).await);
    }
    Ok(ending)
}

fn seconds(parameters: &Object) -> u64 {
    parameters.get("timeout").and_then(Value::as_u64).unwrap_or(DEFAULT_TIMEOUT)
}

/// A text parameter that has a value.
pub fn text<'a>(parameters: &'a Object, name: &str) -> Option<&'a str> {
    parameters.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// Adds the parameter `env`; its values must be strings.
pub fn user_environment(parameters: &Object, environment: &mut Environment) -> Result<(), Failure> {
    let Some(Value::Object(given)) = parameters.get("env") else { return Ok(()) };
    for (name, value) in given {
        let Value::String(value) = value else {
            return Err(Failure::new(format!(
                "environment variable {name}: expected str, bytes or os.PathLike object, not {}",
                python_type(value)
            )));
        };
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(Failure::new(format!("illegal environment variable {name:?}")));
        }
        environment.insert(name.clone(), value.clone());
    }
    Ok(())
}

fn python_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "NoneType",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "int",
        Value::String(_) => "str",
        Value::Array(_) => "list",
        Value::Object(_) => "dict",
    }
}

/// `sh -c <line>`, in the directory and the control group if there are any.
fn arguments(line: String, cwd: Option<&str>, group: Option<&Group>) -> Result<Vec<String>, Failure> {
    let mut before = String::new();
    for door in group.map(Group::doors).unwrap_or_default() {
        before.push_str(&format!("echo 0 > {} && ", quote(&door.to_string_lossy())));
    }
    if let Some(cwd) = cwd {
        match std::fs::metadata(cwd) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Failure::new(format!("[Errno 2] No such file or directory: '{cwd}'")));
            }
            Ok(found) if !found.is_dir() => {
                return Err(Failure::new(format!("[Errno 20] Not a directory: '{cwd}'")));
            }
            // What we may not see the shell may yet enter, as another user; else it says why.
            _ => {}
        }
        before.push_str(&format!("cd -- {} && ", quote(cwd)));
    }
    let script = if before.is_empty() { line } else { format!("{before}exec /bin/sh -c {}", quote(&line)) };
    Ok(vec!["sh".to_owned(), "-c".to_owned(), script])
}

/// The reading end of a pipe that holds `input`, a short text.
fn filled_pipe(input: &str) -> std::io::Result<OwnedFd> {
    let (reader, mut writer) = std::io::pipe()?;
    if input.len() > 4096 {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "the sudo password is too long"));
    }
    writer.write_all(input.as_bytes())?;
    Ok(reader.into())
}
