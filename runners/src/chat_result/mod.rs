//! `chatops.format_execution_result`: what a chat is told of an execution (spec/chatops.md §5). The node does it
//! itself: templates of aliases are rendered by the same engine as all others.

mod message;

use async_trait::async_trait;
use domain::view::{self, ViewOptions};
use expr::{Context, NoKeys, render_lenient};
use model::{ActionAlias, Execution, Id, Object, Status};
use serde_json::{Value, json};
use store::StoreExt;

use crate::runner::{Ending, Failure, Run, Runner};

/// The action that is done here.
pub const ACTION: &str = "chatops.format_execution_result";

/// Of no interest to templates.
const HIDDEN: [&str; 5] = ["trigger", "trigger_type", "trigger_instance", "liveaction", "children"];

#[derive(Debug)]
pub struct ChatResult;

#[async_trait]
impl Runner for ChatResult {
    async fn run(&self, run: &mut Run<'_>) -> Result<Ending, Failure> {
        let id = run.parameters.action.get("execution_id").and_then(Value::as_str).unwrap_or_default();
        let known = match id.parse::<Id>() {
            Ok(id) => run.services.store.read::<Execution>(id).await.map_err(domain::DomainError::from)?,
            Err(_) => None,
        };
        let Some(execution) = known else { return Ok(Ending::failed(format!("There is no execution \"{id}\"."))) };
        let alias = alias_of(run, &execution).await?;
        let options = ViewOptions { with_blobs: true, ..ViewOptions::default() };
        let mut shown = view::execution(run.services, &execution, options).await?;
        shown.retain(|name, _| !HIDDEN.contains(&name.as_str()));
        Ok(match formatted(&shown, alias.as_ref()) {
            Ok(formatted) => Ending::new(Status::Succeeded, python(json!(formatted), 0, "")),
            Err(error) => Ending::new(Status::Failed, python(json!("None"), 1, &error)),
        })
    }
}

/// The result of a Python action: that is what the action's metadata says it is.
fn python(result: Value, exit_code: u8, stderr: &str) -> Value {
    json!({"result": result, "exit_code": exit_code, "stdout": "", "stderr": stderr})
}

/// The alias that an execution was started by, if it still exists.
async fn alias_of(run: &Run<'_>, execution: &Execution) -> Result<Option<ActionAlias>, Failure> {
    let id = execution.context.get("action_alias_ref").and_then(|link| link.get("id")).and_then(Value::as_str);
    let Some(id) = id.and_then(|id| id.parse::<Id>().ok()) else { return Ok(None) };
    let found = run.services.store.read::<ActionAlias>(id).await.map_err(domain::DomainError::from)?;
    Ok(found.map(|found| found.doc))
}

fn formatted(execution: &Object, alias: Option<&ActionAlias>) -> Result<Object, String> {
    let result = alias.map(|alias| &alias.result);
    let enabled = result.and_then(|result| result.get("enabled")) != Some(&Value::Bool(false));
    let mut vars = Object::new();
    vars.insert("execution".to_owned(), Value::Object(execution.clone()));
    if let Some(alias) = alias {
        vars.insert("alias".to_owned(), Value::Object(alias.to_api()));
    }
    let context = Context { vars: &vars, keys: &NoKeys };
    let template = result.and_then(|result| result.get("format")).and_then(Value::as_str);
    let message = match template {
        Some(template) => render_lenient(template, &context).map_err(|error| error.to_string())?,
        None => message::of(execution),
    };
    let mut formatted =
        Object::from_iter([("enabled".to_owned(), json!(enabled)), ("message".to_owned(), json!(message))]);
    if let Some(extra) = result.and_then(|result| result.get("extra")) {
        formatted.insert("extra".to_owned(), rendered(extra, &context)?);
    }
    Ok(formatted)
}

/// Every text inside a value, rendered.
fn rendered(value: &Value, context: &Context<'_>) -> Result<Value, String> {
    Ok(match value {
        Value::String(text) => Value::String(render_lenient(text, context).map_err(|error| error.to_string())?),
        Value::Array(items) => items.iter().map(|item| rendered(item, context)).collect::<Result<_, _>>()?,
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, field)| Ok((name.clone(), rendered(field, context)?)));
            Value::Object(fields.collect::<Result<_, String>>()?)
        }
        other => other.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alias(result: Value) -> ActionAlias {
        let fields = json!({
            "id": Id::of_content(b"a"), "uid": "u", "ref": "p.a", "pack": "p", "name": "a", "action_ref": "p.x",
            "result": result,
        });
        serde_json::from_value(fields).unwrap()
    }

    #[test]
    fn aliases_say_how() {
        let execution = json!({"id": "e", "status": "succeeded", "result": {"stdout": "hi"}});
        let execution = execution.as_object().unwrap();
        let said = |result: Value| formatted(execution, Some(&alias(result)));
        let plain = said(json!({"format": "{{ execution.result.stdout }}{{ execution.nothing }} by {{ alias.name }}"}));
        assert_eq!(plain.unwrap()["message"], "hi by a");
        let extra = said(json!({"format": "x", "extra": {"slack": {"color": "{{ execution.status }}", "n": 1}}}));
        assert_eq!(extra.unwrap()["extra"], json!({"slack": {"color": "succeeded", "n": 1}}));
        let silent = said(json!({"enabled": false})).unwrap();
        assert_eq!(silent["enabled"], false);
        assert!(silent["message"].as_str().unwrap().contains("status : succeeded"));
        assert!(said(json!({"format": "{{ execution.a.b }}"})).is_err());
    }
}
