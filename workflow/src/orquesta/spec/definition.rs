//! The typed definition: what the conductor and the graph are made from.

use std::collections::BTreeMap;

use model::resource::Object;
use serde_json::Value;

use super::load::Document;

/// A workflow. Parts that aren't well-formed are left out: inspection has said what is wrong with them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Definition {
    pub inputs: Vec<Assignment>,
    pub vars: Vec<Assignment>,
    pub output: Vec<Assignment>,
    /// By name, in byte order.
    pub tasks: BTreeMap<String, Task>,
}

/// A name and its value, which may be or hold expressions.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment {
    pub name: String,
    /// `Null` for an input without a default.
    pub value: Value,
    /// Which entry of its list it comes from.
    pub entry: usize,
}

/// A name and what a transition gives it.
pub type Publication = Assignment;

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Task {
    /// Without one, the task succeeds at once.
    pub action: Option<String>,
    /// A mapping, an expression, or null.
    pub input: Value,
    pub with: Option<WithItems>,
    pub join: Option<Join>,
    pub delay: Option<Value>,
    pub retry: Option<Retry>,
    pub next: Vec<Transition>,
}

/// Runs the action once for each item of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct WithItems {
    /// As written, `x in <% … %>`.
    pub items: String,
    /// The names before `in`.
    pub names: Vec<String>,
    /// The expression alone.
    pub expression: String,
    pub concurrency: Option<Value>,
}

/// How many of the tasks before it a task waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Join {
    All,
    Count(u64),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    pub when: Option<String>,
    pub count: Value,
    pub delay: Option<Value>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Transition {
    /// Without one, it always fires.
    pub when: Option<String>,
    pub publish: Vec<Publication>,
    /// Tasks and engine commands.
    pub targets: Vec<String>,
}

impl Definition {
    pub fn read(document: &Document) -> Self {
        let root = document.root();
        let tasks = root.get("tasks").and_then(Value::as_object);
        Self {
            inputs: assignments(root.get("input")),
            vars: assignments(root.get("vars")),
            output: assignments(root.get("output")),
            tasks: tasks
                .into_iter()
                .flatten()
                .filter_map(|(name, task)| Some((name.clone(), Task::read(task.as_object()?))))
                .collect(),
        }
    }
}

impl Task {
    fn read(task: &Object) -> Self {
        let text = |key: &str| task.get(key).and_then(Value::as_str).map(str::to_owned);
        Self {
            action: text("action").filter(|action| !action.is_empty()),
            input: match task.get("input") {
                Some(input @ (Value::Object(_) | Value::String(_))) => input.clone(),
                _ => Value::Null,
            },
            with: task.get("with").and_then(Value::as_object).and_then(WithItems::read),
            join: match task.get("join") {
                Some(Value::String(all)) if all == "all" => Some(Join::All),
                Some(count) => count.as_u64().map(Join::Count),
                None => None,
            },
            delay: task.get("delay").filter(|delay| !delay.is_null()).cloned(),
            retry: task.get("retry").and_then(Value::as_object).map(|retry| Retry {
                when: retry.get("when").and_then(Value::as_str).map(str::to_owned),
                count: retry.get("count").cloned().unwrap_or(Value::Null),
                delay: retry.get("delay").filter(|delay| !delay.is_null()).cloned(),
            }),
            next: match task.get("next") {
                Some(Value::Array(transitions)) => transitions.iter().map(Transition::read).collect(),
                _ => Vec::new(),
            },
        }
    }
}

impl WithItems {
    fn read(with: &Object) -> Option<Self> {
        let items = with.get("items")?.as_str()?.to_owned();
        let concurrency = with.get("concurrency").filter(|concurrency| !concurrency.is_null()).cloned();
        let trimmed = items.trim();
        // Before an expression stand names, or nothing.
        let begins = trimmed.find("<%").into_iter().chain(trimmed.find("{{")).min().unwrap_or(0);
        let (before, expression) = trimmed.split_at(begins);
        let before = before.trim_end();
        let names = before.strip_suffix("in").filter(|names| names.ends_with(char::is_whitespace)).unwrap_or_default();
        Some(Self {
            names: names.split([',', ' ', '\t']).filter(|name| !name.is_empty()).map(str::to_owned).collect(),
            expression: expression.to_owned(),
            concurrency,
            items,
        })
    }
}

impl Transition {
    fn read(transition: &Value) -> Self {
        let targets = match transition.get("do") {
            Some(Value::String(text)) => {
                text.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
            }
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            _ => Vec::new(),
        };
        Self {
            when: transition.get("when").and_then(Value::as_str).map(str::to_owned),
            publish: assignments(transition.get("publish")),
            targets: if targets.is_empty() { vec!["continue".to_owned()] } else { targets },
        }
    }
}

/// Entries of a list of names and one-key mappings.
fn assignments(list: Option<&Value>) -> Vec<Assignment> {
    let Some(Value::Array(list)) = list else { return Vec::new() };
    let mut found = Vec::with_capacity(list.len());
    for (entry, value) in list.iter().enumerate() {
        match value {
            Value::String(name) => found.push(Assignment { name: name.clone(), value: Value::Null, entry }),
            Value::Object(map) => found.extend(map.iter().map(|(name, value)| Assignment {
                name: name.clone(),
                value: value.clone(),
                entry,
            })),
            _ => {}
        }
    }
    found
}
