//! Rules and their enforcement records (spec/model.md §8.11 – §8.13).

use serde::{Deserialize, Serialize};

use crate::action::{Tag, pack_resource};
use crate::id::Id;
use crate::resource::{Collection, KeyKind, Keys, Object, Resource, index, to_object, unique};
use crate::time::Timestamp;

/// `{ref, parameters}`: a rule's type or its action.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Invocation {
    #[serde(rename = "ref")]
    pub reference: String,
    #[serde(default)]
    pub parameters: Object,
}

/// Which events cause which action.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    pub id: Id,
    pub uid: String,
    #[serde(rename = "ref")]
    pub reference: String,
    pub pack: String,
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// `standard` or `backstop`.
    #[serde(rename = "type")]
    pub rule_type: Invocation,
    /// Ref of the trigger; the API shows `{type, parameters, ref}` instead.
    pub trigger: String,
    /// `trigger.path` → `{type, pattern, …}`.
    #[serde(default)]
    pub criteria: Object,
    pub action: Invocation,
    pub enabled: bool,
    #[serde(default)]
    pub context: Object,
    #[serde(default)]
    pub tags: Vec<Tag>,
    #[serde(default)]
    pub metadata_file: String,
}

impl Rule {
    /// Who wrote it last through the API; empty for rules that came with a pack.
    pub fn user(&self) -> &str {
        self.context.get("user").and_then(serde_json::Value::as_str).unwrap_or_default()
    }
}

pack_resource!(
    Rule,
    "rules",
    [
        ("enabled", KeyKind::Int, |r| r.enabled.into()),
        ("trigger", KeyKind::Text, |r| r.trigger.as_str().into()),
        ("action", KeyKind::Text, |r| r.action.reference.as_str().into()),
        ("user", KeyKind::Text, |r| r.user().into()),
    ]
);

/// The rule that was enforced, by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnforcedRule {
    #[serde(rename = "ref")]
    pub reference: String,
    pub id: Id,
    pub uid: String,
}

/// A match of a rule against a trigger instance, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RuleEnforcement {
    pub id: Id,
    pub trigger_instance_id: Id,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_id: Option<Id>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_reason: Option<String>,
    pub rule: EnforcedRule,
    pub enforced_at: Timestamp,
    /// `succeeded` or `failed`.
    pub status: String,
}

impl RuleEnforcement {
    /// Falsy fields are dropped (spec/model.md §1); a row with a failure reason reads as failed.
    pub fn to_api(&self) -> Object {
        let mut object = to_object(self);
        if self.failure_reason.as_deref().is_some_and(|reason| !reason.is_empty()) {
            object.insert("status".to_owned(), "failed".into());
        } else {
            object.remove("failure_reason");
        }
        object
    }
}

impl Resource for RuleEnforcement {
    const COLLECTION: &'static Collection = &Collection {
        name: "rule_enforcements",
        fields: &[
            ("trigger_instance", KeyKind::Text),
            ("execution", KeyKind::Text),
            ("rule_id", KeyKind::Text),
            ("rule_ref", KeyKind::Text),
            ("enforced_at", KeyKind::Int),
            ("status", KeyKind::Text),
        ],
        indexes: &[
            index(&["trigger_instance"]),
            index(&["execution"]),
            index(&["rule_id", "enforced_at"]),
            index(&["rule_ref", "enforced_at"]),
            index(&["enforced_at"]),
        ],
    };

    fn id(&self) -> Id {
        self.id
    }

    fn keys(&self) -> Keys {
        let mut keys: Keys = vec![
            ("trigger_instance", self.trigger_instance_id.into()),
            ("rule_id", self.rule.id.into()),
            ("rule_ref", self.rule.reference.as_str().into()),
            ("enforced_at", self.enforced_at.into()),
            ("status", self.status.as_str().into()),
        ];
        keys.extend(self.execution_id.map(|id| ("execution", id.into())));
        keys
    }
}
