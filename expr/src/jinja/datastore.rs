//! `st2kv` inside templates: look-ups that are answered from a table, which is filled between passes.
//!
//! The engine can't call a borrowed [`KeySource`], and the source may not know yet. So a pass of rendering only notes
//! the keys that are missing in the table; they are then asked for and the pass is repeated.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use minijinja::value::{Object, ObjectRepr};
use minijinja::{Error, ErrorKind, State, Value as Jinja};
use model::Scope;
use parking_lot::Mutex;

use super::{KeyAnswer, KeyRequest, KeySource};

/// A template may look up keys named by other keys; past this many passes it is refused.
const MAX_PASSES: usize = 50;

#[derive(Debug, Default)]
struct Table {
    answers: HashMap<KeyRequest, KeyAnswer>,
    asked: Vec<KeyRequest>,
    plain: HashMap<String, Result<String, String>>,
    ciphers: Vec<String>,
    last: Option<KeyRequest>,
}

/// The table of one rendering.
#[derive(Debug)]
pub(crate) struct Keys {
    state: Mutex<Table>,
    /// `st2kv…` paths that the template spells out, for keys with dots in their names.
    paths: Arc<[String]>,
    /// Whether `st2kv.user` exists here.
    user: bool,
}

/// What the table needs before the next pass.
pub(crate) enum Next {
    /// Nothing: the last pass is final.
    Final,
    /// New answers came in: render again.
    Again,
    /// The source doesn't know these yet.
    Unknown(Vec<KeyRequest>),
}

impl Keys {
    pub(crate) fn new(paths: Arc<[String]>, user: bool, source: &dyn KeySource) -> Arc<Self> {
        let keys = Self { state: Mutex::default(), paths, user };
        let mut state = keys.state.lock();
        for path in keys.paths.iter() {
            let request = match path.strip_prefix("st2kv.").and_then(|rest| rest.split_once('.')) {
                Some(("system", name)) => KeyRequest { scope: Scope::System, name: name.to_owned() },
                Some(("user", name)) if user => KeyRequest { scope: Scope::User, name: name.to_owned() },
                _ => continue,
            };
            match source.get(&request) {
                KeyAnswer::Unknown => {}
                answer => {
                    state.answers.insert(request, answer);
                }
            }
        }
        drop(state);
        Arc::new(keys)
    }

    /// The value that templates see as `st2kv`.
    pub(crate) fn root(self: &Arc<Self>) -> Jinja {
        Jinja::from_object(Node { keys: self.clone(), scope: None, name: String::new() })
    }

    /// The legacy name `system`.
    pub(crate) fn system(self: &Arc<Self>) -> Jinja {
        Jinja::from_object(Node { keys: self.clone(), scope: Some(Scope::System), name: String::new() })
    }

    /// Asks the source for what the last pass missed.
    pub(crate) fn settle(&self, source: &dyn KeySource, pass: usize) -> Next {
        let mut state = self.state.lock();
        let asked = std::mem::take(&mut state.asked);
        let ciphers = std::mem::take(&mut state.ciphers);
        if (asked.is_empty() && ciphers.is_empty()) || pass >= MAX_PASSES {
            return Next::Final;
        }
        let mut unknown = Vec::new();
        for request in asked {
            match source.get(&request) {
                KeyAnswer::Unknown => unknown.push(request),
                answer => {
                    state.answers.insert(request, answer);
                }
            }
        }
        for cipher in ciphers {
            let plain = source.decrypt(&cipher);
            state.plain.insert(cipher, plain);
        }
        if unknown.is_empty() { Next::Again } else { Next::Unknown(unknown) }
    }

    /// The stored text; empty when the key is absent or not fetched yet.
    fn read(&self, scope: Scope, name: &str) -> String {
        let request = KeyRequest { scope, name: name.to_owned() };
        let mut state = self.state.lock();
        let text = match state.answers.get(&request) {
            Some(KeyAnswer::Value { value, .. }) => value.clone(),
            Some(_) => String::new(),
            None => {
                if !state.asked.contains(&request) {
                    state.asked.push(request.clone());
                }
                String::new()
            }
        };
        state.last = Some(request);
        text
    }

    /// The `decrypt_kv` filter (spec/rules.md §15).
    pub(crate) fn decrypt(&self, text: &str) -> Result<String, Error> {
        let mut state = self.state.lock();
        if text.is_empty() {
            if !state.asked.is_empty() {
                // The key isn't fetched yet, this pass doesn't count.
                return Ok(String::new());
            }
            let name = match &state.last {
                Some(request) => format!("{}.{}", request.scope.as_str(), request.name),
                None => "st2kv.system".to_owned(),
            };
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                format!("Referenced datastore item \"{name}\" doesn't exist or it contains an empty string"),
            ));
        }
        match state.plain.get(text) {
            Some(Ok(plain)) => Ok(plain.clone()),
            Some(Err(reason)) => Err(Error::new(ErrorKind::InvalidOperation, reason.clone())),
            None => {
                state.ciphers.push(text.to_owned());
                Ok(String::new())
            }
        }
    }

    /// Whether the template goes on with a dot after this name.
    fn continues(&self, scope: Scope, name: &str) -> bool {
        let prefix = format!("{}.{name}.", scope.as_str());
        self.paths.iter().any(|path| path.starts_with(&prefix))
    }
}

/// `st2kv`, a scope of it, or the first part of a dotted key name.
struct Node {
    keys: Arc<Keys>,
    scope: Option<Scope>,
    name: String,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the values.
        f.write_str("st2kv")
    }
}

impl Node {
    fn child(&self, key: &str) -> Option<Jinja> {
        let Some(scope) = self.scope else {
            let scope = match key {
                "system" => Scope::System,
                "user" if self.keys.user => Scope::User,
                _ => return None,
            };
            return Some(Jinja::from_object(Self { keys: self.keys.clone(), scope: Some(scope), name: String::new() }));
        };
        let name = if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) };
        if self.keys.continues(scope, &name) {
            return Some(Jinja::from_object(Self { keys: self.keys.clone(), scope: Some(scope), name }));
        }
        Some(Jinja::from(self.keys.read(scope, &name)))
    }
}

impl Object for Node {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Jinja) -> Option<Jinja> {
        match key.as_str() {
            Some(key) => self.child(key),
            None => self.child(&super::values::text(key)),
        }
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Jinja> {
        self.child(key)
    }

    /// `st2kv('system.key')`, or just the key.
    fn call(self: &Arc<Self>, _: &mut State<'_, '_>, args: &[Jinja]) -> Result<Jinja, Error> {
        let key = args.first().and_then(Jinja::as_str);
        let Some(key) = key.filter(|_| self.scope.is_none()) else {
            return Err(Error::new(ErrorKind::InvalidOperation, "st2kv takes the name of a key"));
        };
        let (scope, name) = match key.split_once('.') {
            Some(("system", name)) => (Scope::System, name),
            Some(("user", name)) if self.keys.user => (Scope::User, name),
            _ => (Scope::System, key),
        };
        Ok(Jinja::from(self.keys.read(scope, name)))
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scope {
            Some(scope) if !self.name.is_empty() => f.write_str(&self.keys.read(scope, &self.name)),
            _ => Ok(()),
        }
    }
}

/// The table behind a value that templates see as `st2kv`.
pub(crate) fn keys_of(value: &Jinja) -> Option<Arc<Keys>> {
    value.downcast_object_ref::<Node>().map(|node| node.keys.clone())
}
