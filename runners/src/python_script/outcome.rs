//! From the end of the process to status and result (spec/runners.md §11.6).

use model::{Object, Status};
use serde_json::Value;

use super::control::{Answer, ControlError};
use crate::process::{Exit, Finished};
use crate::runner::{Ending, Failure};
use crate::shell::outcome::{exit_code, stopped_status, timeout_text};

/// The child's exit code for a status that is neither a boolean nor None.
const INVALID_STATUS_CODE: i32 = 220;

/// What StackStorm shows where there is no result.
const NO_RESULT: &str = "None";

pub fn ending(
    mut finished: Finished,
    answer: Result<Option<Answer>, ControlError>,
    timeout: u64,
) -> Result<Ending, Failure> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) if finished.stopped.is_none() => return Err(Failure::new(error.to_string())),
        Err(_) => None,
    };
    if finished.exit == Exit::Unknown {
        // Its parent crashed. A result says that the action came to its end.
        finished.exit = Exit::Code(i32::from(answer.is_none()));
    }
    let (code, timed_out) = exit_code(&finished);
    let stopped = stopped_status(&finished);
    if code == INVALID_STATUS_CODE && answer.is_none() && stopped.is_none() {
        return Err(Failure::new(finished.stderr.into_text()));
    }
    let refused = answer.as_ref().is_some_and(|answer| answer.status == Some(false));
    let status = match (stopped, timed_out, code) {
        (Some(stopped), ..) => stopped,
        (None, true, _) => Status::Timeout,
        (None, false, 0) if !refused => Status::Succeeded,
        _ => Status::Failed,
    };
    // A result counts only if the process also ended well.
    let value = answer.filter(|_| code == 0).map_or_else(|| NO_RESULT.into(), |answer| answer.result);
    let mut result = Object::new();
    result.insert("stdout".to_owned(), finished.stdout.into_text().into());
    result.insert("stderr".to_owned(), finished.stderr.into_text().into());
    result.insert("exit_code".to_owned(), code.into());
    result.insert("result".to_owned(), value);
    if status == Status::Timeout {
        result.insert("error".to_owned(), timeout_text(timeout).into());
    }
    Ok(Ending::new(status, Value::Object(result)))
}
