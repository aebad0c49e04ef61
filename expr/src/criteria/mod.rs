//! Rule criteria (spec/rules.md §6 – §12): compiled once per rule, decided per trigger instance.
//!
//! [`CompiledCriteria::compile`] validates as the API does at creation, [`CompiledCriteria::load`] takes whatever is
//! stored. [`CompiledCriteria::matches`] is pure: payload, datastore and time come in, a [`Verdict`] comes out. A
//! criterion that raises counts as "no" and leaves a [`Failure`], of which the caller makes a failed enforcement.

mod dates;
mod operators;
mod pattern;
mod search;

use std::cell::OnceCell;

use model::{Object, Timestamp, python};
use serde_json::Value;

use crate::jinja::{KeyRequest, KeySource, RenderError, values};
use crate::jsonpath::JsonPath;
use operators::Operator;
use pattern::Pattern;
use search::Search;

/// Criteria that can't be stored; the text is what the API answers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CriteriaError(pub String);

/// The criteria of one rule.
#[derive(Debug)]
pub struct CompiledCriteria(Vec<Criterion>);

/// What became of matching one rule.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdict {
    pub matched: bool,
    /// What raised on the way. Each makes a failed enforcement; a plain "no" has none.
    pub failures: Vec<Failure>,
}

/// A criterion that raised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    Pattern { key: String, pattern: String, error: String },
    Key { key: String, error: String },
    Operator { error: String },
}

impl Failure {
    /// Text of the enforcement record (spec/rules.md §13).
    pub fn reason(&self, rule: &str, trigger_instance: &str) -> String {
        let what = match self {
            Self::Pattern { key, pattern, error } => {
                format!("Failed to render pattern value \"{pattern}\" for key \"{key}\": {error}")
            }
            Self::Key { key, error } => format!("Failed transforming criteria key {key}: {error}"),
            Self::Operator { error } => format!("There might be a problem with the criteria in rule {rule}: {error}"),
        };
        format!("Failed to match rule \"{rule}\" against trigger instance \"{trigger_instance}\": {what}")
    }
}

/// Matching could not be decided.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MatchError {
    /// Fetch these and match again.
    #[error("datastore keys have to be fetched first")]
    NeedsKeys(Vec<KeyRequest>),
    /// Only in rows that bypassed validation: no rule of this trigger instance is enforced then.
    #[error("Unknown operator: {0}")]
    UnknownOperator(String),
}

/// One field, operator and pattern.
#[derive(Debug)]
struct Criterion {
    key: String,
    path: Result<Path, String>,
    /// `None`: no operator given, which never matches.
    operator: Option<Result<Operator, String>>,
    pattern: Pattern,
    /// Of the operator `search`.
    search: Option<Search>,
}

/// Where a field lies: below the context's one variable, or anywhere.
#[derive(Debug)]
enum Path {
    Below(JsonPath),
    Whole(JsonPath),
}

/// What criteria see: `trigger`, or `item` inside `search`.
struct Scope<'a> {
    name: &'static str,
    value: &'a Value,
    /// `value` in the template engine's form.
    jinja: OnceCell<minijinja::Value>,
    keys: &'a dyn KeySource,
    now: Timestamp,
}

impl<'a> Scope<'a> {
    const fn new(name: &'static str, value: &'a Value, keys: &'a dyn KeySource, now: Timestamp) -> Self {
        Self { name, value, jinja: OnceCell::new(), keys, now }
    }

    fn jinja(&self) -> minijinja::Value {
        self.jinja.get_or_init(|| values::to_jinja(self.value)).clone()
    }
}

impl CompiledCriteria {
    /// Validates and compiles. Key syntax and children of `search` are not validated, as in StackStorm.
    pub fn compile(criteria: &Object) -> Result<Self, CriteriaError> {
        for (key, criterion) in criteria {
            let given = |name: &str| criterion.get(name).filter(|value| !value.is_null());
            let Some(operator) = given("type") else {
                return Err(CriteriaError(format!("Operator not specified for field: {key}")));
            };
            let known = operator.as_str().is_some_and(|name| Operator::NAMES.contains(&name));
            if !known {
                let allowed = python::repr(&Operator::NAMES.iter().copied().collect::<Value>());
                return Err(CriteriaError(format!(
                    "For field: {key}, operator {} not in list of allowed operators: {allowed}",
                    python::text(operator)
                )));
            }
            if given("pattern").is_none() {
                return Err(CriteriaError(format!(
                    "For field: {key}, no pattern specified for operator {}",
                    python::text(operator)
                )));
            }
        }
        Ok(Self::load(criteria))
    }

