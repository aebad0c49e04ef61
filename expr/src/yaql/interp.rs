//! Evaluation of the tree.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::call::{self, no_match};
use super::operators;
use super::parser::{Arg, Expr};
use super::texts;
use super::value::{Dict, Kind, R, V};
use crate::workflow::{Fault, Records, Scope};
use serde_json::Value;

/// Nodes evaluated and items looked at.
const MAX_STEPS: u64 = 500_000;
/// As long as all that may take.
const MAX_TIME: Duration = Duration::from_secs(5);
/// Shorter texts cost no more than the step that brings them.
const SMALL_TEXT: usize = 64;
/// The clock is read when this bit of the steps changes.
const CLOCK_BITS: u32 = 8;
/// Bytes built up.
const MAX_BYTES: usize = 64 << 20;
/// Evaluations within each other.
const MAX_DEPTH: usize = 120;

/// One evaluation.
#[derive(Debug)]
pub(super) struct It<'s> {
    pub scope: &'s Scope<'s>,
    steps: Cell<u64>,
    bytes: Cell<usize>,
    depth: Cell<usize>,
    /// Past it nothing more is evaluated, whatever was counted.
    end: Instant,
    /// Lists, mappings and long texts of the workflow's data that were converted, by where they lie.
    converted: RefCell<HashMap<usize, V>>,
    context: OnceCell<V>,
}

/// Names in force at a place.
#[derive(Debug, Default)]
pub(super) struct Env<'e> {
    pub vars: Vec<(Rc<str>, V)>,
    pub function: Option<(Arc<str>, &'e Expr)>,
    pub parent: Option<Rc<Env<'e>>>,
}

impl<'e> Env<'e> {
    fn get(&self, name: &str) -> V {
        let name = if name.is_empty() { "1" } else { name };
        let mut env = Some(self);
        while let Some(here) = env {
            if let Some((_, value)) = here.vars.iter().rev().find(|(known, _)| &**known == name) {
                return value.clone();
            }
            env = here.parent.as_deref();
        }
        V::Null
    }

    /// A new frame on top of `parent`.
    pub(super) fn with(parent: &Rc<Self>, vars: Vec<(Rc<str>, V)>) -> Rc<Self> {
        Rc::new(Self { vars, function: None, parent: Some(parent.clone()) })
    }

    fn function(env: &Rc<Self>, name: &str) -> Option<(&'e Expr, Rc<Self>)> {
        let mut env = Some(env);
        while let Some(here) = env {
            if let Some((_, body)) = here.function.as_ref().filter(|(known, _)| &**known == name) {
                return Some((body, here.clone()));
            }
            env = here.parent.as_ref();
        }
        None
    }
}

/// `$1`, `$2`…
pub(super) fn numbered(values: Vec<V>) -> Vec<(Rc<str>, V)> {
    values.into_iter().enumerate().map(|(at, value)| (number(at + 1), value)).collect()
}

thread_local! {
    /// Names of the first numbered variables, which every step of a loop needs.
    static NUMBERS: [Rc<str>; 4] = ["1", "2", "3", "4"].map(Rc::from);
}

fn number(at: usize) -> Rc<str> {
    NUMBERS.with(|known| known.get(at - 1).cloned()).unwrap_or_else(|| Rc::from(at.to_string()))
}

impl<'s> It<'s> {
    pub(super) fn new(scope: &'s Scope<'s>) -> Self {
        Self {
            scope,
            steps: Cell::new(0),
            bytes: Cell::new(0),
            depth: Cell::new(0),
            end: Instant::now() + MAX_TIME,
            converted: RefCell::default(),
            context: OnceCell::new(),
        }
    }

    /// A value of the workflow's data; large ones are converted once only.
    pub(super) fn data(&self, value: &'s Value) -> R {
        let small = match value {
            Value::Array(_) | Value::Object(_) => false,
            Value::String(text) => text.len() < SMALL_TEXT,
            _ => true,
        };
        if small {
            return V::from_json(value);
        }
        let place = std::ptr::from_ref(value) as usize;
        if let Some(known) = self.converted.borrow().get(&place) {
            return Ok(known.clone());
        }
        let converted = V::from_json(value)?;
        self.converted.borrow_mut().insert(place, converted.clone());
        Ok(converted)
    }

    /// All visible variables.
    pub(super) fn whole_context(&self) -> R {
        if let Some(known) = self.context.get() {
            return Ok(known.clone());
        }
        let fields = self.records().visible().map(|(name, value)| Ok((V::text(name), self.data(value)?)));
        let context = V::dict(fields.collect::<R<Dict>>()?)?;
        Ok(self.context.get_or_init(|| context).clone())
    }

