//! From the end of a process to the execution's status and result (spec/runners.md §6).

use model::{Object, Status};
use serde_json::{Value, json};

use crate::process::{Exit, Finished};
use crate::runner::Ending;
use crate::stop::StopReason;

/// Reported for a process that was killed because its time was over, as StackStorm does.
pub const TIMEOUT_CODE: i32 = -9;
const TERMINATED_CODE: i32 = -15;

/// The status of a stopped run; `None` if it ended by itself.
pub fn stopped_status(finished: &Finished) -> Option<Status> {
    finished.stopped.map(|reason| match reason {
        StopReason::Cancel => Status::Canceled,
        StopReason::Shutdown | StopReason::SessionLost => Status::Abandoned,
    })
}

pub fn timeout_text(seconds: u64) -> String {
    format!("Action failed to complete in {seconds} seconds")
}

/// The exit code as it is shown, and whether it counts as a time-out. A child that died of SIGKILL does.
pub fn exit_code(finished: &Finished) -> (i32, bool) {
    let code = finished.exit.code().unwrap_or(-1);
    let timed_out = finished.timed_out && finished.stopped.is_none();
    if timed_out || code == TIMEOUT_CODE { (TIMEOUT_CODE, true) } else { (code, false) }
}

pub fn ending(finished: Finished, timeout: u64) -> Ending {
    let (code, timed_out) = exit_code(&finished);
    let stopped = stopped_status(&finished);
    let ended_by_itself = finished.exit == Exit::Code(0);
    let mut status = match code {
        0 => Status::Succeeded,
        TIMEOUT_CODE => Status::Timeout,
        TERMINATED_CODE => Status::Abandoned,
        _ => Status::Failed,
    };
    let mut code = code;
    let mut error = timed_out.then(|| timeout_text(timeout));
    let stderr = finished.stderr.into_text();
    if !ended_by_itself && let Some(user) = wrong_password(&stderr) {
        code = -1;
        status = Status::Failed;
        error = Some(format!("Invalid sudo password provided or sudo is not configured for this user ({user})"));
    }
    if let Some(stopped) = stopped {
        status = stopped;
        error = None;
    }
    let succeeded = status == Status::Succeeded;
    let mut result = Object::new();
    result.insert("failed".to_owned(), (!succeeded).into());
    result.insert("succeeded".to_owned(), succeeded.into());
    result.insert("return_code".to_owned(), code.into());
    result.insert("stdout".to_owned(), normalise(finished.stdout.into_text()));
    result.insert("stderr".to_owned(), normalise(stderr));
    if let Some(error) = error {
        result.insert("error".to_owned(), error.into());
    }
    Ending::new(status, Value::Object(result))
}

/// A run of which the kernel killed something: `why`, unless it succeeded all the same or was stopped.
pub fn out_of_memory(ending: &mut Ending, why: Option<String>) {
    let Some(why) = why else { return };
    if matches!(ending.status, Status::Failed | Status::Timeout | Status::Abandoned) {
        ending.status = Status::Failed;
        if let Value::Object(result) = &mut ending.result {
            result.insert("error".to_owned(), why.into());
        }
    }
}

/// One line end is cut off; text that is JSON becomes its value.
pub fn normalise(mut text: String) -> Value {
    if text.ends_with('\n') {
        text.pop();
    }
    if text.ends_with('\r') {
        text.pop();
    }
    as_value(text)
}

/// Text that is JSON becomes its value.
pub fn as_value(text: String) -> Value {
    match serde_json::from_str::<Value>(&text) {
        Ok(value) => value,
        Err(_) => Value::String(text),
    }
}

/// The user in sudo's prompt, if sudo says that the password was wrong.
fn wrong_password(stderr: &str) -> Option<&str> {
    let refused = stderr.lines().any(|line| {
        let attempts = line.strip_prefix("sudo: ").and_then(|rest| rest.split_once(" incorrect password attempt"));
        attempts.is_some_and(|(count, _)| count.parse::<u32>().is_ok())
    });
    let prompt = || stderr.split_once("[sudo] password for ")?.1.split_once(':').map(|(user, _)| user);
    refused.then(|| prompt().unwrap_or("unknown"))
}

/// A result of an execution that could not be run.
pub fn failure(text: impl Into<String>) -> Value {
    json!({"error": text.into(), "traceback": ""})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_that_is_json_becomes_its_value() {
        for (text, value) in [
            ("5", json!(5)),
            (" 5 ", json!(5)),
            ("5.0", json!(5.0)),
            ("true", json!(true)),
            ("null", json!(null)),
            ("1e3", json!(1000.0)),
            ("\"x\"", json!("x")),
            ("{\"a\":1}\n", json!({"a": 1})),
            ("{\"a\":1,\"a\":2}", json!({"a": 2})),
            ("123456789012345678901234567890", json!(1.2345678901234568e29)),
            ("NaN", json!("NaN")),
            ("01", json!("01")),
            ("0x10", json!("0x10")),
            ("1 2", json!("1 2")),
            ("", json!("")),
            ("a\r\n", json!("a")),
            ("a\n\n", json!("a\n")),
        ] {
            assert_eq!(normalise(text.to_owned()), value, "{text:?}");
        }
    }

    #[test]
    fn sudo_that_refuses_names_the_user() {
        let text = "[sudo] password for stanley: \nsudo: 2 incorrect password attempts\n";
        assert_eq!(wrong_password(text), Some("stanley"));
        assert_eq!(wrong_password("sudo: 1 incorrect password attempt\n"), Some("unknown"));
        assert_eq!(wrong_password("sudo: command not found"), None);
    }
}
