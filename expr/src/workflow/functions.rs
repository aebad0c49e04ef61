//! The functions of spec/orquesta.md §25 for Jinja: globals, and filters of the same names.

use std::sync::Arc;

use minijinja::value::{Kwargs, Rest, Tuple};
use minijinja::{Environment, Error, ErrorKind, State, Value as Jinja};
use parking_lot::Mutex;
use serde_json::Value;

use super::{Fault, Records, Scope, json_error};
use crate::jinja::values::{from_jinja, text, to_jinja};

/// Filters that are functions too.
const BOTH: [&str; 25] = [
    "regex_match",
    "regex_search",
    "regex_replace",
    "regex_substring",
    "version_compare",
    "version_more_than",
    "version_less_than",
    "version_equal",
    "version_match",
    "version_bump_major",
    "version_bump_minor",
    "version_bump_patch",
    "version_strip_patch",
    "use_none",
    "basename",
    "dirname",
    "to_human_time_from_seconds",
    "to_json_string",
    "json_dump",
    "from_json_string",
    "json_parse",
    "json_escape",
    "jsonpath_query",
    "to_yaml_string",
    "from_yaml_string",
];

/// Functions that look at the scope.
pub(super) const SCOPED: [&str; 9] =
    ["ctx", "result", "succeeded", "failed", "completed", "item", "task_status", "task", "st2kv"];

/// Changes the environment of parameter templates to what workflows have.
pub(super) fn register(env: &mut Environment<'_>) {
    for name in ["decrypt_kv", "to_complex", "md5", "sha1", "sha256"] {
        env.remove_filter(name);
    }
    for name in BOTH.into_iter().chain(["yaml_dump", "yaml_parse"]) {
        env.add_function(name, move |state: &mut State<'_, '_>, args: Rest<Jinja>| state.apply_filter(name, &args));
    }
    for name in ["to_json_string", "json_dump"] {
        env.add_filter(name, dump);
    }
    env.add_filter("json", json);
    env.add_function("json", json);
    env.add_filter("zip", zip);
    env.add_function("zip", zip);
    env.add_filter("st2kv", |_: Rest<Jinja>| -> Result<Jinja, Error> {
        Err(raised(Fault::new("TypeError", "st2kv_() missing 1 required positional argument: 'key'")))
    });
}

/// A fault on its way through the engine.
pub(super) fn raised(fault: Fault) -> Error {
    Error::new(ErrorKind::InvalidOperation, fault.to_string()).with_source(fault)
}

fn json(value: &Jinja) -> Result<Jinja, Error> {
    let Some(source) = value.as_str() else {
        if value.kind() == minijinja::value::ValueKind::Map {
            return Ok(value.clone());
        }
        return Err(raised(Fault::new("TypeError", "Given object is not typeof string.")));
    };
    let parsed: Value = serde_json::from_str(source).map_err(|error| raised(json_error(source, &error)))?;
    Ok(to_jinja(&parsed))
}

/// `","` and `": "` between, where parameter templates have blanks.
fn dump(state: &State<'_, '_>, value: &Jinja, indent: Option<Jinja>, kwargs: Kwargs) -> Result<String, Error> {
    let indent = match indent {
        Some(indent) => Some(indent),
        None => kwargs.get::<Option<Jinja>>("indent")?,
    };
    let separators = kwargs.get::<Option<Jinja>>("separators")?;
    let separators = separators.unwrap_or_else(|| Jinja::from(vec![",", ": "]));
    kwargs.assert_all_used()?;
    let json = from_jinja(value)?;
    let indent = indent.and_then(|indent| indent.as_usize());
    let _ = state;
    crate::filters::dumps_with(
        &json,
        indent,
        &text(&separators.get_item_by_index(0)?),
        &text(&separators.get_item_by_index(1)?),
    )
}

fn zip(lists: Rest<Jinja>, kwargs: Kwargs) -> Result<Jinja, Error> {
    let pad = kwargs.get::<Option<Jinja>>("pad")?.unwrap_or_else(|| Jinja::from(()));
    kwargs.assert_all_used()?;
    if let [only] = lists.as_slice() {
        return Ok(only.clone());
    }
    let mut columns: Vec<Vec<Jinja>> = Vec::new();
    for list in lists.iter() {
        columns.push(if list.is_none() { Vec::new() } else { list.try_iter()?.collect() });
    }
    let longest = columns.iter().map(Vec::len).max().unwrap_or(0);
    let row = |at: usize| {
        let cells = columns.iter().map(|column| column.get(at).unwrap_or(&pad).clone());
        Jinja::from(Tuple::from(cells.collect::<Vec<_>>()))
    };
    Ok(Jinja::from((0..longest).map(row).collect::<Vec<_>>()))
}

/// Something only the scope can answer; the engine can't hold a borrowed scope, so it is noted and asked between
/// passes.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Ask {
    Status(String, Option<u32>),
    Record(Option<String>, Option<u32>),
    Key(String, bool, Option<Value>),
}

/// What one evaluation has asked and been told.
#[derive(Debug, Default)]
pub(super) struct Answers {
    known: Vec<(Ask, Result<Value, Fault>)>,
    open: Option<Ask>,
}