    pub(super) fn records(&self) -> Records<'s> {
        Records(self.scope)
    }

    /// Counts work.
    pub(super) fn step(&self, count: usize) -> R<()> {
        let steps = self.steps.get().saturating_add(count as u64);
        // The clock isn't asked each time.
        if (steps ^ self.steps.get()) >> CLOCK_BITS != 0 && Instant::now() > self.end {
            return Err(Fault::limit("the expression takes too much time"));
        }
        self.steps.set(steps);
        if steps > MAX_STEPS { Err(Fault::limit("the expression takes too much work")) } else { Ok(()) }
    }

    /// Counts memory.
    pub(super) fn charge(&self, bytes: usize) -> R<()> {
        let bytes = self.bytes.get().saturating_add(bytes);
        self.bytes.set(bytes);
        if bytes > MAX_BYTES { Err(Fault::limit("the expression takes too much memory")) } else { Ok(()) }
    }

    pub(super) fn eval<'e>(&self, expr: &'e Expr, env: &Rc<Env<'e>>) -> R {
        self.step(1)?;
        let depth = self.depth.get();
        if depth > MAX_DEPTH {
            return Err(Fault::limit("the expression is nested too deeply"));
        }
        self.depth.set(depth + 1);
        let result = self.node(expr, env);
        self.depth.set(depth);
        result
    }

    fn node<'e>(&self, expr: &'e Expr, env: &Rc<Env<'e>>) -> R {
        if let Some(found) = self.stored(expr, env) {
            return found.and_then(|found| self.data(found));
        }
        match expr {
            Expr::Null => Ok(V::Null),
            Expr::Bool(flag) => Ok(V::Bool(*flag)),
            Expr::Int(number) => Ok(V::Int(*number)),
            Expr::Float(number) => Ok(V::Float(*number)),
            Expr::Text(text) | Expr::Word(text) => {
                self.charge(if text.len() < SMALL_TEXT { 0 } else { text.len() })?;
                Ok(V::text(text))
            }
            Expr::Variable(name) => Ok(env.get(name)),
            Expr::List(args) => V::list(self.plain_args(args, env, "#list")?),
            Expr::Map(args) => self.map(Dict::default(), args, env),
            Expr::Call(name, args) => match Env::function(env, name) {
                Some((body, home)) => {
                    let values = self.plain_args(args, env, name)?;
                    self.eval(body, &Env::with(&home, numbered(values)))
                }
                None => call::function(self, env, name, args),
            },
            Expr::Index(base, args) => self.index(base, args, env),
            Expr::Extend(base, args) => match self.eval(base, env)? {
                V::Dict(dict) => self.map((*dict).clone(), args, env),
                _ => Err(call::unmatched("#operator_{}")),
            },
            Expr::Dot { left, right, safe } => self.dot(left, right, *safe, env),
            Expr::Unary(operator, inner) => operators::unary(operator, self.eval(inner, env)?),
            Expr::Binary("and", left, right) => {
                let value = self.eval(left, env)?;
                if value.truthy() { self.eval(right, env) } else { Ok(value) }
            }
            Expr::Binary("or", left, right) => {
                let value = self.eval(left, env)?;
                if value.truthy() { Ok(value) } else { self.eval(right, env) }
            }
            Expr::Binary("->", left, right) => {
                let inner = self.context(left, env)?;
                self.eval(right, &inner)
            }
            Expr::Binary(operator, left, right) => {
                let left = self.eval(left, env)?;
                let right = self.eval(right, env)?;
                operators::binary(self, operator, &left, &right)
            }
        }
    }

    /// What lies in the workflow's data as it is: variables, results and their fields needn't be converted to get at
    /// one field. `None` for any other expression.
    fn stored<'e>(&self, expr: &'e Expr, env: &Rc<Env<'e>>) -> Option<R<&'s Value>> {
        match expr {
            Expr::Dot { left, right, .. } => {
                let Expr::Word(key) = &**right else { return None };
                let fields = match &**left {
                    Expr::Call(name, args) if &**name == "ctx" && args.is_empty() => {
                        (!key.starts_with("__") && Env::function(env, name).is_none()).then_some(self.scope.ctx)?
                    }
                    left => match self.stored(left, env)? {
                        Ok(Value::Object(fields)) => fields,
                        Ok(_) => return None,
                        Err(fault) => return Some(Err(fault)),
                    },
                };
                Some(fields.get(&**key).ok_or_else(|| Fault::Key(key.to_string())))
            }
            Expr::Call(name, args) => match (&**name, args.as_slice()) {
                ("ctx", [Arg::Plain(Expr::Word(key) | Expr::Text(key))]) if !key.is_empty() => {
                    Env::function(env, name).is_none().then(|| self.records().variable(key))
                }
                ("result", []) => Env::function(env, name).is_none().then(|| self.records().result()),
                ("item", []) => Env::function(env, name).is_none().then(|| Ok(self.records().whole_item())),
                _ => None,
            },
            _ => None,
        }
    }

    fn plain_args<'e>(&self, args: &'e [Arg], env: &Rc<Env<'e>>, name: &str) -> R<Vec<V>> {
        self.charge(args.len() * 32)?;
        let one = |arg: &'e Arg| match arg {
            Arg::Plain(expr) => self.eval(expr, env),
            _ => Err(call::unmatched(name)),
        };
        args.iter().map(one).collect()
    }

    fn map<'e>(&self, mut dict: Dict, args: &'e [Arg], env: &Rc<Env<'e>>) -> R {
        self.charge((dict.entries.len() + args.len()) * 96)?;
        for arg in args {
            let (key, value) = match arg {
                Arg::Named(word, value) => (V::text(word), self.eval(value, env)?),
                Arg::Mapping(key, value) => (self.eval(key, env)?, self.eval(value, env)?),
                _ => return Err(call::unmatched("#map")),
            };
            dict.insert(key, value);
        }
        V::dict(dict)
    }

    fn index<'e>(&self, base: &'e Expr, args: &'e [Arg], env: &Rc<Env<'e>>) -> R {
        let base = self.eval(base, env)?;
        let args = self.plain_args(args, env, "#indexer")?;
        match (&base, args.as_slice()) {
            (V::Dict(dict), [key]) => dict.get(key).cloned().ok_or_else(|| Fault::Key(texts::text(key))),
            (V::Dict(dict), [key, default]) => Ok(dict.get(key).unwrap_or(default).clone()),
            (V::Seq(seq), [V::Int(at)]) if seq.kind == Kind::List => {
                let place = if *at < 0 { *at + seq.items.len() as i128 } else { *at };
                let found = usize::try_from(place).ok().and_then(|place| seq.items.get(place));
                found.cloned().ok_or_else(|| Fault::new("IndexError", "tuple index out of range"))
            }
            _ => Err(call::unmatched("#indexer")),
        }
    }

    fn dot<'e>(&self, left: &'e Expr, right: &'e Expr, safe: bool, env: &Rc<Env<'e>>) -> R {
        let receiver = self.eval(left, env)?;
        if safe && matches!(receiver, V::Null) {
            return Ok(V::Null);
        }
        match right {
            Expr::Word(name) => self.property(&receiver, name),
            Expr::Call(name, args) => call::method(self, env, receiver, name, args),
            _ => Err(call::unmatched("#operator_.")),
        }
    }

    pub(super) fn property(&self, receiver: &V, name: &str) -> R {
        self.step(1)?;
        match receiver {
            V::Dict(dict) => dict.named(name).cloned().ok_or_else(|| Fault::Key(name.to_owned())),
            V::Seq(seq) => V::iter(seq.items.iter().map(|item| self.property(item, name)).collect::<R<_>>()?),
            _ => match super::dates::property(receiver, name) {
                Some(found) => found,
                None => {
                    let text = format!("Unknown function \"#property#{name}\"");
                    Err(Fault::new("NoFunctionRegisteredException", text))
                }
            },
        }
    }

    /// What `let`, `with`, `def` and `unpack` bring in force.
    fn context<'e>(&self, expr: &'e Expr, env: &Rc<Env<'e>>) -> R<Rc<Env<'e>>> {
        self.step(1)?;
        match expr {
            Expr::Call(name, args) if matches!(&**name, "let" | "with") => {
                let mut vars = Vec::new();
                for (at, arg) in args.iter().enumerate() {
                    match arg {
                        Arg::Plain(expr) => vars.push((number(at + 1), self.eval(expr, env)?)),
                        Arg::Named(word, expr) => vars.push((Rc::from(&**word), self.eval(expr, env)?)),
                        _ => return Err(call::unmatched(name)),
                    }
                }
                Ok(Env::with(env, vars))
            }
            Expr::Call(name, args) if &**name == "def" => match args.as_slice() {
                [Arg::Plain(Expr::Word(defined) | Expr::Text(defined)), Arg::Plain(body)] => Ok(Rc::new(Env {
                    vars: Vec::new(),
                    function: Some((defined.clone(), body)),
                    parent: Some(env.clone()),
                })),
                _ => Err(call::unmatched("def")),
            },
            Expr::Dot { left, right, .. } => match &**right {
                Expr::Call(name, args) if &**name == "unpack" => {
                    let items = call::items(&self.eval(left, env)?)?;
                    let names = self.plain_args(args, env, "unpack")?;
                    if names.is_empty() {
                        return Ok(Env::with(env, numbered(items)));
                    }
                    if names.len() != items.len() {
                        let text = format!("Cannot unpack {} elements into {}", items.len(), names.len());
                        return Err(Fault::new("ValueError", text));
                    }
                    let named = names.iter().zip(items).map(|(name, value)| (Rc::from(texts::text(name)), value));
                    Ok(Env::with(env, named.collect()))
                }
                _ => Err(call::unmatched("#operator_->")),
            },
            Expr::Binary("->", left, right) => {
                let inner = self.context(left, env)?;
                self.context(right, &inner)
            }
            _ => Err(call::unmatched("#operator_->")),
        }
    }

    /// Operators as functions use them.
    pub(super) fn less(&self, left: &V, right: &V) -> R<bool> {
        self.step(1)?;
        operators::binary(self, "<", left, right).map(|value| value.truthy())
    }

    pub(super) fn add(&self, left: &V, right: &V) -> R {
        self.step(1)?;
        operators::binary(self, "+", left, right)
    }
}

/// A value where the functions' types want none.
pub(super) fn wrong<T>() -> R<T> {
    Err(no_match())
}
