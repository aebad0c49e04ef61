//! Draft 4 as Python's jsonschema checks it: the same keywords in the same order, the same texts, and the same
//! choice of the one error that is reported.

use serde_json::{Map, Value};

use crate::python::repr;
use crate::schema::keywords;

/// Nested schemas and `$ref` loops deeper than this are refused.
const MAX_DEPTH: usize = 64;

/// One violation.
#[derive(Debug, Clone)]
pub(super) struct Violation {
    pub message: String,
    /// Path elements between the place where the error is compared with others and the offending value.
    pub depth: usize,
    /// `anyOf` and `oneOf`: loses against others of the same depth.
    pub weak: bool,
    /// What went wrong in the alternatives.
    pub context: Vec<Violation>,
}

impl Violation {
    pub fn new(message: String) -> Self {
        Self { message, depth: 0, weak: false, context: Vec::new() }
    }
}

/// Where violations go.
pub(super) type Found = Vec<Violation>;

/// Checks values against one root schema.
#[derive(Debug, Clone, Copy)]
pub(super) struct Validator<'s> {
    /// `$ref`s are resolved in it.
    pub root: &'s Value,
    depth: usize,
}

impl<'s> Validator<'s> {
    pub const fn new(root: &'s Value) -> Self {
        Self { root, depth: 0 }
    }

    /// All violations of `schema` by `value`.
    pub fn check(self, schema: &'s Value, value: &Value, found: &mut Found) {
        let Some(keywords) = schema.as_object() else { return };
        if self.depth >= MAX_DEPTH {
            found.push(Violation::new(format!("the schema is nested deeper than {MAX_DEPTH} levels")));
            return;
        }
        let inner = Self { depth: self.depth + 1, ..self };
        if let Some(reference) = keywords.get("$ref") {
            match reference.as_str().and_then(|reference| resolve(self.root, reference)) {
                Some(target) => inner.check(target, value, found),
                None => found.push(Violation::new(format!("Unresolvable JSON pointer: {}", repr(reference)))),
            }
            return;
        }
        for (keyword, argument) in keywords {
            inner.keyword(keyword, argument, keywords, value, found);
        }
    }

    /// [`Self::check`] of a part of the value: its violations lie one path element deeper.
    pub fn descend(self, schema: &'s Value, value: &Value, found: &mut Found) {
        let before = found.len();
        self.check(schema, value, found);
        for violation in &mut found[before..] {
            violation.depth += 1;
        }
    }

    pub fn is_valid(self, schema: &'s Value, value: &Value) -> bool {
        let mut found = Found::new();
        self.check(schema, value, &mut found);
        found.is_empty()
    }

    fn keyword(
        self,
        keyword: &str,
        argument: &'s Value,
        schema: &'s Map<String, Value>,
        value: &Value,
        found: &mut Found,
    ) {
        match keyword {
            "type" => keywords::types(argument, value, found),
            "enum" => keywords::one_of_values(argument, value, found),
            "properties" => self.properties(argument, value, found),
            "patternProperties" => self.pattern_properties(argument, value, found),
            "additionalProperties" => self.additional_properties(argument, schema, value, found),
            "dependencies" => self.dependencies(argument, value, found),
            "items" => self.items(argument, value, found),
            "additionalItems" => self.additional_items(argument, schema, value, found),
            "allOf" => argument.as_array().into_iter().flatten().for_each(|each| self.check(each, value, found)),
            "anyOf" => self.any_of(argument, value, found),
            "oneOf" => self.one_of(argument, value, found),
            "not" => {
                if self.is_valid(argument, value) {
                    found.push(Violation::new(format!("{} is not allowed for {}", repr(argument), repr(value))));
                }
            }
            // Draft 4's list form; the boolean form belongs to the parent's `properties`.
            "required" => keywords::required(argument, value, found),
            _ => keywords::simple(keyword, argument, schema, value, found),
        }
    }

    fn properties(self, argument: &'s Value, value: &Value, found: &mut Found) {
        let (Some(properties), Some(fields)) = (argument.as_object(), value.as_object()) else { return };
        for (name, schema) in properties {
            match fields.get(name) {
                Some(field) => self.descend(schema, field, found),
                None if schema.get("required") == Some(&Value::Bool(true)) => {
                    let mut violation = Violation::new(format!("{} is a required property", quoted(name)));
                    violation.depth = 1;
                    found.push(violation);
                }
                None => {}
            }
        }
    }

    fn pattern_properties(self, argument: &'s Value, value: &Value, found: &mut Found) {
        let (Some(patterns), Some(fields)) = (argument.as_object(), value.as_object()) else { return };
        for (pattern, schema) in patterns {
            for (name, field) in fields {
                if keywords::search(pattern, name) {
                    self.descend(schema, field, found);
                }
            }
        }
    }

