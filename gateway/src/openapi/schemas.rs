//! Schemas of what is answered, from the lists' attributes, and of bodies, from their shapes.

use model::Object;
use serde_json::{Map, Value, json};

use crate::api::{
    actions, aliases, apikeys, configs, executions, packs, policies, rule_enforcements, rules, runner_types, simple,
    traces, trigger_instances, triggers,
};
use crate::http::list::ListSpec;
use crate::http::shape::{Kind, Shape};

/// Resources with lists.
const RESOURCES: [(&str, &ListSpec); 15] = [
    ("Action", &actions::SPEC),
    ("ActionAlias", &aliases::SPEC),
    ("ApiKey", &apikeys::SPEC),
    ("Config", &configs::CONFIGS),
    ("ConfigSchema", &configs::SCHEMAS),
    ("Execution", &executions::read::SPEC),
    ("Pack", &packs::SPEC),
    ("Policy", &policies::SPEC),
    ("Rule", &rules::SPEC),
    ("RuleEnforcement", &rule_enforcements::SPEC),
    ("RunnerType", &runner_types::SPEC),
    ("SensorType", &simple::SENSORS),
    ("Trace", &traces::SPEC),
    ("TriggerInstance", &trigger_instances::SPEC),
    ("TriggerType", &triggers::TYPES),
];

/// What attributes hold, by their names: the same in every resource.
fn attribute(name: &str) -> Value {
    match name {
        "id" => json!({"type": "string", "pattern": "^[0-9a-f]{24}$"}),
        "ref" | "uid" | "pack" | "name" | "runner_type" | "entry_point" | "metadata_file" | "action_ref" | "status"
        | "trace_tag" | "web_url" | "policy_type" | "resource_ref" | "artifact_uri" | "user" | "version" | "author" => {
            json!({"type": "string"})
        }
        "enabled" => json!({"type": "boolean"}),
        "tags" | "trigger_instances" | "rules" | "action_executions" | "formats" | "log" | "trigger_types"
        | "children" | "keywords" | "files" | "python_versions" | "contributors" => json!({"type": "array"}),
        "elapsed_seconds" => json!({"type": "number"}),
        "result_size" | "poll_interval" => json!({"type": ["integer", "null"]}),
        "start_timestamp" | "end_timestamp" | "created_at" | "enforced_at" | "occurrence_time" => {
            json!({"type": "string"})
        }
        // Secrets are masked whole: an object may show as a text.
        _ => json!({}),
    }
}

/// All components.
pub fn all() -> Value {
    let mut schemas = Map::new();
    let error = json!({
        "type": "object",
        "properties": {"faultstring": {"type": "string"}, "conflict-id": {"type": ["string", "null"]}},
        "required": ["faultstring"],
    });
    schemas.insert("Error".to_owned(), error);
    for (name, list) in RESOURCES {
        let known = list.attributes.known.iter().chain(list.attributes.mandatory);
        let properties: Object = known.map(|name| ((*name).to_owned(), attribute(name))).collect();
        schemas.insert(name.to_owned(), json!({"type": "object", "properties": properties}));
    }
    schemas.insert("Resource".to_owned(), json!({"type": "object", "properties": {"id": {"type": "string"}}}));
    schemas.insert(
        "Token".to_owned(),
        json!({
            "type": "object",
            "properties": {
                "id": attribute("id"),
                "user": {"type": ["string", "null"]},
                "token": {"type": "string"},
                "expiry": {"type": "string"},
                "service": {"type": "boolean"},
                "metadata": {"type": "object"},
            },
            "required": ["user", "token", "expiry"],
        }),
    );
    let key = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string"}, "scope": {"type": "string"}, "value": {"type": "string"},
            "secret": {"type": "boolean"}, "encrypted": {"type": "boolean"},
        },
        "required": ["name", "scope", "value"],
    });
    schemas.insert("KeyValuePair".to_owned(), key);
    Value::Object(schemas)
}

/// A body's shape.
pub fn of_shape(shape: &Shape) -> Value {
    let kind = |kind: Kind, required: bool| {
        let name = match kind {
            Kind::Text => "string",
            Kind::Integer => "integer",
            Kind::Boolean => "boolean",
            Kind::Object => "object",
            Kind::Array | Kind::Texts => "array",
            Kind::Any => return json!({}),
        };
        let mut schema = if required { json!({"type": name}) } else { json!({"type": [name, "null"]}) };
        if kind == Kind::Texts {
            schema["items"] = json!({"type": "string"});
        }
        schema
    };
    let properties: Object =
        shape.fields.iter().map(|field| (field.name.to_owned(), kind(field.kind, field.required))).collect();
    let required: Vec<&str> = shape.fields.iter().filter(|field| field.required).map(|field| field.name).collect();
    let mut schema = json!({"type": "object", "properties": properties});
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    if shape.closed {
        schema["additionalProperties"] = json!(false);
    }
    schema
}
