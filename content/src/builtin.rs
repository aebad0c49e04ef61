//! Rows that every system has, whatever its packs (spec/model.md §8.1, §8.12, §8.21, §10).

use model::{Id, Object, RunnerType, Timestamp, TriggerType};
use serde_json::Value;

const RUNNER_TYPES: &str = include_str!("runner_types.json");
const TRIGGER_TYPES: &str = include_str!("trigger_types.json");
const POLICY_TYPES: &str = include_str!("policy_types.json");

/// A list inside the binary; a test reads each of them.
fn objects(text: &str) -> Vec<Object> {
    serde_json::from_str(text).unwrap_or_default()
}

fn text(object: &Object, field: &str) -> String {
    object.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn object(object: &Object, field: &str) -> Object {
    object.get(field).and_then(Value::as_object).cloned().unwrap_or_default()
}

/// The runner types, with fresh ids.
pub fn runner_types(now: Timestamp) -> Vec<RunnerType> {
    let runner = |entry: Object| RunnerType {
        id: Id::fresh(now),
        uid: format!("runner_type:{}", text(&entry, "name")),
        name: text(&entry, "name"),
        description: Some(text(&entry, "description")),
        enabled: true,
        runner_package: Some(text(&entry, "runner_package")),
        runner_module: text(&entry, "runner_module"),
        query_module: None,
        runner_parameters: object(&entry, "runner_parameters"),
        output_key: entry.get("output_key").and_then(Value::as_str).map(str::to_owned),
        output_schema: object(&entry, "output_schema"),
    };
    objects(RUNNER_TYPES).into_iter().map(runner).collect()
}

/// Trigger types of the pack `core`, with fresh ids.
pub fn trigger_types(now: Timestamp) -> Vec<TriggerType> {
    let trigger_type = |entry: Object| {
        let name = text(&entry, "name");
        TriggerType {
            id: Id::fresh(now),
            uid: format!("trigger_type:core:{name}"),
            reference: format!("core.{name}"),
            pack: "core".to_owned(),
            name,
            description: Some(text(&entry, "description")),
            payload_schema: object(&entry, "payload_schema"),
            parameters_schema: object(&entry, "parameters_schema"),
            tags: Vec::new(),
            metadata_file: String::new(),
        }
    };
    objects(TRIGGER_TYPES).into_iter().map(trigger_type).collect()
}

/// Policy types in API shape; ids are those of their content, so that they are the same everywhere.
pub fn policy_types() -> Vec<Object> {
    let complete = |mut entry: Object| {
        let (resource, name) = (text(&entry, "resource_type"), text(&entry, "name"));
        let uid = format!("policy_type:{resource}:{name}");
        entry.insert("id".to_owned(), Id::of_content(uid.as_bytes()).to_string().into());
        entry.insert("ref".to_owned(), format!("{resource}.{name}").into());
        entry.insert("uid".to_owned(), uid.into());
        entry
    };
    objects(POLICY_TYPES).into_iter().map(complete).collect()
}

/// Parameter schemas of a policy type by ref.
pub fn policy_type_parameters(reference: &str) -> Option<Object> {
    let found = policy_types().into_iter().find(|entry| text(entry, "ref") == reference)?;
    Some(object(&found, "parameters"))
}

/// Names of the rule types.
pub const RULE_TYPES: [&str; 2] = ["standard", "backstop"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_can_be_read() {
        let now = Timestamp::from_micros(0);
        assert_eq!(runner_types(now).len(), 14);
        assert_eq!(trigger_types(now).len(), 14);
        let policies: Vec<String> = policy_types().iter().map(|entry| text(entry, "ref")).collect();
        assert_eq!(policies, ["action.concurrency", "action.concurrency.attr", "action.retry"]);
        assert!(policy_type_parameters("action.retry").is_some_and(|p| p.contains_key("max_retry_count")));
        for runner in runner_types(now) {
            model::schema::check_parameter_schemas(&runner.runner_parameters).unwrap();
        }
    }
}
