//! Users, tokens and API keys (spec/model.md §5.3, §8.18 – §8.20).

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha512};

use crate::id::Id;
use crate::resource::{Collection, KeyKind, Keys, Object, Resource, index, to_object, unique};
use crate::time::Timestamp;

fn yes() -> bool {
    true
}

/// Someone who logged in at least once, or was made by an administrator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct User {
    pub id: Id,
    pub name: String,
    #[serde(default)]
    pub is_service: bool,
    /// Origin (`slack`) → nick.
    #[serde(default)]
    pub nicknames: Object,
}

impl User {
    pub fn to_api(&self) -> Object {
        to_object(self)
    }
}

impl Resource for User {
    const COLLECTION: &'static Collection =
        &Collection { name: "users", fields: &[("name", KeyKind::Text)], indexes: &[unique(&["name"])] };

    fn id(&self) -> Id {
        self.id
    }

    fn keys(&self) -> Keys {
        vec![("name", self.name.as_str().into())]
    }
}

/// An access token; stored in clear as StackStorm does, never logged.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Token {
    pub id: Id,
    pub user: String,
    pub token: String,
    pub expiry: Timestamp,
    #[serde(default)]
    pub metadata: Object,
    /// Made by the system for a sensor or action.
    #[serde(default)]
    pub service: bool,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("id", &self.id).field("user", &self.user).finish_non_exhaustive()
    }
}

impl Token {
    pub fn to_api(&self) -> Object {
        to_object(self)
    }
}

impl Resource for Token {
    const COLLECTION: &'static Collection = &Collection {
        name: "tokens",
        fields: &[("token", KeyKind::Text), ("user", KeyKind::Text), ("expiry", KeyKind::Int)],
        indexes: &[unique(&["token"]), index(&["expiry"])],
    };

    fn id(&self) -> Id {
        self.id
    }

    fn keys(&self) -> Keys {
        vec![("token", self.token.as_str().into()), ("user", self.user.as_str().into()), ("expiry", self.expiry.into())]
    }
}

/// An API key; only its hash is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApiKey {
    pub id: Id,
    pub uid: String,
    pub user: String,
    pub key_hash: String,
    #[serde(default)]
    pub metadata: Object,
    pub created_at: Timestamp,
    #[serde(default = "yes")]
    pub enabled: bool,
}

impl ApiKey {
    /// Hex SHA-512 with StackStorm's fixed salt, so that existing keys stay valid.
    pub fn hash_of(key: &str) -> String {
        let mut hash = Sha512::new();
        hash.update("saltnpepper");
        hash.update(key);
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub fn to_api(&self) -> Object {
        to_object(self)
    }
}

impl Resource for ApiKey {
    const COLLECTION: &'static Collection = &Collection {
        name: "api_keys",
        fields: &[("user", KeyKind::Text), ("key_hash", KeyKind::Text)],
        indexes: &[unique(&["key_hash"]), index(&["user"])],
    };

    fn id(&self) -> Id {
        self.id
    }

    fn keys(&self) -> Keys {
        vec![("user", self.user.as_str().into()), ("key_hash", self.key_hash.as_str().into())]
    }
}
