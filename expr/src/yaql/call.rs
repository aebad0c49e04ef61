//! Calls: finding a function by name, fitting arguments to its parameters.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::LazyLock;

use super::interp::{Env, It, numbered, wrong};
use super::parser::{Arg, Expr};
use super::texts;
use super::value::{R, V};
use super::{collections, dates, logic, math, orquesta, queries, regexes, strings};
use crate::workflow::Fault;

/// What a function's name means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum As {
    Function,
    Method,
    Both,
}

type Body = fn(&Call<'_, '_>) -> R;

/// Names (blank-separated), how it's called, parameters (`?` optional, `*` any number, `**` any names), body.
pub(super) type Entry = (&'static str, As, &'static str, Body);

struct Def {
    params: Vec<(&'static str, bool)>,
    many: bool,
    names: bool,
    body: Body,
}

#[derive(Default)]
struct Registry {
    functions: HashMap<&'static str, Vec<Def>>,
    methods: HashMap<&'static str, Vec<Def>>,
}

static REGISTRY: LazyLock<Registry> = LazyLock::new(|| {
    let mut registry = Registry::default();
    let tables = [
        collections::TABLE,
        queries::TABLE,
        strings::TABLE,
        math::TABLE,
        regexes::TABLE,
        dates::TABLE,
        logic::TABLE,
        orquesta::TABLE,
    ];
    for (names, kind, spec, body) in tables.into_iter().flatten().copied() {
        for name in names.split(' ') {
            let def = || Def {
                params: spec
                    .split_whitespace()
                    .filter(|word| !word.starts_with('*'))
                    .map(|word| (word.trim_end_matches('?'), word.ends_with('?')))
                    .collect(),
                many: spec.split_whitespace().any(|word| word == "*"),
                names: spec.split_whitespace().any(|word| word == "**"),
                body,
            };
            if kind != As::Method {
                registry.functions.entry(name).or_default().push(def());
            }
            if kind != As::Function {
                registry.methods.entry(name).or_default().push(def());
            }
        }
    }
    registry
});

/// No overload fits; whoever dispatches gives it a name.
pub(super) fn no_match() -> Fault {
    Fault::new("", "")
}

fn is_no_match(fault: &Fault) -> bool {
    matches!(fault, Fault::Raised { class, .. } if class.is_empty())
}

pub(super) fn unmatched(name: &str) -> Fault {
    Fault::new("NoMatchingFunctionException", format!("No function \"{name}\" matches supplied arguments"))
}

#[derive(Debug)]
enum Slot<'e> {
    Missing,
    Value(V),
    Expr(&'e Expr),
}

/// A call whose arguments have found their parameters.
#[derive(Debug)]
pub(super) struct Call<'e, 's> {
    pub it: &'s It<'s>,
    pub env: &'s Rc<Env<'e>>,
    slots: Vec<Slot<'e>>,
    rest: Vec<&'e Arg>,
    /// Arguments by names that aren't parameters.
    pub named: Vec<(&'e str, &'e Expr)>,
}

pub(super) fn function<'e>(it: &It<'_>, env: &Rc<Env<'e>>, name: &str, args: &'e [Arg]) -> R {
    let Some(defs) = REGISTRY.functions.get(name) else {
        return Err(Fault::new("NoFunctionRegisteredException", format!("Unknown function \"{name}\"")));
    };
    for def in defs {
        match bind(it, env, def, None, args).and_then(|call| (def.body)(&call)) {
            Err(fault) if is_no_match(&fault) => {}
            result => return result,
        }
    }
    Err(unmatched(name))
}

pub(super) fn method<'e>(it: &It<'_>, env: &Rc<Env<'e>>, receiver: V, name: &str, args: &'e [Arg]) -> R {
    let shown = |receiver: &V| texts::text(receiver).chars().take(2000).collect::<String>();
    let Some(defs) = REGISTRY.methods.get(name) else {
        let text = format!("Unknown method \"{name}\" for receiver {}", shown(&receiver));
        return Err(Fault::new("NoMethodRegisteredException", text));
    };
    for def in defs {
        match bind(it, env, def, Some(receiver.clone()), args).and_then(|call| (def.body)(&call)) {
            Err(fault) if is_no_match(&fault) => {}
            result => return result,
        }
    }
    let text = format!("No method \"{name}\" for receiver {} matches supplied arguments", shown(&receiver));
    Err(Fault::new("NoMatchingMethodException", text))
}

