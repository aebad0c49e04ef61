//! Runs folders of recorded workflows and expressions, with a datastore for each case.

#[path = "../../../expr/tests/recorded/mod.rs"]
pub mod expressions;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use expr::{KeyAnswer, KeyRequest};
use model::Scope as KeyScope;
use parking_lot::Mutex;
use serde_json::Value;
use workflow::orquesta::conformance::{Outcome, run_folder};
use workflow::orquesta::expression::{Expressions, Failure, Scope};
use workflow::orquesta::language::Language;

/// All recorded workflows of a folder, by name.
pub fn workflows(folder: &Path) -> std::io::Result<Vec<(String, Outcome)>> {
    run_folder(folder, &|kv| Box::new(Datastore::new(kv)), &Language::default())
}

/// Evaluates with the keys of a case; those that it doesn't have are absent.
#[derive(Debug)]
struct Datastore {
    keys: Mutex<HashMap<KeyRequest, KeyAnswer>>,
}

impl Datastore {
    /// `system.x`, or a key of the user; a mapping holds the plain text of a secret.
    fn new(kv: &Value) -> Self {
        let mut keys = HashMap::new();
        for (name, value) in kv.as_object().into_iter().flatten() {
            let (scope, name) = match name.strip_prefix("system.") {
                Some(name) => (KeyScope::System, name),
                None => (KeyScope::User, name.strip_prefix("user.").unwrap_or(name)),
            };
            let (value, secret) = match value {
                Value::Object(secret) => (secret.values().next().and_then(Value::as_str).unwrap_or_default(), true),
                value => (value.as_str().unwrap_or_default(), false),
            };
            let answer = KeyAnswer::Value { value: value.to_owned(), secret };
            keys.insert(KeyRequest { scope, name: name.to_owned() }, answer);
        }
        Self { keys: Mutex::new(keys) }
    }

    /// As a node does it: keys that are asked for are fetched, then it goes on.
    fn with<T>(&self, evaluate: impl Fn(&Language) -> Result<T, Failure>) -> Result<T, Failure> {
        loop {
            let language = Language::new(self.keys.lock().clone(), Arc::new(|text| Ok(text.to_owned())));
            match evaluate(&language) {
                Err(Failure::NeedsKeys(asked)) => {
                    self.keys.lock().extend(asked.into_iter().map(|key| (key, KeyAnswer::Absent)));
                }
                other => return other,
            }
        }
    }
}

impl Expressions for Datastore {
    fn evaluate(&self, value: &Value, scope: &Scope<'_>) -> Result<Value, Failure> {
        self.with(|language| language.evaluate(value, scope))
    }

    fn list(&self, text: &str, scope: &Scope<'_>) -> Result<Option<Vec<Value>>, Failure> {
        self.with(|language| language.list(text, scope))
    }
}
