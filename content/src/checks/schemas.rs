//! The API models' schemas (spec/model.md §8), in the dialect of `model::schema`.

use std::sync::LazyLock;

use serde_json::{Value, json};

/// Fields that clients may send and that are computed anyway.
fn computed(mut properties: Value) -> Value {
    for field in ["id", "uid", "ref"] {
        properties[field] = json!({"type": "string"});
    }
    properties["metadata_file"] = json!({"type": "string"});
    json!({"type": "object", "properties": properties, "additionalProperties": false})
}

fn tags() -> Value {
    json!({"type": "array", "items": {
        "type": "object",
        "properties": {"name": {"type": "string", "required": true}, "value": {"type": "string", "required": true}},
    }})
}

fn notify() -> Value {
    let section = json!({"type": "object", "additionalProperties": false, "properties": {
        "message": {"type": "string"},
        "data": {"type": "object"},
        "routes": {"type": "array"},
        "channels": {"type": "array"},
    }});
    json!({"type": "object", "additionalProperties": false, "properties": {
        "on-complete": section, "on-success": section, "on-failure": section,
    }})
}

fn invocation() -> Value {
    json!({"type": "object", "additionalProperties": false, "properties": {
        "ref": {"type": "string", "required": true},
        "description": {"type": "string"},
        "parameters": {"type": "object"},
    }})
}

pub static ACTION: LazyLock<Value> = LazyLock::new(|| {
    computed(json!({
        "name": {"type": "string", "required": true},
        "pack": {"type": "string"},
        "description": {"type": "string"},
        "enabled": {"type": "boolean", "default": true},
        "runner_type": {"type": "string", "required": true},
        "entry_point": {"type": "string", "default": ""},
        "parameters": {"type": "object"},
        "output_schema": {"type": "object"},
        "tags": tags(),
        "notify": notify(),
        "data_files": {"type": "array", "items": {"type": "object", "additionalProperties": false, "properties": {
            "file_path": {"type": "string", "required": true},
            "content": {"type": "string", "required": true},
        }}},
    }))
});

pub static TRIGGER_TYPE: LazyLock<Value> = LazyLock::new(|| {
    computed(json!({
        "name": {"type": "string", "required": true},
        "pack": {"type": "string"},
        "description": {"type": "string"},
        "payload_schema": {"type": "object"},
        "parameters_schema": {"type": "object"},
        "tags": tags(),
    }))
});

pub static RULE: LazyLock<Value> = LazyLock::new(|| {
    computed(json!({
        "name": {"type": "string", "required": true},
        "pack": {"type": "string"},
        "description": {"type": "string"},
        "enabled": {"type": "boolean", "default": false},
        "type": {"type": "object", "additionalProperties": false, "properties": {
            "ref": {"type": "string", "required": true},
            "parameters": {"type": "object"},
        }},
        "trigger": {"type": "object", "required": true, "properties": {
            "type": {"type": "string", "required": true},
            "parameters": {"type": "object"},
            "description": {"type": "string"},
        }},
        "criteria": {"type": "object"},
        "action": {"type": "object", "required": true, "additionalProperties": false,
            "properties": invocation()["properties"].clone()},
        "context": {"type": "object"},
        "tags": tags(),
    }))
});

pub static ALIAS: LazyLock<Value> = LazyLock::new(|| {
    computed(json!({
        "name": {"type": "string", "required": true},
        "pack": {"type": "string", "required": true},
        "description": {"type": "string"},
        "enabled": {"type": "boolean", "default": true},
        "action_ref": {"type": "string", "required": true},
        "formats": {"type": "array", "items": {"anyOf": [
            {"type": "string"},
            {"type": "object", "properties": {
                "display": {"type": "string"},
                "representation": {"type": "array", "items": {"type": "string"}},
                "match_multiple": {"type": "boolean"},
            }},
        ]}},
        "ack": {"type": "object"},
        "result": {"type": "object"},
        "extra": {"type": "object"},
        "immutable_parameters": {"type": "object"},
    }))
});

pub static POLICY: LazyLock<Value> = LazyLock::new(|| {
    computed(json!({
        "name": {"type": "string", "required": true},
        "pack": {"type": "string"},
        "description": {"type": "string"},
        "enabled": {"type": "boolean", "default": true},
        "resource_ref": {"type": "string", "required": true},
        "policy_type": {"type": "string", "required": true},
        "parameters": {"type": "object"},
    }))
});

pub static SENSOR: LazyLock<Value> = LazyLock::new(|| {
    json!({"type": "object", "properties": {
        "class_name": {"type": "string", "required": true},
        "entry_point": {"type": "string", "required": true},
        "description": {"type": "string"},
        "enabled": {"type": "boolean", "default": true},
        "poll_interval": {"type": "number"},
        "trigger_types": {"type": "array"},
    }})
});

pub static PACK: LazyLock<Value> = LazyLock::new(|| {
    let texts = json!({"type": "array", "items": {"type": "string"}});
    json!({"type": "object", "properties": {
        "name": {"type": "string", "required": true},
        "description": {"type": "string", "required": true},
        "version": {"type": "string", "required": true},
        "author": {"type": "string", "required": true},
        "email": {"type": "string"},
        "keywords": texts,
        "contributors": {"type": "array", "items": {"type": "string", "maxLength": 100}},
        "dependencies": texts,
        "stackstorm_version": {"type": "string"},
        "python_versions": {"type": "array", "minItems": 1, "maxItems": 2, "uniqueItems": true,
            "items": {"type": "string", "enum": ["2", "3"]}},
        "system": {"type": "object"},
    }})
});
