//! Inspection: all faults of a definition that can be known before it runs (spec/orquesta.md §22).

mod context;
mod expressions;
mod places;
mod python;
mod schema;
mod semantics;
mod syntax;

use serde::Serialize;
use serde_json::{Value, json};

use super::graph::Graph;
use super::spec::{Definition, Document};

/// A fault of an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpressionFault {
    /// `yaql` or `jinja`; `None` if the text mixes them.
    pub language: Option<&'static str>,
    pub expression: String,
    pub message: String,
}

/// A variable that an expression reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    pub language: &'static str,
    pub expression: String,
    pub name: String,
}

/// Looks into expressions without evaluating them.
pub trait Analyzer {
    /// Faults of the expressions of a text.
    fn faults(&self, text: &str) -> Vec<ExpressionFault>;

    /// Variables that the expressions of a text read by `ctx`.
    fn variables(&self, text: &str) -> Vec<Variable>;
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Expressions and context only: `yaql`, `jinja` or null.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub language: Option<Option<&'static str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expression: Option<String>,
    pub message: String,
    /// Where in the definition; `None` at its root.
    pub spec_path: Option<String>,
    pub schema_path: Option<String>,
}

/// What an inspection found, each list by schema path and path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Inspection {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub syntax: Vec<Fault>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub semantics: Vec<Fault>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub expressions: Vec<Fault>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub context: Vec<Fault>,
}

/// Inspects a definition. `given` names the variables that the application gives, such as `st2` and `parent`.
pub fn inspect(document: &Document, given: &[&str], analyzer: &dyn Analyzer) -> Inspection {
    let definition = Definition::read(document);
    let graph = Graph::compose(&definition);
    let mut found = Inspection {
        syntax: syntax::faults(document),
        semantics: semantics::faults(&definition, &graph),
        expressions: expressions::faults(&definition, analyzer),
        context: context::faults(&definition, &graph, given, analyzer),
    };
    for list in [&mut found.syntax, &mut found.semantics, &mut found.expressions, &mut found.context] {
        list.sort_by(|a, b| (&a.schema_path, &a.spec_path).cmp(&(&b.schema_path, &b.spec_path)));
    }
    found
}

impl Inspection {
    pub const fn is_clean(&self) -> bool {
        self.syntax.is_empty() && self.semantics.is_empty() && self.expressions.is_empty() && self.context.is_empty()
    }

    /// One list, as StackStorm shows it: the category is the type, the language apart.
    pub fn flat(&self) -> Vec<Value> {
        let kinds = [
            ("context", &self.context),
            ("expression", &self.expressions),
            ("semantic", &self.semantics),
            ("syntax", &self.syntax),
        ];
        kinds.into_iter().flat_map(|(kind, faults)| faults.iter().map(move |fault| fault.flat(kind))).collect()
    }
}

impl Fault {
    pub(super) fn at(message: impl Into<String>, spec_path: impl Into<String>, schema_path: impl Into<String>) -> Self {
        let some = |text: String| (!text.is_empty()).then_some(text);
        Self {
            language: None,
            expression: None,
            message: message.into(),
            spec_path: some(spec_path.into()),
            schema_path: some(schema_path.into()),
        }
    }

    fn flat(&self, kind: &str) -> Value {
        let mut entry = json!({
            "type": kind,
            "message": self.message,
            "spec_path": self.spec_path,
            "schema_path": self.schema_path,
        });
        if let (Value::Object(entry), Some(language)) = (&mut entry, self.language) {
            entry.insert("language".to_owned(), language.into());
            entry.insert("expression".to_owned(), self.expression.clone().into());
        }
        entry
    }
}

#[cfg(test)]
mod tests;
