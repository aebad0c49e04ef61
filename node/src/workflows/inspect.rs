//! What is wrong with a definition, also in what it takes from packs (spec/orquesta.md §22, spec/api.md §7.14).

use std::collections::BTreeSet;

use domain::{DomainError, Services};
use model::Object;
use serde_json::{Value, json};
use workflow::orquesta::language::Language;
use workflow::orquesta::{Definition, Document, inspect};

/// Variables that every workflow is given.
const GIVEN: [&str; 2] = ["st2", "parent"];

const TASK: &str = r"properties.tasks.patternProperties.^\w+$";

/// All faults in one list, by type and place.
pub async fn faults(services: &Services, document: &Document) -> Result<Vec<Value>, DomainError> {
    let mut found = content(services, &Definition::read(document)).await?;
    found.sort_by_key(|fault| {
        ["schema_path", "spec_path"].map(|key| fault[key].as_str().unwrap_or_default().to_owned())
    });
    found.extend(inspect(document, &GIVEN, &Language::default()).flat());
    Ok(found)
}

/// Tasks whose actions aren't there, or take other parameters.
async fn content(services: &Services, definition: &Definition) -> Result<Vec<Value>, DomainError> {
    let mut found = Vec::new();
    for (name, task) in &definition.tasks {
        let Some(reference) = task.action.as_deref().filter(|action| !is_expression(action)) else { continue };
        let place = format!("tasks.{name}");
        let mut report = |message: String, spec_path: String, below: &str| {
            found.push(json!({
                "type": "content",
                "message": message,
                "spec_path": spec_path,
                "schema_path": format!("{TASK}.properties.{below}"),
            }));
        };
        if !reference.split_once('.').is_some_and(|(pack, action)| !pack.is_empty() && !action.is_empty()) {
            let message = format!("The action reference \"{reference}\" is not formatted correctly.");
            report(message, format!("{place}.action"), "action");
            continue;
        }
        let Some(action) = services.catalog.action(reference).await? else {
            let message = format!("The action \"{reference}\" is not registered in the database.");
            report(message, format!("{place}.action"), "action");
            continue;
        };
        let none = Object::new();
        let input = match &task.input {
            Value::Object(input) => input,
            Value::Null => &none,
            // An expression gives all of them.
            _ => continue,
        };
        let runner = services.catalog.runner_type(&action.runner_type).await?;
        let of_runner = runner.as_ref().map(|runner| &runner.runner_parameters);
        for parameter in missing(&action.parameters, of_runner, input) {
            let message = format!("Action \"{reference}\" is missing required input \"{parameter}\".");
            report(message, format!("{place}.input"), "input");
        }
        let known = |name: &String| {
            action.parameters.contains_key(name) || of_runner.is_some_and(|runner| runner.contains_key(name))
        };
        for parameter in input.keys().filter(|name| !known(name)) {
            let message = format!("Action \"{reference}\" has unexpected input \"{parameter}\".");
            report(message, format!("{place}.input.{parameter}"), r"input.patternProperties.^\w+$");
        }
    }
    Ok(found)
}

/// Required, without a default, and not given; the action's schema wins over the runner's.
fn missing<'a>(action: &'a Object, runner: Option<&'a Object>, input: &Object) -> BTreeSet<&'a str> {
    let of_runner = runner.into_iter().flatten().filter(|(name, _)| !action.contains_key(name.as_str()));
    let requires =
        |schema: &Value| schema.get("required") == Some(&Value::Bool(true)) && schema.get("default").is_none();
    let required = action.iter().chain(of_runner).filter(|(_, schema)| requires(schema));
    required.map(|(name, _)| name.as_str()).filter(|name| !input.contains_key(*name)).collect()
}

fn is_expression(text: &str) -> bool {
    ["<%", "{{", "{%"].iter().any(|begin| text.contains(begin))
}
