//! Actions, runner types and aliases (spec/model.md §8.1, §8.2, §8.23).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::Id;
use crate::resource::{Collection, KeyKind, Keys, Object, Resource, index, to_object, unique};

fn yes() -> bool {
    true
}

/// `{name, value}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag {
    pub name: String,
    pub value: String,
}

/// What a runner is called, where StackStorm kept its code, and which parameters it takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunnerType {
    pub id: Id,
    pub uid: String,
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default = "yes")]
    pub enabled: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner_package: Option<String>,
    pub runner_module: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query_module: Option<String>,
    /// Parameter name → schema.
    #[serde(default)]
    pub runner_parameters: Object,
    /// The key of the result that an action's `output_schema` describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_key: Option<String>,
    #[serde(default)]
    pub output_schema: Object,
}

impl RunnerType {
    pub fn to_api(&self) -> Object {
        to_object(self)
    }
}

impl Resource for RunnerType {
    const COLLECTION: &'static Collection =
        &Collection { name: "runner_types", fields: &[("name", KeyKind::Text)], indexes: &[unique(&["name"])] };

    fn id(&self) -> Id {
        self.id
    }

    fn keys(&self) -> Keys {
        vec![("name", self.name.as_str().into())]
    }
}

/// A registered action. `ref` is `<pack>.<name>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Action {
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
    pub runner_type: String,
    /// Relative to `<pack>/actions/`.
    #[serde(default)]
    pub entry_point: String,
    #[serde(default)]
    pub parameters: Object,
    #[serde(default)]
    pub output_schema: Object,
    #[serde(default)]
    pub tags: Vec<Tag>,
    /// `on-complete`, `on-success`, `on-failure` → `{message, data, routes, channels}`.
    #[serde(default)]
    pub notify: Object,
    /// Relative to the pack's directory.
    #[serde(default)]
    pub metadata_file: String,
}

impl Action {
    pub fn uid_of(pack: &str, name: &str) -> String {
        format!("action:{pack}:{name}")
    }

    pub fn to_api(&self) -> Object {
        to_object(self)
    }
}

/// Key declarations shared by resources that belong to a pack and are found by ref.
macro_rules! pack_resource {
    ($type:ty, $collection:literal, [$(($field:literal, $kind:expr, $value:expr)),* $(,)?]) => {
        impl Resource for $type {
            const COLLECTION: &'static Collection = &Collection {
                name: $collection,
                fields: &[
                    ("ref", KeyKind::Text),
                    ("pack", KeyKind::Text),
                    ("name", KeyKind::Text),
                    $(($field, $kind)),*
                ],
                indexes: &[unique(&["pack", "name"]), unique(&["ref"]) $(, index(&[$field]))*],
            };

            fn id(&self) -> Id {
                self.id
            }

            fn keys(&self) -> Keys {
                vec![
                    ("ref", self.reference.as_str().into()),
                    ("pack", self.pack.as_str().into()),
                    ("name", self.name.as_str().into()),
                    $(($field, {
                        let value: fn(&$type) -> $crate::resource::Key = $value;
                        value(self)
                    })),*
                ]
            }
        }
    };
}
pub(crate) use pack_resource;

pack_resource!(
    Action,
    "actions",
    [
        ("enabled", KeyKind::Int, |a| a.enabled.into()),
        ("runner_type", KeyKind::Text, |a| a.runner_type.as_str().into()),
    ]
);

/// A chat command for an action.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ActionAlias {
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
    pub action_ref: String,
    /// Strings or `{display, representation, match_multiple}`.
    #[serde(default)]
    pub formats: Vec<Value>,
    #[serde(default)]
    pub ack: Object,
    #[serde(default)]
    pub result: Object,
    #[serde(default)]
    pub extra: Object,
    #[serde(default)]
    pub immutable_parameters: Object,
    #[serde(default)]
    pub metadata_file: String,
}

impl ActionAlias {
    pub fn to_api(&self) -> Object {
        to_object(self)
    }
}

pack_resource!(ActionAlias, "action_aliases", [("enabled", KeyKind::Int, |a| a.enabled.into())]);