impl Answers {
    /// Answers what the last pass missed; false if it missed nothing.
    pub(super) fn settle(&mut self, records: Records<'_>) -> Result<bool, Fault> {
        let Some(ask) = self.open.take() else { return Ok(false) };
        let answer = match &ask {
            Ask::Status(task, route) => Ok(Value::String(records.status(task, *route))),
            Ask::Record(task, route) => records.record(task.as_deref(), *route),
            Ask::Key(key, decrypt, default) => records.key(key, *decrypt, default.clone()),
        };
        if let Err(needs @ Fault::NeedsKeys(_)) = answer {
            return Err(needs);
        }
        self.known.push((ask, answer));
        Ok(true)
    }

    pub(super) fn count(&self) -> usize {
        self.known.len()
    }
}

type Shared = Arc<Mutex<Answers>>;

fn ask(answers: &Shared, ask: Ask) -> Result<Jinja, Error> {
    let mut answers = answers.lock();
    if let Some((_, answer)) = answers.known.iter().find(|(known, _)| *known == ask) {
        return answer.clone().map(|value| to_jinja(&value)).map_err(raised);
    }
    answers.open = Some(ask);
    Err(raised(Fault::new("RuntimeError", "not answered yet")))
}

fn optional_text(value: Option<&Jinja>) -> Option<String> {
    value.filter(|value| !value.is_none()).map(text).filter(|text| !text.is_empty())
}

fn route(value: Option<Jinja>) -> Option<u32> {
    value.and_then(|value| u32::try_from(value).ok())
}

fn defined(values: &[Jinja]) -> Result<(), Error> {
    for value in values {
        if value.is_undefined() {
            from_jinja(value)?;
        }
    }
    Ok(())
}

/// The function behind a name, if it is one that looks at the scope. `only` are the variables that the expression
/// spells out, `None` if it may look at all.
pub(super) fn lookup(name: &str, scope: &Scope<'_>, only: Option<&[String]>, answers: &Shared) -> Option<Jinja> {
    let answers = answers.clone();
    let records = Records(scope);
    Some(match name {
        "ctx" => context(scope, only),
        "result" => constant(records.result().map(to_jinja)),
        "succeeded" => constant(records.current_is(|status| status == "succeeded").map(Jinja::from)),
        "failed" => constant(records.current_is(is_failure).map(Jinja::from)),
        "completed" => constant(records.current_is(is_completed).map(Jinja::from)),
        "item" => {
            let whole = records.item(None).map(|item| to_jinja(&item));
            let item = scope.item.cloned().unwrap_or(Value::Null);
            Jinja::from_function(move |key: Option<&Jinja>| match optional_text(key) {
                None => whole.clone().map_err(raised),
                Some(key) => super::data::item_field(&item, &key).map(to_jinja).map_err(raised),
            })
        }
        "task_status" => Jinja::from_function(move |task: &Jinja, at: Option<Jinja>, kwargs: Kwargs| {
            defined(std::slice::from_ref(task))?;
            let at = at.or(kwargs.get::<Option<Jinja>>("route")?);
            ask(&answers, Ask::Status(text(task), route(at)))
        }),
        "task" => Jinja::from_function(move |task: Option<Jinja>, at: Option<Jinja>, kwargs: Kwargs| {
            let task = task.or(kwargs.get::<Option<Jinja>>("task_id")?);
            let at = at.or(kwargs.get::<Option<Jinja>>("route")?);
            ask(&answers, Ask::Record(optional_text(task.as_ref()), route(at)))
        }),
        "st2kv" => Jinja::from_function(move |key: &Jinja, decrypt: Option<Jinja>, kwargs: Kwargs| {
            let Some(key) = key.as_str() else {
                defined(std::slice::from_ref(key))?;
                return Err(raised(Fault::new("TypeError", "Given key is not typeof string.")));
            };
            let decrypt = match decrypt.or(kwargs.get::<Option<Jinja>>("decrypt")?) {
                None => false,
                Some(flag) if flag.kind() == minijinja::value::ValueKind::Bool => flag.is_true(),
                Some(_) => return Err(raised(Fault::new("TypeError", "Decrypt parameter is not typeof bool."))),
            };
            let default = match kwargs.has("default") {
                true => Some(from_jinja(&kwargs.get::<Jinja>("default")?)?),
                false => None,
            };
            kwargs.assert_all_used()?;
            ask(&answers, Ask::Key(key.to_owned(), decrypt, default))
        }),
        _ => return None,
    })
}

pub(crate) fn is_failure(status: &str) -> bool {
    matches!(status, "failed" | "timeout" | "abandoned")
}

pub(crate) fn is_completed(status: &str) -> bool {
    is_failure(status) || matches!(status, "succeeded" | "canceled")
}

fn constant(value: Result<Jinja, Fault>) -> Jinja {
    Jinja::from_function(move || value.clone().map_err(raised))
}

fn context(scope: &Scope<'_>, only: Option<&[String]>) -> Jinja {
    let wanted = Records(scope).visible().filter(|(name, _)| only.is_none_or(|only| only.contains(name)));
    let visible = Jinja::from_pairs(wanted.map(|(name, value)| (Jinja::from(name.as_str()), to_jinja(value))));
    Jinja::from_function(move |keys: Rest<Jinja>| {
        defined(&keys)?;
        let Some(key) = keys.first().filter(|key| !key.is_none()) else { return Ok(visible.clone()) };
        let name = text(key);
        if name.is_empty() {
            return Ok(visible.clone());
        }
        match visible.get_item(key) {
            Ok(value) if !value.is_undefined() => Ok(value),
            _ => Err(raised(super::data::absent(&name))),
        }
    })
}
