//! The languages of expressions, as the conductor and the inspection ask for them: `expr::workflow`.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use expr::workflow as language;
use expr::{KeyAnswer, KeyRequest, KeySource};
use serde_json::Value;

use super::expression::{Expressions, Failure, Scope, Tasks};
use super::inspect::{Analyzer, ExpressionFault, Variable};
use super::status::Status;

/// Decrypts a secret of the datastore.
pub type Decrypt = Arc<dyn Fn(&str) -> Result<String, String> + Send + Sync>;

/// YAQL and Jinja, with the keys of the datastore that are known.
#[derive(Clone, Default)]
pub struct Language {
    keys: HashMap<KeyRequest, KeyAnswer>,
    decrypt: Option<Decrypt>,
}

impl fmt::Debug for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values may be secret.
        f.debug_struct("Language").field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}

impl Language {
    /// Keys that aren't among these are asked for.
    pub fn new(keys: HashMap<KeyRequest, KeyAnswer>, decrypt: Decrypt) -> Self {
        Self { keys, decrypt: Some(decrypt) }
    }

    fn with<T>(
        &self,
        scope: &Scope<'_>,
        evaluate: impl FnOnce(&language::Scope<'_>) -> Result<T, language::EvalError>,
    ) -> Result<T, Failure> {
        let tasks = Known(scope.tasks);
        let task = scope.task.map(|task| language::CurrentTask { id: task.id, route: task.route, result: task.result });
        evaluate(&language::Scope { ctx: scope.ctx, task, item: scope.item, tasks: &tasks, keys: self }).map_err(
            |error| match error {
                language::EvalError::Failed { class, message } => Failure::new(class, message),
                language::EvalError::NeedsKeys(keys) => Failure::NeedsKeys(keys),
            },
        )
    }
}

impl KeySource for Language {
    fn get(&self, request: &KeyRequest) -> KeyAnswer {
        self.keys.get(request).cloned().unwrap_or(KeyAnswer::Unknown)
    }

    fn decrypt(&self, ciphertext: &str) -> Result<String, String> {
        match &self.decrypt {
            Some(decrypt) => decrypt(ciphertext),
            None => Err("no crypto key is configured".to_owned()),
        }
    }
}

#[derive(Debug)]
struct Known<'a>(&'a dyn Tasks);

impl language::Tasks for Known<'_> {
    fn status(&self, task: &str, route: u32) -> Option<String> {
        let status = self.0.status(task, route);
        (status != Status::Unset).then(|| status.to_string())
    }

    fn record(&self, task: &str, route: u32) -> Option<Value> {
        self.0.record(task, route)
    }
}

impl Expressions for Language {
    fn evaluate(&self, value: &Value, scope: &Scope<'_>) -> Result<Value, Failure> {
        self.with(scope, |scope| language::evaluate(value, scope))
    }

    fn list(&self, text: &str, scope: &Scope<'_>) -> Result<Option<Vec<Value>>, Failure> {
        self.with(scope, |scope| language::evaluate_list(&Value::String(text.to_owned()), scope))
    }
}

fn name(language: language::Language) -> &'static str {
    match language {
        language::Language::Yaql => "yaql",
        language::Language::Jinja => "jinja",
    }
}

impl Analyzer for Language {
    fn faults(&self, text: &str) -> Vec<ExpressionFault> {
        let found = language::validate(&Value::String(text.to_owned()));
        found
            .into_iter()
            .map(|fault| ExpressionFault {
                language: fault.language.map(name),
                expression: fault.expression,
                message: fault.message,
            })
            .collect()
    }

    fn variables(&self, text: &str) -> Vec<Variable> {
        let found = language::variables(&Value::String(text.to_owned()));
        found
            .into_iter()
            .map(|variable| Variable {
                language: name(variable.language),
                expression: variable.expression,
                name: variable.name,
            })
            .collect()
    }
}
