//! Templates of chains: whole strings, and mappings and lists as one text of JSON (spec/actionchain.md §4).

use expr::{Context, KeyRequest, KeySource, RenderError, render_text};
use model::Object;
use serde_json::Value;

/// Why a value couldn't be rendered.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// These have to be fetched first.
    NeedsKeys(Vec<KeyRequest>),
    Text(String),
}

/// A value's template as errors show it.
pub fn source(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Renders a value. Where rendering changes nothing it keeps its type; a text stays a text in any case.
pub fn render(value: &Value, vars: &Object, keys: &dyn KeySource) -> Result<Value, Fault> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Array(_) | Value::Object(_) => value.to_string(),
        Value::Null | Value::Bool(_) | Value::Number(_) => return Ok(value.clone()),
    };
    let rendered = render_text(&text, &Context { vars, keys }).map_err(|error| match error {
        RenderError::NeedsKeys(keys) => Fault::NeedsKeys(keys),
        other => Fault::Text(other.to_string()),
    })?;
    if rendered == text {
        return Ok(value.clone());
    }
    match value {
        Value::String(_) => Ok(Value::String(rendered)),
        _ => serde_json::from_str(&rendered).map_err(|error| Fault::Text(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use expr::NoKeys;
    use serde_json::json;

    use super::*;

    #[test]
    fn values_by_kind() {
        let vars = json!({"n": 3, "q": "say \"x\"", "l": [1, "b"]});
        let render = |value: Value| render(&value, vars.as_object().unwrap(), &NoKeys);
        assert_eq!(render(json!("{{ n }}")), Ok(json!("3")), "a text stays a text");
        assert_eq!(render(json!(["{{ n }}", 1, {"k": "{{n}}-{{n}}"}])), Ok(json!(["3", 1, {"k": "3-3"}])));
        assert_eq!(render(json!({"a": [true, null, 1.5]})), Ok(json!({"a": [true, null, 1.5]})));
        assert_eq!(render(json!("{{ l | to_json_string }}")), Ok(json!("[1, \"b\"]")));
        assert!(matches!(render(json!(["{{ q }}"])), Err(Fault::Text(_))), "quotes break the text of JSON");
        assert!(matches!(render(json!("{{ missing }}")), Err(Fault::Text(text)) if text.contains("undefined")));
    }
}
