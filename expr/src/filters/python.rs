//! Filters that show Python underneath: `%` formatting, attributes, XML attributes.

use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, State, Value};
use model::python;

use super::builtin::escaped;
use super::failed;
use super::methods::{call_method, is_method};
use crate::jinja::values::{from_jinja, input, text, type_name};
use crate::workflow::Fault;

pub(super) fn register(env: &mut Environment<'_>) {
    env.add_filter("percent_format", percent_format);
    env.add_filter("format", format);
    env.add_filter("attr", attr);
    env.add_filter("xmlattr", xmlattr);
    env.add_function("lipsum", lipsum);
}

/// A Python exception that isn't one of the engine's kinds of errors.
fn raised(class: &'static str, message: String) -> Error {
    failed(message.clone()).with_source(Fault::new(class, message))
}

/// `'…' | format(…)`: as `%`, with arguments by position or by name.
fn format(state: &mut State<'_, '_>, format: &Value, args: Rest<Value>, kwargs: Kwargs) -> Result<Value, Error> {
    let names: Vec<String> = kwargs.args().map(str::to_owned).collect();
    if names.is_empty() {
        return printed(state, &input(format)?, args.0, true);
    }
    if !args.is_empty() {
        return Err(failed("can't handle positional and keyword arguments at the same time"));
    }
    let pairs = names.into_iter().map(|name| kwargs.get::<Value>(&name).map(|value| (name, value)));
    let named = Value::from(Kwargs::from_iter(pairs.collect::<Result<Vec<_>, _>>()?));
    printed(state, &input(format)?, vec![named], false)
}

/// `'…' % operand`.
fn percent_format(state: &mut State<'_, '_>, format: &Value, operand: &Value) -> Result<Value, Error> {
    let format = input(format)?;
    match operand.kind() {
        ValueKind::Seq if operand.is_tuple() => printed(state, &format, operand.try_iter()?.collect(), true),
        ValueKind::Map => {
            let pairs = operand.try_iter()?.map(|key| (text(&key), operand.get_item(&key).unwrap_or_default()));
            printed(state, &format, vec![Value::from(Kwargs::from_iter(pairs))], false)
        }
        // A list counts as a mapping: Python doesn't mind if nothing asks for it.
        kind => printed(state, &format, vec![operand.clone()], kind != ValueKind::Seq),
    }
}

/// `all`: each argument has to be used.
fn printed(state: &mut State<'_, '_>, format: &str, mut args: Vec<Value>, all: bool) -> Result<Value, Error> {
    let mut format = format.to_owned();
    let conversions = conversions(&format);
    let wanted = conversions.iter().map(|conversion| 1 + conversion.stars).sum::<usize>();
    if all && args.len() > wanted {
        return Err(failed("not all arguments converted during string formatting"));
    }
    let mut next = 0;
    for conversion in &conversions {
        next += conversion.stars;
        let Some(arg) = args.get_mut(next) else { break };
        next += 1;
        match conversion.letter {
            // Python's `repr` is a text like any other.
            'r' => {
                format.replace_range(conversion.at..=conversion.at, "s");
                *arg = Value::from(python::repr(&from_jinja(arg)?));
            }
            's' if !arg.is_kwargs() => *arg = Value::from(input(arg)?),
            _ => {}
        }
    }
    args.insert(0, Value::from(format));
    let args = <(&Value, Rest<_>) as minijinja::value::FunctionArgs>::from_values(None, &args)?;
    minijinja::filters::format(state, args.0, args.1)
}

/// A `%…` in a format.
struct Conversion {
    letter: char,
    /// Where the letter stands.
    at: usize,
    /// Widths and precisions that are arguments.
    stars: usize,
}

fn conversions(format: &str) -> Vec<Conversion> {
    let mut found = Vec::new();
    let mut chars = format.char_indices().peekable();
    while let Some((_, c)) = chars.next() {
        if c != '%' {
            continue;
        }
        // A name may hold any characters.
        if chars.next_if(|(_, c)| *c == '(').is_some() {
            chars.find(|(_, c)| *c == ')');
        }
        let mut stars = 0;
        let end = chars.find(|(_, c)| {
            stars += usize::from(*c == '*');
            c.is_ascii_alphabetic() || *c == '%'
        });
        if let Some((at, letter)) = end
            && letter != '%'
        {
            found.push(Conversion { letter, at, stars });
        }
    }
    found
}

/// An attribute; of a text, list or mapping that is a method, which can be called.
fn attr(value: &Value, name: &Value) -> Result<Value, Error> {
    let method = name.as_str().filter(|name| is_method(value, name)).map(str::to_owned);
    let Some(method) = method else { return minijinja::filters::attr(value, name) };
    let value = value.clone();
    Ok(Value::from_function(move |state: &mut State<'_, '_>, args: Rest<Value>| {
        call_method(state, &value, &method, &args)
    }))
}

/// A mapping as attributes of an element; nulls and undefined values are left out.
fn xmlattr(value: &Value, autospace: Option<bool>) -> Result<String, Error> {
    if value.kind() != ValueKind::Map {
        let owner = type_name(value);
        return Err(raised("AttributeError", format!("'{owner}' has no attribute 'items'")));
    }
    let mut written = Vec::new();
    for key in value.try_iter()? {
        let field = value.get_item(&key)?;
        if field.is_none() || field.is_undefined() {
            continue;
        }
        let key = text(&key);
        if key.contains(|c: char| c.is_ascii_whitespace() || matches!(c, '/' | '>' | '=')) {
            return Err(raised(
                "ValueError",
                format!("Invalid character in attribute name: {}", python::repr(&key.into())),
            ));
        }
        written.push(format!("{}=\"{}\"", escaped(&key), escaped(&text(&field))));
    }
    let before = if autospace.unwrap_or(true) && !written.is_empty() { " " } else { "" };
    Ok(format!("{before}{}", written.join(" ")))
}

/// Random text, not more than somebody would read.
fn lipsum(state: &mut State<'_, '_>, count: Option<usize>, kwargs: Kwargs) -> Result<Value, Error> {
    let count = match count {
        Some(count) => count,
        None => kwargs.get::<Option<usize>>("n")?.unwrap_or(5),
    };
    let most = kwargs.get::<Option<usize>>("max")?.unwrap_or(100);
    if count > 100 || most > 1_000 {
        return Err(failed("lipsum gives at most 100 paragraphs of 1000 words"));
    }
    minijinja_contrib::globals::lipsum(state, Some(count), kwargs)
}
