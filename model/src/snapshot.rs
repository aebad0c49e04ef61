//! Content stored by its hash: frozen resources that executions refer to, and large results.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::Id;
use crate::resource::{Collection, Keys, Resource};

/// A resource in API shape as it was at some moment; its id is the hash of its content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    pub id: Id,
    pub body: Value,
}

impl Snapshot {
    pub fn of(body: Value) -> Self {
        let id = Id::of_content(body.to_string().as_bytes());
        Self { id, body }
    }
}

impl Resource for Snapshot {
    const COLLECTION: &'static Collection = &Collection { name: "snapshots", fields: &[], indexes: &[] };

    fn id(&self) -> Id {
        self.id
    }

    fn keys(&self) -> Keys {
        Keys::new()
    }
}
