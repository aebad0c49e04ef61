//! Aliases: which one a command means, and what it asks for (spec/api.md §7.9, spec/chatops.md §2 – §4).

mod anchors;
pub mod pattern;

use model::{ActionAlias, Object};
use serde_json::Value;

pub use pattern::{Pattern, PatternError};

/// One of an alias's formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format<'a> {
    /// What helps show; empty if the format has none.
    pub display: &'a str,
    pub representation: &'a str,
    pub matches_multiple: bool,
}

/// All formats that a command can match.
pub fn formats(alias: &ActionAlias) -> Vec<Format<'_>> {
    let mut all = Vec::new();
    for format in &alias.formats {
        let Value::Object(format) = format else {
            if let Value::String(text) = format {
                all.push(Format { display: text, representation: text, matches_multiple: false });
            }
            continue;
        };
        let display = format.get("display").and_then(Value::as_str).unwrap_or_default();
        let matches_multiple = format.get("match_multiple").and_then(Value::as_bool).unwrap_or_default();
        let representations: &[Value] = match format.get("representation") {
            Some(Value::Array(many)) => many,
            Some(one) => std::slice::from_ref(one),
            None => &[],
        };
        let texts = representations.iter().filter_map(Value::as_str);
        all.extend(texts.map(|representation| Format { display, representation, matches_multiple }));
    }
    all
}

/// What helps show of an alias.
pub fn displays(alias: &ActionAlias) -> Vec<&str> {
    alias.formats.iter().filter_map(display).filter(|text| !text.is_empty()).collect()
}

fn display(format: &Value) -> Option<&str> {
    format.as_str().or_else(|| format.get("display")?.as_str())
}

/// An alias that a command means.
#[derive(Debug, Clone, PartialEq)]
pub struct Match<'a> {
    pub alias: &'a ActionAlias,
    pub format: Format<'a>,
    /// One set of parameters for each place that matches; several only of formats that match multiply.
    pub parameters: Vec<Object>,
}

/// Why a command means no alias.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MatchError {
    #[error("Command '{0}' matched no patterns")]
    None(String),
    #[error("Command '{0}' matched more than 1 pattern")]
    Many(String),
    #[error("Command '{0}' matched more than 1 (multi) pattern")]
    ManyMultiple(String),
}

/// The only alias and format that match. Those which match multiply are tried if no other does; a format that is no
/// regular expression matches nothing.
pub fn find<'a>(aliases: impl IntoIterator<Item = &'a ActionAlias>, command: &str) -> Result<Match<'a>, MatchError> {
    let enabled: Vec<&ActionAlias> = aliases.into_iter().filter(|alias| alias.enabled).collect();
    let multiple = |alias: &ActionAlias| formats(alias).iter().any(|format| format.matches_multiple);
    let (multiple, single): (Vec<_>, Vec<_>) = enabled.into_iter().partition(|alias| multiple(alias));
    let mut found = matching(&single, false, command);
    if found.len() > 1 {
        return Err(MatchError::Many(command.to_owned()));
    }
    if found.is_empty() {
        found = matching(&multiple, true, command);
    }
    if found.len() > 1 {
        return Err(MatchError::ManyMultiple(command.to_owned()));
    }
    found.pop().ok_or_else(|| MatchError::None(command.to_owned()))
}

fn matching<'a>(aliases: &[&'a ActionAlias], multiple: bool, command: &str) -> Vec<Match<'a>> {
    let mut found = Vec::new();
    for &alias in aliases {
        for format in formats(alias) {
            let Ok(pattern) = Pattern::new(format.representation) else { continue };
            let parameters = match multiple && format.matches_multiple {
                true => pattern.extract_all(command),
                false => pattern.extract(command).map(|one| vec![one]),
            };
            if let Ok(parameters) = parameters {
                found.push(Match { alias, format, parameters });
            }
        }
    }
    found
}

/// Text of chat as the type that a parameter declares: arrays as JSON or divided by commas, objects as JSON or
/// `key=value` pairs divided by commas. What else is cast is cast at the request.
pub fn typed(schema: &Object, mut parameters: Object) -> Object {
    for (name, value) in &mut parameters {
        let kind = schema.get(name).and_then(|schema| schema.get("type")).and_then(Value::as_str);
        let Some(text) = value.as_str().map(str::trim) else { continue };
        match kind {
            Some("array") if !text.starts_with('[') => {
                let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
                *value = parts.map(Value::from).collect();
            }
            Some("object") if !text.starts_with('{') && text.contains('=') => {
                let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
                let pairs: Object =
                    pairs.map(|(name, value)| (name.trim().to_owned(), Value::from(value.trim()))).collect();
                *value = Value::Object(pairs);
            }
            _ => {}
        }
    }
    parameters
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn alias(name: &str, formats: Value) -> ActionAlias {
        serde_json::from_value(json!({
            "id": "6553f1000000000000000000", "uid": "", "ref": format!("p.{name}"), "pack": "p", "name": name,
            "action_ref": "core.noop", "formats": formats,
        }))
        .unwrap()
    }

    #[test]
    fn one_pattern_may_match() {
        let all = [
            alias("ping", json!(["ping {{ host }} count {{ count }}", "ping {{ host }}"])),
            alias("say", json!([{"display": "say it", "representation": ["say {{m}}", "utter {{m}}"]}])),
            alias(
                "issues",
                json!([{
                    "display": "issues", "representation": r"(?:\b|^)(?P<issue>[A-Z]+-\d+)(?:\b|$)", "match_multiple": true
                }]),
            ),
            alias("broken", json!(["a (b", {"display": "only shown"}])),
        ];
        let found = find(&all, "say hello").unwrap();
        assert_eq!((found.alias.name.as_str(), found.format.display), ("say", "say it"));
        assert_eq!(found.parameters, [model::resource::to_object(&json!({"m": "hello"}))]);
        let found = find(&all, "see AB-1 and CD-2").unwrap();
        assert_eq!((found.alias.name.as_str(), found.parameters.len()), ("issues", 2));
        let text = |command| find(&all, command).unwrap_err().to_string();
        assert_eq!(text("ping h count 3"), "Command 'ping h count 3' matched more than 1 pattern");
        assert_eq!(text("fly"), "Command 'fly' matched no patterns");
        assert_eq!(displays(&all[3]), ["a (b", "only shown"]);
    }

    #[test]
    fn chat_text_gets_its_type() {
        let schema = model::resource::to_object(&json!({"a": {"type": "array"}, "o": {"type": "object"}, "s": {}}));
        let given = model::resource::to_object(&json!({"a": "x, y", "o": "k=v, l = w", "s": "p,q"}));
        let wanted = json!({"a": ["x", "y"], "o": {"k": "v", "l": "w"}, "s": "p,q"});
        assert_eq!(Value::Object(typed(&schema, given)), wanted);
        let given = model::resource::to_object(&json!({"a": "[1]", "o": "{}"}));
        assert_eq!(Value::Object(typed(&schema, given)), json!({"a": "[1]", "o": "{}"}));
    }
}
