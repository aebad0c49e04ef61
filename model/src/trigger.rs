//! Trigger types, triggers and trigger instances (spec/model.md §8.8 – §8.10).

use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::action::{Tag, pack_resource};
use crate::id::Id;
use crate::resource::{Collection, KeyKind, Keys, Object, Resource, index, to_object, unique};
use crate::time::Timestamp;
use crate::trace;

/// A kind of event, with the schemas of its parameters and payload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TriggerType {
    pub id: Id,
    pub uid: String,
    #[serde(rename = "ref")]
    pub reference: String,
    pub pack: String,
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default)]
    pub payload_schema: Object,
    #[serde(default)]
    pub parameters_schema: Object,
    #[serde(default)]
    pub tags: Vec<Tag>,
    #[serde(default)]
    pub metadata_file: String,
}

impl TriggerType {
    pub fn to_api(&self) -> Object {
        to_object(self)
    }
}

pack_resource!(TriggerType, "trigger_types", []);

/// A trigger type with parameters; rules refer to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trigger {
    pub id: Id,
    pub uid: String,
    #[serde(rename = "ref")]
    pub reference: String,
    pub pack: String,
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Ref of the trigger type.
    #[serde(rename = "type")]
    pub type_ref: String,
    #[serde(default)]
    pub parameters: Object,
    /// Rules that use it; not shown by the API. At zero a trigger with parameters is deleted.
    #[serde(default)]
    pub ref_count: i64,
    /// When it was made: the phase of interval timers (invariant C1, spec/ha.md I-T2).
    pub created_at: Timestamp,
}

impl Trigger {
    /// `trigger:<pack>:<name>:<md5 of the parameters as Python would print them with sorted keys>`.
    pub fn uid_of(pack: &str, name: &str, parameters: &Object) -> String {
        format!("trigger:{pack}:{name}:{}", parameters_hash(parameters))
    }

    pub fn to_api(&self) -> Object {
        let mut object = to_object(self);
        object.remove("ref_count");
        object.remove("created_at");
        object
    }
}

/// Lower-case hex MD5 of the sorted, Python-spaced JSON of `parameters`.
pub fn parameters_hash(parameters: &Object) -> String {
    let mut text = String::new();
    write_sorted(&Value::Object(parameters.clone()), &mut text);
    let digest = Md5::digest(text.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// JSON with sorted keys and Python's default separators `", "` and `": "`, non-ASCII escaped as Python does.
fn write_sorted(value: &Value, out: &mut String) {
    match value {
        Value::Object(object) => {
            let mut entries: Vec<_> = object.iter().collect();
            entries.sort_by_key(|(name, _)| name.as_str());
            out.push('{');
            for (i, (name, value)) in entries.into_iter().enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                write_ascii(name, out);
                out.push_str(": ");
                write_sorted(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                write_sorted(item, out);
            }
            out.push(']');
        }
        Value::String(text) => write_ascii(text, out),
        other => out.push_str(&other.to_string()),
    }
}

fn write_ascii(text: &str, out: &mut String) {
    for c in Value::from(text).to_string().chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
}

impl Resource for Trigger {
    const COLLECTION: &'static Collection = &Collection {
        name: "triggers",
        fields: &[
            ("ref", KeyKind::Text),
            ("pack", KeyKind::Text),
            ("name", KeyKind::Text),
            ("type", KeyKind::Text),
            ("uid", KeyKind::Text),
            ("parameters_hash", KeyKind::Text),
        ],
        indexes: &[
            unique(&["ref"]),
            unique(&["uid"]),
            // One trigger for each type and parameters: rules that say the same share it.
            unique(&["type", "parameters_hash"]),
            index(&["pack", "name"]),
        ],
    };

    fn id(&self) -> Id {
        self.id
    }

    fn keys(&self) -> Keys {
        vec![
            ("ref", self.reference.as_str().into()),
            ("pack", self.pack.as_str().into()),
            ("name", self.name.as_str().into()),
            ("type", self.type_ref.as_str().into()),
            ("uid", self.uid.as_str().into()),
            ("parameters_hash", parameters_hash(&self.parameters).into()),
        ]
    }
}

/// Progress of a trigger instance through the rules engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceStatus {
    Pending,
    Processing,
    Processed,
    ProcessingFailed,
}

impl InstanceStatus {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Processing => "processing",
            Self::Processed => "processed",
            Self::ProcessingFailed => "processing_failed",
        }
    }
}

/// An event that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TriggerInstance {
    pub id: Id,
    /// Trigger ref.
    pub trigger: String,
    #[serde(default)]
    pub payload: Value,
    pub occurrence_time: Timestamp,
    pub status: InstanceStatus,
    /// Tag or id of the trace it belongs to, given by the sender; not shown by the API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_context: Option<Object>,
    /// When recovery looks at it if the rules engine did not finish; absent once processed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check_at: Option<Timestamp>,
}

impl TriggerInstance {
    /// Occurrence time is stored and shown with milliseconds precision (spec/model.md §4).
    pub fn to_api(&self) -> Object {
        let mut object = to_object(self);
        object.remove("trace_context");
        object.remove("check_at");
        object
    }
}

impl Resource for TriggerInstance {
    const COLLECTION: &'static Collection = &Collection {
        name: "trigger_instances",
        fields: &[
            ("trigger", KeyKind::Text),
            ("occurrence_time", KeyKind::Int),
            ("status", KeyKind::Text),
            ("check_at", KeyKind::Int),
            ("trace", KeyKind::Text),
            ("trace_start", KeyKind::Int),
            ("trace_tag", KeyKind::Text),
        ],
        indexes: &[
            index(&["occurrence_time"]),
            index(&["trigger", "occurrence_time"]),
            index(&["check_at"]),
            index(&["trace"]),
            index(&["trace_start"]),
            index(&["trace_tag"]),
        ],
    };

    fn id(&self) -> Id {
        self.id
    }

    fn keys(&self) -> Keys {
        let mut keys: Keys = vec![
            ("trigger", self.trigger.as_str().into()),
            ("occurrence_time", self.occurrence_time.into()),
            ("status", self.status.as_str().into()),
        ];
        keys.extend(self.check_at.map(|at| ("check_at", at.into())));
        trace::keys(&mut keys, self.trace_context.as_ref(), self.occurrence_time);
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn hash_of_parameters_is_pythons() {
        assert_eq!(parameters_hash(&Object::new()), "99914b932bd37a50b983c5e7c90ae93b");
        let parameters = to_object(&json!({"unit": "seconds", "delta": 30, "name": "é"}));
        let mut text = String::new();
        write_sorted(&Value::Object(parameters), &mut text);
        assert_eq!(text, r#"{"delta": 30, "name": "\u00e9", "unit": "seconds"}"#);
    }
}
