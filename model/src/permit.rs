//! Permits of concurrency policies (DESIGN §3, invariant P1).

use serde::{Deserialize, Serialize};

use crate::id::Id;
use crate::resource::{Collection, KeyKind, Keys, Resource, index};
use crate::time::Timestamp;

/// A permit as its execution notes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldPermit {
    /// The policy and, for attribute policies, the values.
    pub key: String,
    /// Below the policy's threshold when it was granted.
    pub slot: u32,
    /// Of the coordinator's grant.
    pub token: u64,
}

/// A taken slot of a policy key: there while its execution may run, from the commit that lets it go on to the commit
/// of its terminal status. Its id derives from key and slot, so no slot is ever taken twice, and no more executions
/// can run than there are slots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permit {
    pub id: Id,
    pub key: String,
    pub slot: u32,
    pub execution: Id,
    pub token: u64,
    pub since: Timestamp,
}

impl Permit {
    pub fn new(held: &HeldPermit, execution: Id, since: Timestamp) -> Self {
        let HeldPermit { key, slot, token } = held;
        Self { id: Self::id_of(key, *slot), key: key.clone(), slot: *slot, execution, token: *token, since }
    }

    /// The id of the permit for a slot of a key.
    pub fn id_of(key: &str, slot: u32) -> Id {
        Id::derive("permit", Timestamp::default(), &[key, &slot.to_string()])
    }
}

impl Resource for Permit {
    const COLLECTION: &'static Collection = &Collection {
        name: "permits",
        fields: &[("key", KeyKind::Text), ("execution", KeyKind::Text)],
        indexes: &[index(&["key"]), index(&["execution"])],
    };

    fn id(&self) -> Id {
        self.id
    }

    fn keys(&self) -> Keys {
        vec![("key", self.key.as_str().into()), ("execution", self.execution.into())]
    }
}
