//! The inline form of parameters and publications: `core.local cmd="date" n=3` (spec/orquesta.md §4).

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

/// A name and what it is given.
pub type Pair = (String, Value);

/// `name=value`, the forms of a value in the order in which they are tried. A list goes to the last bracket.
static PAIR: LazyLock<Regex> = LazyLock::new(|| {
    #[allow(clippy::expect_used, reason = "a constant pattern, compiled by the tests")]
    Regex::new(
        r#"(?x) (?P<name>\w+) =
        (?: (?P<list>\[.*\])
          | "(?P<double>[^"]*)"
          | '(?P<single>[^']*)'
          | (?P<float>-?\d*\.\d+)
          | (?P<int>-?\d+)
          | (?P<bool>(?i:true|false))
          | (?P<null>null)
          | (?P<expression>\{\{.*?\}\}|<%.*?%>) )"#,
    )
    .expect("the pattern of inline parameters")
});

/// All pairs of a text, in order; whatever lies between them is left out.
pub fn split_pairs(text: &str) -> Vec<Pair> {
    PAIR.captures_iter(text)
        .map(|found| {
            let value = if let Some(list) = found.name("list") {
                json_or_text(list.as_str())
            } else if let Some(text) = found.name("double").or_else(|| found.name("single")) {
                quoted(text.as_str())
            } else if let Some(number) = found.name("float") {
                number.as_str().parse().map_or_else(|_| number.as_str().into(), |parsed: f64| parsed.into())
            } else if let Some(number) = found.name("int") {
                integer(number.as_str())
            } else if let Some(truth) = found.name("bool") {
                truth.as_str().eq_ignore_ascii_case("true").into()
            } else {
                found.name("expression").map_or(Value::Null, |expression| expression.as_str().into())
            };
            (found["name"].to_owned(), value)
        })
        .collect()
}

/// An action's name and its inline parameters, if it has any.
pub fn split_action(text: &str) -> (String, Vec<Pair>) {
    let pairs = split_pairs(text);
    let name = if pairs.is_empty() { text } else { text.split(' ').next().unwrap_or(text) };
    (name.to_owned(), pairs)
}

fn json_or_text(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

fn quoted(text: &str) -> Value {
    if text.starts_with('{') && text.ends_with('}') { json_or_text(text) } else { text.into() }
}

fn integer(text: &str) -> Value {
    let parsed = text.parse::<i64>().map(Value::from).or_else(|_| text.parse::<u64>().map(Value::from));
    parsed.or_else(|_| text.parse::<f64>().map(Value::from)).unwrap_or_else(|_| text.into())
}
