//! What the functions of both languages ask of the scope.

use model::Scope as KeyScope;
use serde_json::Value;

use super::{Fault, Scope};
use crate::{KeyAnswer, KeyRequest};

/// Looks up what expressions ask for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Records<'a>(pub(crate) &'a Scope<'a>);

impl<'a> Records<'a> {
    /// `ctx(name)`.
    pub(crate) fn variable(self, name: &str) -> Result<&'a Value, Fault> {
        let found = self.0.ctx.get(name).filter(|_| !name.starts_with("__"));
        found.ok_or_else(|| absent(name))
    }

    /// `ctx()`.
    pub(crate) fn visible(self) -> impl Iterator<Item = (&'a String, &'a Value)> {
        self.0.ctx.iter().filter(|(name, _)| !name.starts_with("__"))
    }

    fn current(self) -> Result<super::CurrentTask<'a>, Fault> {
        let missing = || Fault::new("ExpressionEvaluationException", "The current task is not set in the context.");
        self.0.task.ok_or_else(missing)
    }

    /// `result()`.
    pub(crate) fn result(self) -> Result<&'a Value, Fault> {
        Ok(self.current()?.result.unwrap_or(&Value::Null))
    }

    /// `succeeded()`, `failed()` and `completed()` are about the current task's status.
    pub(crate) fn current_is(self, accepted: fn(&str) -> bool) -> Result<bool, Fault> {
        let current = self.current()?;
        Ok(self.0.tasks.status(current.id, current.route).is_some_and(|status| accepted(&status)))
    }

    /// `task_status(task, route)`.
    pub(crate) fn status(self, task: &str, route: Option<u32>) -> String {
        let route = route.unwrap_or_else(|| self.0.task.map_or(0, |task| task.route));
        self.0.tasks.status(task, route).unwrap_or_else(|| "null".to_owned())
    }

    /// `task(task, route)`.
    pub(crate) fn record(self, task: Option<&str>, route: Option<u32>) -> Result<Value, Fault> {
        let id = match task {
            Some(task) => task,
            None => self.current()?.id,
        };
        let route = route.unwrap_or_else(|| self.0.task.map_or(0, |task| task.route));
        self.0.tasks.record(id, route).ok_or_else(|| {
            Fault::new("ExpressionEvaluationException", format!("Unable to find task execution for \"{id}\"."))
        })
    }

    /// `item()`.
    pub(crate) fn whole_item(self) -> &'a Value {
        self.0.item.unwrap_or(&Value::Null)
    }

    /// `item(key)`.
    pub(crate) fn item(self, key: Option<&str>) -> Result<Value, Fault> {
        let item = self.whole_item();
        let Some(key) = key else { return Ok(item.clone()) };
        item_field(item, key).cloned()
    }

    /// `st2kv(key, decrypt, default)`.
    pub(crate) fn key(self, key: &str, decrypt: bool, default: Option<Value>) -> Result<Value, Fault> {
        let request = find_key(key);
        match self.0.keys.get(&request) {
            KeyAnswer::Unknown => Err(Fault::NeedsKeys(vec![request])),
            KeyAnswer::Value { value, secret } if secret && decrypt => {
                let plain = self.0.keys.decrypt(&value);
                plain.map(Value::String).map_err(|reason| Fault::new("ValueError", reason))
            }
            KeyAnswer::Value { value, .. } => Ok(Value::String(value)),
            KeyAnswer::Absent => default.ok_or_else(|| {
                let text = format!("The key \"{key}\" does not exist in the StackStorm datastore.");
                Fault::new("ExpressionEvaluationException", text)
            }),
        }
    }
}

/// Why a variable can't be had.
pub(super) fn absent(name: &str) -> Fault {
    if name.starts_with("__") {
        let text = format!("The variable \"{name}\" is for internal use and inaccessible.");
        return Fault::new("VariableInaccessibleError", text);
    }
    Fault::new("VariableUndefinedError", format!("The variable \"{name}\" is undefined."))
}

/// `item(key)` of an item.
pub(super) fn item_field<'v>(item: &'v Value, key: &str) -> Result<&'v Value, Fault> {
    let failed = |text: String| Fault::new("ExpressionEvaluationException", text);
    match item {
        Value::Object(fields) => fields.get(key).ok_or_else(|| failed(format!("Item does not have key \"{key}\"."))),
        _ => Err(failed("Item is not type of collections.abc.Mapping.".to_owned())),
    }
}

/// `system.x` is the system's; `user.x` and bare names are the user's.
pub(crate) fn find_key(key: &str) -> KeyRequest {
    let (scope, name) = match key.split_once('.') {
        Some(("system", name)) => (KeyScope::System, name),
        Some(("user", name)) => (KeyScope::User, name),
        _ => (KeyScope::User, key),
    };
    KeyRequest { scope, name: name.to_owned() }
}

/// `json.loads`' words for the commonest mistakes.
pub(crate) fn json_error(text: &str, error: &serde_json::Error) -> Fault {
    let before: usize = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    let at_end = error.is_eof();
    let column = if at_end { error.column() + 1 } else { error.column().max(1) };
    let place = format!("line {} column {column} (char {})", error.line().max(1), before + column - 1);
    let reason = error.to_string();
    let what = if reason.contains("`,` or") || (at_end && reason.contains("list")) || reason.contains("an object") {
        "Expecting ',' delimiter"
    } else if reason.contains("key must be a string") {
        "Expecting property name enclosed in double quotes"
    } else if reason.contains("expected `:`") {
        "Expecting ':' delimiter"
    } else if reason.contains("trailing characters") {
        "Extra data"
    } else if reason.contains("string") {
        "Unterminated string starting at"
    } else {
        "Expecting value"
    };
    Fault::new("JSONDecodeError", format!("{what}: {place}"))
}
