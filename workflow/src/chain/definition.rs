//! Definitions of chains: reading, and what can be checked before anything runs (spec/actionchain.md §1).

use model::Object;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A chain as it was written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    pub chain: Vec<Node>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// Global variables.
    #[serde(default, skip_serializing_if = "Object::is_empty")]
    pub vars: Object,
}

/// A step of a chain.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    pub name: String,
    /// Of an action; no template.
    #[serde(rename = "ref")]
    pub action: String,
    #[serde(default, skip_serializing_if = "Object::is_empty")]
    pub parameters: Object,
    /// The old name of `parameters`.
    #[serde(default, skip_serializing_if = "Object::is_empty")]
    pub params: Object,
    #[serde(rename = "on-success", default, skip_serializing_if = "Option::is_none")]
    pub on_success: Option<String>,
    #[serde(rename = "on-failure", default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<String>,
    #[serde(default, skip_serializing_if = "Object::is_empty")]
    pub publish: Object,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify: Option<Value>,
}

const KEYS: [&str; 8] = ["name", "ref", "parameters", "params", "on-success", "on-failure", "publish", "notify"];

impl Node {
    /// What the action is given, before rendering.
    pub fn parameters(&self) -> &Object {
        if self.parameters.is_empty() { &self.params } else { &self.parameters }
    }

    /// What its executions keep of it.
    pub fn shown(&self) -> Value {
        json!({
            "name": self.name,
            "ref": self.action,
            "params": self.parameters(),
            "on_success": self.on_success.as_deref().unwrap_or_default(),
            "on_failure": self.on_failure.as_deref().unwrap_or_default(),
            "publish": self.publish,
            "notify": self.notify,
        })
    }

    /// The node that follows.
    pub fn next(&self, succeeded: bool) -> Option<&str> {
        let next = if succeeded { &self.on_success } else { &self.on_failure };
        next.as_deref().filter(|name| !name.is_empty())
    }
}

impl Definition {
    /// Reads and checks a definition.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in a sentence for its author.
    pub fn read(mut document: Value) -> Result<Self, String> {
        // Only the first node's keys are closed in StackStorm: what it ignores in later ones is ignored here.
        for node in document.get_mut("chain").and_then(Value::as_array_mut).into_iter().flatten().skip(1) {
            if let Some(node) = node.as_object_mut() {
                node.retain(|key, _| KEYS.contains(&key.as_str()));
            }
        }
        drop_nulls(&mut document);
        let definition: Self = serde_json::from_value(document).map_err(|error| error.to_string())?;
        definition.check()?;
        Ok(definition)
    }

    fn check(&self) -> Result<(), String> {
        variable_names("vars", &self.vars)?;
        for node in &self.chain {
            variable_names("publish", &node.publish)?;
            if !node.parameters.is_empty() && !node.params.is_empty() {
                return Err(
                    "Either \"params\" or \"parameters\" attribute needs to be provided, but not both".to_owned()
                );
            }
            for (key, target) in [("on-success", &node.on_success), ("on-failure", &node.on_failure)] {
                if let Some(target) = target
                    && !self.may_be_target(target)
                {
                    let task = &node.name;
                    return Err(format!(
                        "Unable to find node with name \"{target}\" referenced in \"{key}\" in task \"{task}\"."
                    ));
                }
            }
        }
        match &self.default {
            Some(default) if !self.may_be_target(default) => {
                Err(format!("Unable to find node with name \"{default}\" referenced in \"default\"."))
            }
            _ => Ok(()),
        }
    }

    /// Names that hold an expression pass here, and are unknown once the chain runs, as they are never rendered.
    fn may_be_target(&self, name: &str) -> bool {
        name.is_empty() || name.contains("{{") || name.contains("{%") || self.node(name).is_some()
    }

    /// The first node of a name.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.chain.iter().find(|node| node.name == name)
    }

    /// Where it begins: `default`, else the first node that no other leads to, else the first.
    pub fn first(&self) -> Option<&str> {
        if let Some(default) = self.default.as_deref().filter(|name| !name.is_empty()) {
            return Some(default);
        }
        let led_to =
            |name: &str| self.chain.iter().any(|node| [true, false].iter().any(|way| node.next(*way) == Some(name)));
        let first = self.chain.iter().find(|node| !led_to(&node.name)).or_else(|| self.chain.first());
        first.map(|node| node.name.as_str())
    }
}

fn variable_names(what: &str, variables: &Object) -> Result<(), String> {
    let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    match variables.keys().find(|name| !is_name(name)) {
        Some(name) => Err(format!("'{name}' in \"{what}\" does not match '^\\w+$'")),
        None => Ok(()),
    }
}

/// A key without a value is a key that isn't there; values of parameters and variables stay as they are.
fn drop_nulls(document: &mut Value) {
    let Some(fields) = document.as_object_mut() else { return };
    fields.retain(|_, value| !value.is_null());
    for node in fields.get_mut("chain").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(node) = node.as_object_mut() {
            node.retain(|_, value| !value.is_null());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_where_no_other_leads() {
        let first = |chain: Value| Definition::read(chain).unwrap().first().map(str::to_owned);
        let a = json!({"name": "a", "ref": "x.a"});
        let b = json!({"name": "b", "ref": "x.b", "on-success": "a", "on-failure": ""});
        assert_eq!(first(json!({"chain": [a, b]})).as_deref(), Some("b"));
        assert_eq!(first(json!({"chain": [a, b], "default": "a"})).as_deref(), Some("a"));
        let round = json!({"name": "r", "ref": "x.a", "on-success": "r"});
        assert_eq!(first(json!({"chain": [round]})).as_deref(), Some("r"));
        assert_eq!(first(json!({"chain": []})), None);
    }

    #[test]
    fn what_is_wrong_is_told() {
        let fault = |chain: Value| Definition::read(chain).unwrap_err();
        let node = |more: Value| {
            let mut node = json!({"name": "t", "ref": "x.a"});
            node.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!({"chain": [node]})
        };
        assert_eq!(
            fault(node(json!({"on-success": "x"}))),
            "Unable to find node with name \"x\" referenced in \"on-success\" in task \"t\"."
        );
        assert!(fault(node(json!({"params": {"a": 1}, "parameters": {"a": 1}}))).starts_with("Either \"params\""));
        assert!(fault(node(json!({"retry": 1}))).contains("unknown field `retry`"));
        assert!(fault(json!({"chain": [], "vars": {"a-b": 1}})).contains("a-b"));
        assert!(fault(json!({})).contains("missing field `chain`"));
        let mut two = node(json!({}));
        two["chain"].as_array_mut().unwrap().push(json!({"name": "u", "ref": "x.b", "note": 1, "on-failure": null}));
        assert_eq!(Definition::read(two).unwrap().chain.len(), 2);
        assert!(Definition::read(node(json!({"on-success": "{{ x }}"}))).is_ok(), "fails when it gets there");
    }
}
