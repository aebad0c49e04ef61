//! The few expressions that tests of the conductor need, without a language behind them:
//! `<% succeeded() %>`, `<% failed() %>`, `<% completed() %>`, `<% result() %>`, `<% item() %>`, `<% ctx(x) %>`.

use serde_json::Value;

use super::expression::{Expressions, Failure, Scope};
use super::status::Status;

#[derive(Debug, Clone, Copy, Default)]
pub struct Plain;

impl Expressions for Plain {
    fn evaluate(&self, value: &Value, scope: &Scope<'_>) -> Result<Value, Failure> {
        Ok(match value {
            Value::String(text) => match text.strip_prefix("<% ").and_then(|text| text.strip_suffix(" %>")) {
                Some(call) => one(call, scope)?,
                None => value.clone(),
            },
            Value::Array(items) => items.iter().map(|item| self.evaluate(item, scope)).collect::<Result<_, _>>()?,
            Value::Object(map) => {
                let entries = map.iter().map(|(key, value)| Ok((key.clone(), self.evaluate(value, scope)?)));
                Value::Object(entries.collect::<Result<_, Failure>>()?)
            }
            _ => value.clone(),
        })
    }
}

fn one(call: &str, scope: &Scope<'_>) -> Result<Value, Failure> {
    let unknown = || Failure::new("PlainError", format!("'{call}' can't be evaluated"));
    let (name, argument) = call.strip_suffix(')').and_then(|call| call.split_once('(')).ok_or_else(unknown)?;
    let status = || scope.task.map_or(Status::Unset, |task| scope.tasks.status(task.id, task.route));
    Ok(match name {
        "succeeded" => (status() == Status::Succeeded).into(),
        "failed" => (status() == Status::Failed).into(),
        "completed" => status().is_completed().into(),
        "result" => scope.task.and_then(|task| task.result).cloned().unwrap_or_default(),
        "item" => scope.item.cloned().unwrap_or_default(),
        "ctx" => scope.ctx.get(argument).cloned().ok_or_else(unknown)?,
        _ => return Err(unknown()),
    })
}