    /// Compiles what is stored; what is wrong with it shows when it is matched.
    pub fn load(criteria: &Object) -> Self {
        Self(Criterion::all(criteria, "trigger", 0))
    }

    /// Whether `payload` fulfils all criteria. Stops at the first that it doesn't.
    pub fn matches(&self, payload: &Value, keys: &dyn KeySource, now: Timestamp) -> Result<Verdict, MatchError> {
        let mut verdict = Verdict { matched: true, failures: Vec::new() };
        if self.0.is_empty() {
            return Ok(verdict);
        }
        if is_falsy(payload) {
            return Ok(Verdict::default());
        }
        let scope = Scope::new("trigger", payload, keys, now);
        for criterion in &self.0 {
            if !criterion.evaluate(&scope, &mut verdict.failures)? {
                verdict.matched = false;
                break;
            }
        }
        Ok(verdict)
    }
}

fn is_falsy(payload: &Value) -> bool {
    match payload {
        Value::Null | Value::Bool(false) => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Bool(true) => false,
    }
}

impl Criterion {
    fn all(criteria: &Object, root: &'static str, depth: usize) -> Vec<Self> {
        criteria.iter().map(|(key, criterion)| Self::new(key, criterion, root, depth)).collect()
    }

    fn new(key: &str, criterion: &Value, root: &'static str, depth: usize) -> Self {
        let operator = criterion.get("type").filter(|given| !given.is_null());
        let operator = operator.map(|name| {
            let name = python::text(name).to_lowercase();
            Operator::parse(&name).ok_or(name)
        });
        let pattern = criterion.get("pattern").unwrap_or(&Value::Null);
        let search =
            (operator == Some(Ok(Operator::Search))).then(|| Search::new(pattern, criterion.get("condition"), depth));
        // What follows the first `#` only makes keys differ.
        let path = key.split('#').next().unwrap_or_default();
        let path = JsonPath::parse(path).map_err(|error| error.to_string());
        Self {
            key: key.to_owned(),
            path: path.map(|path| path.below(root).map_or(Path::Whole(path), Path::Below)),
            operator,
            // A search's children are templates of their own.
            pattern: if search.is_some() { Pattern::Plain(Value::Null) } else { Pattern::new(pattern) },
            search,
        }
    }

    fn evaluate(&self, scope: &Scope<'_>, failures: &mut Vec<Failure>) -> Result<bool, MatchError> {
        let Some(operator) = &self.operator else { return Ok(false) };
        let pattern = match self.pattern.render(scope) {
            Ok(pattern) => pattern,
            Err(RenderError::NeedsKeys(keys)) => return Err(MatchError::NeedsKeys(keys)),
            Err(error) => {
                failures.push(Failure::Pattern {
                    key: self.key.clone(),
                    pattern: self.pattern.source(),
                    error: error.to_string(),
                });
                return Ok(false);
            }
        };
        let path = match &self.path {
            Ok(path) => path,
            Err(error) => {
                failures.push(Failure::Key { key: self.key.clone(), error: error.clone() });
                return Ok(false);
            }
        };
        let whole;
        let found = match path {
            Path::Below(path) => path.first(scope.value),
            Path::Whole(path) => {
                whole = Value::Object([(scope.name.to_owned(), scope.value.clone())].into_iter().collect());
                path.first(&whole)
            }
        };
        let value = found.as_deref().unwrap_or(&Value::Null);
        let operator = operator.as_ref().map_err(|name| MatchError::UnknownOperator(name.clone()))?;
        let result = match &self.search {
            Some(search) => search.evaluate(value, scope, failures)?,
            None => operator.apply(value, &pattern, scope.now),
        };
        result.or_else(|error| {
            failures.push(Failure::Operator { error });
            Ok(false)
        })
    }
}

#[cfg(test)]
mod tests;
