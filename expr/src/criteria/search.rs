//! The operator `search` (spec/rules.md §11).

use model::python;
use serde_json::Value;

use super::{Criterion, Failure, MatchError, Scope};

/// Nested searches deeper than this are refused.
const MAX_DEPTH: usize = 16;

#[derive(Debug, Clone, Copy)]
enum Condition {
    All,
    Any,
    AllToAny,
    AnyToAny,
}

#[derive(Debug)]
pub(super) struct Search {
    condition: Result<Condition, String>,
    children: Result<Vec<Criterion>, String>,
}

impl Search {
    pub(super) fn new(pattern: &Value, condition: Option<&Value>, depth: usize) -> Self {
        let condition = match condition.and_then(Value::as_str) {
            Some("all") => Ok(Condition::All),
            Some("any") => Ok(Condition::Any),
            Some("all2any") => Ok(Condition::AllToAny),
            Some("any2any") => Ok(Condition::AnyToAny),
            _ => Err(format!(
                "The search condition {} is not recognized, must be one of: all, any, all2any, any2any",
                condition.map_or_else(|| "None".to_owned(), python::repr)
            )),
        };
        let children = match pattern {
            Value::Object(children) if depth < MAX_DEPTH => Ok(Criterion::all(children, "item", depth + 1)),
            Value::Object(_) => Err(format!("searches are nested deeper than {MAX_DEPTH} levels")),
            other => Err(format!("'{}' object has no attribute 'items'", python::type_name(other))),
        };
        Self { condition, children }
    }

    /// The inner result is the operator's: an error makes a failed enforcement.
    pub(super) fn evaluate(
        &self,
        value: &Value,
        scope: &Scope<'_>,
        failures: &mut Vec<Failure>,
    ) -> Result<Result<bool, String>, MatchError> {
        let (condition, children) = match (&self.condition, &self.children) {
            (Ok(condition), Ok(children)) => (condition, children),
            (Err(error), _) | (_, Err(error)) => return Ok(Err(error.clone())),
        };
        let single;
        let characters: Vec<Value>;
        let elements: &[Value] = match value {
            Value::Array(items) => items,
            Value::Object(_) => {
                single = [value.clone()];
                &single
            }
            Value::String(text) => {
                characters = text.chars().map(|c| Value::String(c.to_string())).collect();
                &characters
            }
            other => return Ok(Err(format!("'{}' object is not iterable", python::type_name(other)))),
        };
        let (mut all, mut any) = (true, false);
        for element in elements {
            let inner = Scope::new("item", element, scope.keys, scope.now);
            let (mut every, mut some) = (true, false);
            // Every child is asked for every element: each may leave a failure.
            for child in children {
                match child.evaluate(&inner, failures) {
                    Ok(matched) => {
                        every &= matched;
                        some |= matched;
                    }
                    Err(MatchError::UnknownOperator(name)) => return Ok(Err(format!("Unknown operator: {name}"))),
                    Err(error) => return Err(error),
                }
            }
            let matched = match condition {
                Condition::All | Condition::Any => every,
                Condition::AllToAny | Condition::AnyToAny => some,
            };
            all &= matched;
            any |= matched;
        }
        Ok(Ok(match condition {
            Condition::All | Condition::AllToAny => all,
            Condition::Any | Condition::AnyToAny => any,
        }))
    }
}