fn bind<'e, 's>(
    it: &'s It<'s>,
    env: &'s Rc<Env<'e>>,
    def: &Def,
    receiver: Option<V>,
    args: &'e [Arg],
) -> R<Call<'e, 's>> {
    let mut slots: Vec<Slot<'e>> = Vec::with_capacity(def.params.len());
    slots.extend(receiver.map(Slot::Value));
    let (mut rest, mut named) = (Vec::new(), Vec::new());
    for arg in args {
        match arg {
            Arg::Named(name, expr) => match def.params.iter().position(|(param, _)| **param == **name) {
                Some(at) => {
                    while slots.len() <= at {
                        slots.push(Slot::Missing);
                    }
                    if !matches!(slots[at], Slot::Missing) {
                        return wrong();
                    }
                    slots[at] = Slot::Expr(expr);
                }
                None if def.names => named.push((&**name, expr)),
                None => return wrong(),
            },
            Arg::Plain(expr) if slots.len() < def.params.len() => slots.push(Slot::Expr(expr)),
            Arg::Empty if slots.len() < def.params.len() => slots.push(Slot::Missing),
            other if def.many => rest.push(other),
            _ => return wrong(),
        }
    }
    while slots.len() < def.params.len() {
        slots.push(Slot::Missing);
    }
    let lacks = |(slot, (_, optional)): (&Slot<'_>, &(&str, bool))| matches!(slot, Slot::Missing) && !optional;
    if slots.iter().zip(&def.params).any(lacks) {
        return wrong();
    }
    Ok(Call { it, env, slots, rest, named })
}

/// What a collection holds; whatever isn't one fits no overload.
pub(super) fn items(value: &V) -> R<Vec<V>> {
    match value {
        V::Seq(seq) if seq.endless => Err(Fault::limit("the collection has no end")),
        V::Seq(seq) => Ok(seq.items.clone()),
        _ => wrong(),
    }
}

impl<'e> Call<'e, '_> {
    pub(super) fn has(&self, at: usize) -> bool {
        !matches!(self.slots[at], Slot::Missing)
    }

    /// The value of a parameter.
    pub(super) fn value(&self, at: usize) -> R {
        match &self.slots[at] {
            Slot::Value(value) => Ok(value.clone()),
            Slot::Expr(expr) => self.it.eval(expr, self.env),
            Slot::Missing => wrong(),
        }
    }

    pub(super) fn optional(&self, at: usize) -> R<Option<V>> {
        if self.has(at) { self.value(at).map(Some) } else { Ok(None) }
    }

    pub(super) fn text(&self, at: usize) -> R<Rc<str>> {
        match self.value(at)? {
            V::Text(text) => Ok(text),
            _ => wrong(),
        }
    }

    pub(super) fn int(&self, at: usize) -> R<i128> {
        match self.value(at)? {
            V::Int(number) => Ok(number),
            _ => wrong(),
        }
    }

    pub(super) fn int_or(&self, at: usize, default: i128) -> R<i128> {
        if self.has(at) { self.int(at) } else { Ok(default) }
    }

    pub(super) fn flag(&self, at: usize) -> R<bool> {
        match self.optional(at)? {
            None => Ok(false),
            Some(V::Bool(flag)) => Ok(flag),
            Some(_) => wrong(),
        }
    }

    /// The items of a collection.
    pub(super) fn items(&self, at: usize) -> R<Vec<V>> {
        let items = items(&self.value(at)?)?;
        self.it.step(items.len())?;
        self.it.charge(items.len() * 32)?;
        Ok(items)
    }

    /// Items also of a collection without end, and whether it has one.
    pub(super) fn open_items(&self, at: usize) -> R<(Vec<V>, bool)> {
        match self.value(at)? {
            V::Seq(seq) => {
                self.it.step(seq.items.len())?;
                self.it.charge(seq.items.len() * 32)?;
                Ok((seq.items.clone(), seq.endless))
            }
            _ => wrong(),
        }
    }

    /// Calls a parameter that is an expression over `$1`, `$2`…
    pub(super) fn apply(&self, at: usize, values: Vec<V>) -> R {
        match &self.slots[at] {
            Slot::Expr(expr) => self.it.eval(expr, &Env::with(self.env, numbered(values))),
            Slot::Value(value) => Ok(value.clone()),
            Slot::Missing => wrong(),
        }
    }

    /// The same with names.
    pub(super) fn apply_named(&self, at: usize, vars: Vec<(Rc<str>, V)>) -> R {
        match &self.slots[at] {
            Slot::Expr(expr) => self.it.eval(expr, &Env::with(self.env, vars)),
            _ => wrong(),
        }
    }

    /// Remaining positional arguments, evaluated one after the other as they are asked for.
    pub(super) fn rest(&self) -> impl Iterator<Item = R> + '_ {
        self.rest.iter().map(|arg| match arg {
            Arg::Plain(expr) => self.it.eval(expr, self.env),
            _ => wrong(),
        })
    }

    /// `key => value` pairs among the remaining arguments, unevaluated.
    pub(super) fn mappings(&self) -> R<Vec<(&'e Expr, &'e Expr)>> {
        let pair = |arg: &&'e Arg| match arg {
            Arg::Mapping(key, value) => Ok((key, value)),
            _ => wrong(),
        };
        self.rest.iter().map(pair).collect()
    }

    pub(super) fn eval(&self, expr: &'e Expr) -> R {
        self.it.eval(expr, self.env)
    }

    /// Calls a function by name with values, as `call()` does.
    pub(super) fn by_name(&self, name: &str, values: Vec<V>) -> R {
        let Some(defs) = REGISTRY.functions.get(name) else {
            return Err(Fault::new("NoFunctionRegisteredException", format!("Unknown function \"{name}\"")));
        };
        for def in defs {
            if values.len() > def.params.len() {
                continue;
            }
            let mut slots: Vec<Slot<'e>> = values.iter().cloned().map(Slot::Value).collect();
            while slots.len() < def.params.len() {
                if !def.params[slots.len()].1 {
                    break;
                }
                slots.push(Slot::Missing);
            }
            if slots.len() < def.params.len() {
                continue;
            }
            let call = Call { it: self.it, env: self.env, slots, rest: Vec::new(), named: Vec::new() };
            match (def.body)(&call) {
                Err(fault) if is_no_match(&fault) => {}
                result => return result,
            }
        }
        Err(unmatched(name))
    }

    /// All given parameters in order; null where one is left out before another.
    pub(super) fn values(&self) -> R<Vec<V>> {
        let count = (0..self.slots.len()).rev().find(|at| self.has(*at)).map_or(0, |last| last + 1);
        (0..count).map(|at| Ok(self.optional(at)?.unwrap_or(V::Null))).collect()
    }

    /// Remaining arguments as they stand.
    pub(super) fn unevaluated(&self) -> &[&'e Arg] {
        &self.rest
    }
}
