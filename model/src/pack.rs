//! Packs, their configuration, policies and sensor types (spec/model.md §8.14 – §8.16, §8.22).

use serde::{Deserialize, Serialize};

use crate::action::pack_resource;
use crate::id::Id;
use crate::resource::{Collection, Key, KeyKind, Keys, Object, Resource, index, to_object, unique};
use crate::time::Timestamp;

fn yes() -> bool {
    true
}

/// A registered pack. Open document: whatever pack.yaml holds is kept in `rest`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pack {
    pub id: Id,
    pub uid: String,
    #[serde(rename = "ref")]
    pub reference: String,
    pub name: String,
    pub description: String,
    pub version: String,
    pub author: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    #[serde(default)]
    pub keywords: Vec<String>,
    #[serde(default)]
    pub contributors: Vec<String>,
    #[serde(default)]
    pub files: Vec<String>,
    #[serde(default)]
    pub dependencies: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stackstorm_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub python_versions: Option<Vec<String>>,
    #[serde(default)]
    pub system: Object,
    /// Directory on the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    #[serde(flatten)]
    pub rest: Object,
}

impl Pack {
    pub fn to_api(&self) -> Object {
        to_object(self)
    }
}

impl Resource for Pack {
    const COLLECTION: &'static Collection = &Collection {
        name: "packs",
        fields: &[("ref", KeyKind::Text), ("name", KeyKind::Text)],
        indexes: &[unique(&["ref"]), unique(&["name"])],
    };

    fn id(&self) -> Id {
        self.id
    }

    fn keys(&self) -> Keys {
        vec![("ref", self.reference.as_str().into()), ("name", self.name.as_str().into())]
    }
}

/// Collections with one document for each pack.
macro_rules! per_pack {
    ($type:ident, $collection:literal) => {
        impl Resource for $type {
            const COLLECTION: &'static Collection =
                &Collection { name: $collection, fields: &[("pack", KeyKind::Text)], indexes: &[unique(&["pack"])] };

            fn id(&self) -> Id {
                self.id
            }

            fn keys(&self) -> Keys {
                vec![("pack", self.pack.as_str().into())]
            }
        }

        impl $type {
            pub fn to_api(&self) -> Object {
                to_object(self)
            }
        }
    };
}

/// `config.schema.yaml` of a pack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConfigSchema {
    pub id: Id,
    pub pack: String,
    #[serde(default)]
    pub attributes: Object,
}
per_pack!(ConfigSchema, "config_schemas");

/// Configured values of a pack; may hold Jinja that refers to the datastore.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    pub id: Id,
    pub pack: String,
    #[serde(default)]
    pub values: Object,
}
per_pack!(Config, "configs");

/// Which content every node is to have of a pack: a bundle among the store's blobs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PackContent {
    pub id: Id,
    pub pack: String,
    /// The blob, named after what it holds.
    pub content: Id,
    /// Bytes of the bundle.
    pub size: u64,
    /// Where it was installed from, without passwords.
    pub source: String,
    pub installed_at: Timestamp,
}
per_pack!(PackContent, "pack_contents");

/// What a node says of a pack that it is to have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PackReport {
    pub id: Id,
    pub pack: String,
    /// The node's name.
    pub node: String,
    /// Which content it speaks of.
    pub content: Id,
    /// Why it can't have it; none: it is in force there, its virtualenv included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Since when this holds.
    pub at: Timestamp,
}

impl Resource for PackReport {
    const COLLECTION: &'static Collection = &Collection {
        name: "pack_reports",
        fields: &[("pack", KeyKind::Text), ("node", KeyKind::Text)],
        indexes: &[unique(&["pack", "node"])],
    };

    fn id(&self) -> Id {
        self.id
    }

    fn keys(&self) -> Keys {
        vec![("pack", self.pack.as_str().into()), ("node", self.node.as_str().into())]
    }
}

/// A policy on an action.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    pub id: Id,
    pub uid: String,
    #[serde(rename = "ref")]
    pub reference: String,
    pub pack: String,
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Action ref; need not exist.
    pub resource_ref: String,
    pub policy_type: String,
    #[serde(default)]
    pub parameters: Object,
    #[serde(default)]
    pub metadata_file: String,
}

impl Policy {
    pub fn to_api(&self) -> Object {
        to_object(self)
    }
}

impl Resource for Policy {
    const COLLECTION: &'static Collection = &Collection {
        name: "policies",
        fields: &[
            ("ref", KeyKind::Text),
            ("pack", KeyKind::Text),
            ("name", KeyKind::Text),
            ("resource_ref", KeyKind::Text),
            ("policy_type", KeyKind::Text),
        ],
        indexes: &[unique(&["pack", "name"]), unique(&["policy_type", "resource_ref"]), index(&["resource_ref"])],
    };

    fn id(&self) -> Id {
        self.id
    }

    fn keys(&self) -> Keys {
        vec![
            ("ref", self.reference.as_str().into()),
            ("pack", self.pack.as_str().into()),
            ("name", self.name.as_str().into()),
            ("resource_ref", self.resource_ref.as_str().into()),
            ("policy_type", self.policy_type.as_str().into()),
        ]
    }
}

/// A sensor class of a pack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SensorType {
    pub id: Id,
    pub uid: String,
    #[serde(rename = "ref")]
    pub reference: String,
    pub pack: String,
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    pub artifact_uri: String,
    pub entry_point: String,
    #[serde(default = "yes")]
    pub enabled: bool,
    #[serde(default)]
    pub trigger_types: Vec<String>,
    /// Seconds; absent for passive sensors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poll_interval: Option<u64>,
    #[serde(default)]
    pub metadata_file: String,
}

impl SensorType {
    pub fn to_api(&self) -> Object {
        to_object(self)
    }
}

pack_resource!(SensorType, "sensor_types", [("enabled", KeyKind::Int, |s| Key::from(s.enabled))]);
