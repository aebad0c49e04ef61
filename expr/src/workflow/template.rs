//! Jinja as workflows have it: nothing but functions at the top level, undefined values found afterwards.

use std::collections::HashMap;
use std::error::Error as _;
use std::sync::{Arc, LazyLock};

use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind, Value as Jinja};
use parking_lot::{Mutex, RwLock};
use serde_json::Value;

use super::functions::{self, Answers};
use super::inspection::names;
use super::text::Language;
use super::{Fault, Records, Scope};
use crate::jinja::mistakes::{self, Source};
use crate::jinja::values::from_jinja;
use crate::jinja::{BASE, begin_rendering, complexity, errors, percent};

const MAX_SOURCE: usize = 1 << 20;
const MAX_OUTPUT: usize = 16 << 20;
/// Look-ups of one evaluation that have to wait for a pass.
const MAX_PASSES: usize = 200;
/// Compiled texts kept.
const CACHED: usize = 4096;
const TEMPLATE: &str = "template";

static ENV: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut env = BASE.clone();
    functions::register(&mut env);
    env
});

/// The value of one inline expression, and whether an array is a list in the reference's eyes.
pub(super) struct Outcome {
    pub(super) value: Value,
    pub(super) is_list: bool,
}

enum Code {
    Expression(minijinja::Expression<'static, 'static>),
    Template(Environment<'static>),
}

struct Compiled {
    code: Code,
    /// Names it takes from outside.
    names: Vec<String>,
    /// Variables of the context that it spells out, if it looks at no others.
    only: Option<Vec<String>>,
}

type Cache = RwLock<HashMap<String, Result<Arc<Compiled>, Fault>>>;
/// Of templates, and of expressions alone.
static CACHES: LazyLock<[Cache; 2]> = LazyLock::new(Default::default);

fn compile(text: &str, inline: bool) -> Result<Arc<Compiled>, Fault> {
    let cache = &CACHES[usize::from(inline)];
    if let Some(found) = cache.read().get(text) {
        return found.clone();
    }
    let compiled = Compiled::new(text, inline).map(Arc::new);
    let mut cache = cache.write();
    if cache.len() >= CACHED {
        cache.clear();
    }
    cache.insert(text.to_owned(), compiled.clone());
    compiled
}

impl Compiled {
    fn new(text: &str, inline: bool) -> Result<Self, Fault> {
        if text.len() > MAX_SOURCE {
            return Err(Fault::limit("the expression is too long"));
        }
        let wrapped = if inline { format!("{{{{ {text} }}}}") } else { text.to_owned() };
        if complexity::is_too_complex(&wrapped) {
            return Err(Fault::limit("the expression is too complex"));
        }
        let spelled = names(text, Language::Jinja);
        let methods = ["get", "items", "keys", "values", "copy", "update", "pop"];
        let plain = !spelled.iter().any(|name| methods.contains(name)) && !text.contains("__");
        let only = (plain && text.matches("ctx").count() == spelled.len())
            .then(|| spelled.into_iter().map(str::to_owned).collect());
        let source = percent::rewrite(&wrapped).into_owned();
        let mut env = ENV.clone();
        let written = if inline { Source::Expression(text) } else { Source::Template(text) };
        env.add_template_owned(TEMPLATE, source.clone()).map_err(|error| syntax(&error, written))?;
        // The engine's own list of undeclared names misses those in slices.
        let used = functions::SCOPED.iter().filter(|name| source.contains(**name));
        let code = if inline {
            let inner = source.trim_start_matches("{{").trim_end_matches("}}").trim().to_owned();
            Code::Expression(ENV.compile_expression_owned(inner).map_err(|error| syntax(&error, written))?)
        } else {
            Code::Template(env)
        };
        Ok(Self { code, names: used.map(|name| (*name).to_owned()).collect(), only })
    }

