//! Requests that clients may repeat without doing something twice (`Idempotency-Key`).

use serde::{Deserialize, Serialize};

use crate::id::Id;
use crate::resource::{Collection, KeyKind, Keys, Resource, index};
use crate::time::Timestamp;

/// A request that a client named, and what it was answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NamedRequest {
    /// Derived from the user and the key.
    pub id: Id,
    /// Of method, path, query and body: the same key for something else is the client's mistake.
    pub fingerprint: String,
    pub created_at: Timestamp,
    /// Whoever works on it has until then; past it somebody else may.
    pub held_until: Timestamp,
    /// Kept until then.
    pub expires_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<NamedAnswer>,
}

/// An answer as it is given again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NamedAnswer {
    pub status: u16,
    /// Names and values.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl NamedRequest {
    /// The id under which a user's key is remembered.
    pub fn id_of(user: &str, key: &str) -> Id {
        Id::of_content(format!("{}:{user}{key}", user.len()).as_bytes())
    }
}

impl Resource for NamedRequest {
    const COLLECTION: &'static Collection = &Collection {
        name: "named_requests",
        fields: &[("expires_at", KeyKind::Int)],
        indexes: &[index(&["expires_at"])],
    };

    fn id(&self) -> Id {
        self.id
    }

    fn keys(&self) -> Keys {
        vec![("expires_at", self.expires_at.into())]
    }
}
