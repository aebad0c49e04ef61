//! The datastore's key-value pairs (spec/model.md §8.17).

use serde::{Deserialize, Serialize};

use crate::id::Id;
use crate::resource::{Collection, KeyKind, Keys, Resource, index, unique};
use crate::time::Timestamp;

/// `st2kv.system` or `st2kv.user`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Scope {
    #[serde(rename = "st2kv.system")]
    System,
    #[serde(rename = "st2kv.user")]
    User,
}

impl Scope {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::System => "st2kv.system",
            Self::User => "st2kv.user",
        }
    }

    /// Also takes the deprecated `system` and `user`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "system" | "st2kv.system" => Some(Self::System),
            "user" | "st2kv.user" => Some(Self::User),
            _ => None,
        }
    }
}

/// A pair. In the user scope `name` is `<user>:<key>`. A secret's `value` is ciphertext (spec/model.md §5.2).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeyValue {
    pub id: Id,
    pub uid: String,
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    pub value: String,
    #[serde(default)]
    pub secret: bool,
    pub scope: Scope,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire_timestamp: Option<Timestamp>,
}

impl KeyValue {
    pub fn uid_of(scope: Scope, name: &str) -> String {
        format!("key_value_pair:{}:{name}", scope.as_str())
    }

    /// The name as stored: prefixed with the user in the user scope.
    pub fn stored_name(scope: Scope, user: &str, name: &str) -> String {
        match scope {
            Scope::System => name.to_owned(),
            Scope::User => format!("{user}:{name}"),
        }
    }

    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expire_timestamp.is_some_and(|at| at <= now)
    }
}

impl Resource for KeyValue {
    const COLLECTION: &'static Collection = &Collection {
        name: "key_values",
        fields: &[("scope", KeyKind::Text), ("name", KeyKind::Text), ("expire_timestamp", KeyKind::Int)],
        indexes: &[unique(&["scope", "name"]), index(&["expire_timestamp"])],
    };

    fn id(&self) -> Id {
        self.id
    }

    fn keys(&self) -> Keys {
        let mut keys: Keys = vec![("scope", self.scope.as_str().into()), ("name", self.name.as_str().into())];
        keys.extend(self.expire_timestamp.map(|at| ("expire_timestamp", at.into())));
        keys
    }
}
