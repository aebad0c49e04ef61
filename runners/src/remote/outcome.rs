//! What comes of each host, and of all (spec/runners.md §8).

use model::{Object, Status};
use serde_json::{Value, json};

use crate::runner::Ending;
use crate::shell::outcome::{TIMEOUT_CODE, normalise};

/// Reported for a host that could not be reached, as ssh does.
const CONNECTION_CODE: i32 = 255;

/// Why a host has no exit code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// No connection, an unknown host key, or refused credentials.
    #[error("Failed connecting to host {host}. {cause}")]
    Connect { host: String, cause: String },
    /// The connection was lost, or the host would not run it.
    #[error("Failed executing command on host {host}. {cause}")]
    Execute { host: String, cause: String },
    /// The script could not be written there.
    #[error("Failed copying content to remote boxes. {cause}")]
    Copy { host: String, cause: String },
}

/// How a host's command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The exit code; -1 if the host told none, as for a process that a signal ended.
    Exited(i32),
    /// Killed after this many seconds.
    TimedOut(u64),
    /// Killed because the execution was stopped.
    Stopped,
    Error(HostError),
}

/// One host's part of the result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostOutcome {
    pub end: End,
    pub stdout: String,
    pub stderr: String,
}

impl HostOutcome {
    pub const fn error(error: HostError) -> Self {
        Self { end: End::Error(error), stdout: String::new(), stderr: String::new() }
    }

    pub fn succeeded(&self) -> bool {
        self.end == End::Exited(0)
    }

    /// `connect_timeout`: seconds, for the text.
    pub fn into_value(self, host: &str, connect_timeout: u64) -> Value {
        let succeeded = self.succeeded();
        let (code, timed_out, error) = match self.end {
            End::Exited(code) => (code, false, None),
            End::TimedOut(seconds) => (
                TIMEOUT_CODE,
                true,
                Some(format!(
                    "Failed executing command on host \"{host}\" Command didn't finish in {seconds} seconds or the \
                     SSH connection did not succeed in {connect_timeout} seconds"
                )),
            ),
            End::Stopped => (-1, false, Some("the execution was stopped".to_owned())),
            End::Error(error) => (CONNECTION_CODE, false, Some(error_text(&error))),
        };
        let mut value = Object::new();
        value.insert("failed".to_owned(), (!succeeded).into());
        value.insert("succeeded".to_owned(), succeeded.into());
        value.insert("return_code".to_owned(), code.into());
        value.insert("stdout".to_owned(), normalise(self.stdout));
        value.insert("stderr".to_owned(), normalise(self.stderr));
        if let Some(error) = error {
            value.insert("timeout".to_owned(), timed_out.into());
            value.insert("error".to_owned(), error.into());
            value.insert("traceback".to_owned(), "".into());
        }
        Value::Object(value)
    }
}

fn error_text(error: &HostError) -> String {
    match error {
        HostError::Connect { .. } => format!("Connection error. {error}"),
        HostError::Execute { .. } | HostError::Copy { .. } => error.to_string(),
    }
}

/// All hosts' outcomes, in the order of the list; none is empty.
pub fn ending(hosts: Vec<(String, HostOutcome)>, allow_partial_failure: bool, connect_timeout: u64) -> Ending {
    let unreachable = hosts.iter().all(|(_, outcome)| matches!(outcome.end, End::Error(HostError::Connect { .. })));
    if unreachable {
        return nobody(hosts, connect_timeout);
    }
    let succeeded = hosts.iter().filter(|(_, outcome)| outcome.succeeded()).count();
    let status = if succeeded == hosts.len() || (allow_partial_failure && succeeded > 0) {
        Status::Succeeded
    } else {
        // StackStorm looks at the first host that failed only.
        let failed = hosts.iter().find(|(_, outcome)| !outcome.succeeded());
        let timed_out = failed.is_some_and(|(_, outcome)| matches!(outcome.end, End::TimedOut(_)));
        if timed_out { Status::Timeout } else { Status::Failed }
    };
    let mut result = Object::new();
    for (host, outcome) in hosts {
        let value = outcome.into_value(&host, connect_timeout);
        result.insert(host, value);
    }
    Ending::new(status, Value::Object(result))
}

/// No host could be reached: one error for all.
fn nobody(hosts: Vec<(String, HostOutcome)>, connect_timeout: u64) -> Ending {
    let names: Vec<String> = hosts.iter().map(|(host, _)| format!("'{host}'")).collect();
    let mut errors = Object::new();
    for (host, outcome) in hosts {
        let value = outcome.into_value(&host, connect_timeout);
        errors.insert(host, value);
    }
    let errors = serde_json::to_string_pretty(&errors).unwrap_or_default();
    let text =
        format!("Unable to connect to any one of the hosts: [{}].\n\n connect_errors={errors}", names.join(", "));
    Ending::new(Status::Failed, json!({"error": text, "traceback": ""}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, end: End) -> (String, HostOutcome) {
        (name.to_owned(), HostOutcome { end, stdout: "{\"a\": 1}\n".to_owned(), stderr: "e\n".to_owned() })
    }

    fn unreachable(name: &str) -> (String, HostOutcome) {
        let error = HostError::Connect { host: name.to_owned(), cause: "Connection refused".to_owned() };
        (name.to_owned(), HostOutcome::error(error))
    }

    #[test]
    fn the_status_of_all() {
        let ok = || host("a", End::Exited(0));
        let status = |hosts, partial| ending(hosts, partial, 60).status;
        assert_eq!(status(vec![ok()], false), Status::Succeeded);
        assert_eq!(status(vec![ok(), host("b", End::Exited(1))], false), Status::Failed);
        assert_eq!(status(vec![ok(), host("b", End::Exited(1))], true), Status::Succeeded);
        assert_eq!(status(vec![ok(), host("b", End::TimedOut(1))], false), Status::Timeout);
        let timeout_first = vec![host("a", End::TimedOut(1)), host("b", End::Exited(1))];
        assert_eq!(status(timeout_first, false), Status::Timeout);
        let failure_first = vec![host("a", End::Exited(1)), host("b", End::TimedOut(1))];
        assert_eq!(status(failure_first, false), Status::Failed);
        assert_eq!(status(vec![ok(), unreachable("b")], false), Status::Failed);
    }

    #[test]
    fn each_host_has_its_part() {
        let result = ending(vec![host("a", End::Exited(0)), unreachable("b")], false, 60).result;
        assert_eq!(
            result["a"],
            json!({"failed": false, "succeeded": true, "return_code": 0, "stdout": {"a": 1}, "stderr": "e"})
        );
        assert_eq!(result["b"]["return_code"], json!(255));
        assert_eq!(result["b"]["timeout"], json!(false));
        assert!(result["b"]["error"].as_str().unwrap().starts_with("Connection error. Failed connecting to host b."));
    }

    #[test]
    fn nobody_there_is_one_error() {
        let ending = ending(vec![unreachable("a"), unreachable("b")], true, 60);
        assert_eq!(ending.status, Status::Failed);
        let text = ending.result["error"].as_str().unwrap();
        assert!(text.starts_with("Unable to connect to any one of the hosts: ['a', 'b']."), "{text}");
        assert!(ending.result["traceback"].is_string());
    }
}
