//! From a text to a document in long form.

use model::resource::Object;
use serde_json::Value;

use super::inline::{Pair, split_action, split_pairs};

/// Why a text isn't a definition at all: what is so misshapen that there is nothing to inspect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    #[error("Failed to load workflow definition because {0}.")]
    Yaml(String),
    #[error("The spec cannot be type of None.")]
    Nothing,
    #[error("The spec is not type of json or yaml.")]
    NotAMapping,
    /// The part, and what it has to be.
    #[error("The {0} is not type of {1}.")]
    Shape(String, &'static str),
}

/// A definition in long form: inline parameters and publications are taken apart, `with` is a mapping.
#[derive(Debug, Clone, PartialEq)]
pub struct Document(Object);

impl Document {
    /// # Errors
    ///
    /// [`LoadError`] if the text isn't YAML, or its shape leaves nothing to inspect.
    pub fn load(text: &str) -> Result<Self, LoadError> {
        let value = model::yaml::load_unique(text).map_err(|error| {
            let message = error.message.clone();
            LoadError::Yaml(if message.starts_with("found duplicate key") { message } else { error.to_string() })
        })?;
        Self::from_value(value)
    }

    /// # Errors
    ///
    /// As [`Self::load`].
    pub fn from_value(value: Value) -> Result<Self, LoadError> {
        let mut root = match value {
            Value::Object(root) => root,
            Value::Null => return Err(LoadError::Nothing),
            _ => return Err(LoadError::NotAMapping),
        };
        if let Some(tasks) = root.get_mut("tasks") {
            let Value::Object(tasks) = tasks else {
                return Err(LoadError::Shape("tasks".to_owned(), "mapping"));
            };
            for (name, task) in tasks.iter_mut() {
                let Value::Object(task) = task else {
                    return Err(LoadError::Shape(format!("task \"{name}\""), "mapping"));
                };
                lengthen_task(name, task)?;
            }
        }
        Ok(Self(root))
    }

    pub const fn root(&self) -> &Object {
        &self.0
    }

    pub fn into_value(self) -> Value {
        Value::Object(self.0)
    }
}

fn lengthen_task(name: &str, task: &mut Object) -> Result<(), LoadError> {
    if let Some(Value::String(text)) = task.get("action") {
        let (action, pairs) = split_action(text);
        if !pairs.is_empty() {
            task.insert("action".to_owned(), action.into());
            task.insert("input".to_owned(), Value::Object(pairs.into_iter().collect()));
        }
    }
    if let Some(items @ Value::String(_)) = task.get("with") {
        let long = Object::from_iter([("items".to_owned(), items.clone())]);
        task.insert("with".to_owned(), Value::Object(long));
    }
    if let Some(with) = task.get("with")
        && !with.is_object()
    {
        return Err(LoadError::Shape(format!("with of task \"{name}\""), "string or mapping"));
    }
    if let Some(retry) = task.get("retry")
        && !retry.is_object()
    {
        return Err(LoadError::Shape(format!("retry of task \"{name}\""), "mapping"));
    }
    match task.get_mut("next") {
        None => Ok(()),
        Some(Value::Array(transitions)) => {
            transitions.iter_mut().try_for_each(|transition| lengthen_transition(name, transition))
        }
        Some(_) => Err(LoadError::Shape(format!("next of task \"{name}\""), "list")),
    }
}

fn lengthen_transition(task: &str, transition: &mut Value) -> Result<(), LoadError> {
    let Value::Object(transition) = transition else {
        return Err(LoadError::Shape(format!("transition of task \"{task}\""), "mapping"));
    };
    if let Some(Value::Number(_) | Value::Bool(_)) = transition.get("do") {
        return Err(LoadError::Shape(format!("do of task \"{task}\""), "string or list"));
    }
    if let Some(Value::String(text)) = transition.get("publish") {
        let list = split_pairs(text).into_iter().map(one_key_map).collect();
        transition.insert("publish".to_owned(), Value::Array(list));
    }
    Ok(())
}

fn one_key_map((name, value): Pair) -> Value {
    Value::Object(Object::from_iter([(name, value)]))
}