    fn additional_properties(self, argument: &'s Value, schema: &Map<String, Value>, value: &Value, found: &mut Found) {
        let Some(fields) = value.as_object() else { return };
        let known = schema.get("properties").and_then(Value::as_object);
        let patterns = schema.get("patternProperties").and_then(Value::as_object);
        let extra = |name: &str| {
            !known.is_some_and(|known| known.contains_key(name))
                && !patterns.is_some_and(|patterns| patterns.keys().any(|pattern| keywords::search(pattern, name)))
        };
        if argument.is_object() {
            for (_, field) in fields.iter().filter(|(name, _)| extra(name)) {
                self.descend(argument, field, found);
            }
            return;
        }
        if argument != &Value::Bool(false) {
            return;
        }
        let mut extras: Vec<&str> = fields.keys().map(String::as_str).filter(|name| extra(name)).collect();
        if extras.is_empty() {
            return;
        }
        extras.sort_unstable();
        let names = extras.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
        let message = if let Some(patterns) = patterns {
            let verb = if extras.len() == 1 { "does" } else { "do" };
            let mut patterns: Vec<&str> = patterns.keys().map(String::as_str).collect();
            patterns.sort_unstable();
            let patterns = patterns.iter().map(|pattern| quoted(pattern)).collect::<Vec<_>>().join(", ");
            format!("{names} {verb} not match any of the regexes: {patterns}")
        } else {
            let verb = if extras.len() == 1 { "was" } else { "were" };
            format!("Additional properties are not allowed ({names} {verb} unexpected)")
        };
        found.push(Violation::new(message));
    }

    fn dependencies(self, argument: &'s Value, value: &Value, found: &mut Found) {
        let (Some(dependencies), Some(fields)) = (argument.as_object(), value.as_object()) else { return };
        for (name, dependency) in dependencies {
            if !fields.contains_key(name) {
                continue;
            }
            let Some(names) = dependency.as_array() else {
                self.check(dependency, value, found);
                continue;
            };
            for needed in names.iter().filter(|needed| !needed.as_str().is_some_and(|n| fields.contains_key(n))) {
                let message = format!("{} is a dependency of {}", repr(needed), quoted(name));
                found.push(Violation::new(message));
            }
        }
    }

    fn items(self, argument: &'s Value, value: &Value, found: &mut Found) {
        let Some(items) = value.as_array() else { return };
        match argument {
            Value::Array(schemas) => {
                for (item, schema) in items.iter().zip(schemas) {
                    self.descend(schema, item, found);
                }
            }
            schema => items.iter().for_each(|item| self.descend(schema, item, found)),
        }
    }

    fn additional_items(self, argument: &'s Value, schema: &Map<String, Value>, value: &Value, found: &mut Found) {
        let Some(items) = value.as_array() else { return };
        let Some(Value::Array(positional)) = schema.get("items") else { return };
        let extra = items.get(positional.len()..).unwrap_or_default();
        if argument.is_object() {
            extra.iter().for_each(|item| self.descend(argument, item, found));
        } else if argument == &Value::Bool(false) && !extra.is_empty() {
            let names = extra.iter().map(repr).collect::<Vec<_>>().join(", ");
            let verb = if extra.len() == 1 { "was" } else { "were" };
            found.push(Violation::new(format!("Additional items are not allowed ({names} {verb} unexpected)")));
        }
    }

    fn any_of(self, argument: &'s Value, value: &Value, found: &mut Found) {
        let mut context = Found::new();
        for schema in argument.as_array().into_iter().flatten() {
            let before = context.len();
            self.check(schema, value, &mut context);
            if context.len() == before {
                return;
            }
        }
        found.push(no_alternative(value, context));
    }

    fn one_of(self, argument: &'s Value, value: &Value, found: &mut Found) {
        let alternatives = argument.as_array().map(Vec::as_slice).unwrap_or_default();
        let mut context = Found::new();
        let first = alternatives.iter().position(|schema| {
            let before = context.len();
            self.check(schema, value, &mut context);
            context.len() == before
        });
        let Some(first) = first else {
            found.push(no_alternative(value, context));
            return;
        };
        let rest = alternatives.iter().skip(first + 1).filter(|schema| self.is_valid(schema, value));
        let mut more: Vec<String> = rest.map(repr).collect();
        if !more.is_empty() {
            more.push(repr(&alternatives[first]));
            let mut violation = Violation::new(format!("{} is valid under each of {}", repr(value), more.join(", ")));
            violation.weak = true;
            found.push(violation);
        }
    }
}

fn no_alternative(value: &Value, context: Found) -> Violation {
    Violation {
        message: format!("{} is not valid under any of the given schemas", repr(value)),
        depth: 0,
        weak: true,
        context,
    }
}

fn quoted(name: &str) -> String {
    let mut out = String::new();
    crate::python::write_str_repr(&mut out, name);
    out
}

/// Only references into the schema itself: there is no I/O.
fn resolve<'s>(root: &'s Value, reference: &str) -> Option<&'s Value> {
    let pointer = reference.strip_prefix('#')?;
    root.pointer(pointer)
}

/// The one error that is reported: the least deep, weak ones last, the first of equals; then down into what made
/// its alternatives fail, where the deepest counts.
pub(super) fn best_match(found: Found) -> Option<Violation> {
    let rank = |v: &Violation| (std::cmp::Reverse(v.depth), !v.weak);
    let mut best: Option<Violation> = None;
    for violation in found {
        if best.as_ref().is_none_or(|best| rank(&violation) > rank(best)) {
            best = Some(violation);
        }
    }
    let mut best = best?;
    // `min_by_key` takes the first of equals, as Python's `min` does.
    while let Some(next) = std::mem::take(&mut best.context).into_iter().min_by_key(rank) {
        best = next;
    }
    Some(best)
}