    fn run(&self, scope: &Scope<'_>) -> Result<Jinja, Fault> {
        begin_rendering();
        let answers = Arc::new(Mutex::new(Answers::default()));
        let known = |name: &String| {
            functions::lookup(name, scope, self.only.as_deref(), &answers).map(|value| (name.clone(), value))
        };
        let root = Jinja::from_pairs(self.names.iter().filter_map(known));
        loop {
            let result = match &self.code {
                Code::Expression(expression) => expression.eval(root.clone()),
                Code::Template(env) => {
                    env.get_template(TEMPLATE).and_then(|template| template.render(root.clone())).map(Jinja::from)
                }
            };
            let mut answers = answers.lock();
            if answers.count() > MAX_PASSES {
                return Err(Fault::limit("the expression looks up too much"));
            }
            if !answers.settle(Records(scope))? {
                return result.map_err(|error| explain(&error, &root));
            }
        }
    }
}

/// Evaluates the inside of `{{ }}`.
pub(super) fn inline(text: &str, scope: &Scope<'_>) -> Result<Outcome, Fault> {
    let value = compile(text, true)?.run(scope)?;
    if value.is_undefined() {
        return Err(Fault::Unresolved(text.to_owned()));
    }
    let is_list = value.kind() == ValueKind::Seq;
    let value = convert(&value)?;
    Ok(Outcome { value, is_list })
}

/// Undefined values inside lists are not detected (spec/orquesta.md §24): they come out as null, functions as text.
fn convert(value: &Jinja) -> Result<Value, Fault> {
    Ok(match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            let items = value.try_iter().map_err(|error| explain(&error, &Jinja::from(())))?;
            Value::Array(items.map(|item| convert(&item)).collect::<Result<_, _>>()?)
        }
        ValueKind::Undefined => Value::Null,
        _ if value.is_undefined() => Value::Null,
        // Their own text has the braces of an expression.
        ValueKind::Plain => Value::String("<function>".to_owned()),
        _ => match from_jinja(value) {
            Ok(value) => value,
            Err(error) => return Err(explain(&error, &Jinja::from(()))),
        },
    })
}

/// Renders a text with blocks.
pub(super) fn block(text: &str, scope: &Scope<'_>) -> Result<String, Fault> {
    let rendered = compile(text, false)?.run(scope)?;
    let rendered = rendered.as_str().unwrap_or_default();
    if rendered.len() > MAX_OUTPUT {
        return Err(Fault::limit("the rendered text is too long"));
    }
    Ok(rendered.to_owned())
}

/// The last rendering of a text with raw sections.
pub(super) fn raw(text: &str, scope: &Scope<'_>) -> Result<String, Fault> {
    block(text, scope)
}

/// Only compiles.
pub(super) fn check(text: &str) -> Result<(), Fault> {
    match compile(text, false) {
        Ok(_) => Ok(()),
        // Not detected by inspection.
        Err(Fault::Raised { class: "TemplateAssertionError", .. }) => Ok(()),
        Err(fault) => Err(fault),
    }
}

fn syntax(error: &Error, source: Source<'_>) -> Fault {
    let text = errors::message(error, |_| None);
    let text = mistakes::reworded(&text, source).unwrap_or(text);
    match error.kind() {
        ErrorKind::UnknownFilter | ErrorKind::UnknownTest => Fault::new("TemplateAssertionError", text),
        _ => Fault::new("TemplateSyntaxError", text),
    }
}

fn explain(error: &Error, root: &Jinja) -> Fault {
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(fault) = inner.downcast_ref::<Fault>() {
            return fault.clone();
        }
        source = inner.source();
    }
    let text = errors::message(error, |expression| {
        ENV.compile_expression(expression).and_then(|expression| expression.eval(root.clone())).ok()
    });
    if let Some(text) = errors::zero_division(&text) {
        return Fault::new("ZeroDivisionError", text);
    }
    let class = match error.kind() {
        ErrorKind::OutOfFuel => return Fault::limit("the expression takes too much work"),
        ErrorKind::UndefinedError | ErrorKind::UnknownFunction | ErrorKind::UnknownMethod => "UndefinedError",
        ErrorKind::UnknownFilter | ErrorKind::UnknownTest => "TemplateAssertionError",
        ErrorKind::TemplateNotFound => return Fault::new("TypeError", "no loader for this environment specified"),
        ErrorKind::SyntaxError => "TemplateSyntaxError",
        ErrorKind::BadSerialization => "ValueError",
        _ if text.contains("is undefined") || text.starts_with('\'') && text.contains("has no attribute") => {
            "UndefinedError"
        }
        _ => "TypeError",
    };
    Fault::new(class, text)
}

/// Calls a filter by name, for YAQL.
pub(crate) fn call_filter(name: &str, values: &[Value]) -> Result<Value, Fault> {
    let values: Vec<Jinja> = values.iter().map(crate::jinja::values::to_jinja).collect();
    let found =
        ENV.empty_state().apply_filter(name, &values).map_err(|error| match explain(&error, &Jinja::from(())) {
            Fault::Raised { text, .. } => Fault::new("ValueError", text),
            fault => fault,
        })?;
    convert(&found)
}
