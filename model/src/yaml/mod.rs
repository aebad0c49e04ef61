//! YAML 1.1 as PyYAML's safe loader reads it and its safe dumper writes it.

use serde_json::Value;

/// Where and why a text isn't YAML that we take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct YamlError {
    /// 1-based.
    pub line: usize,
    /// 1-based.
    pub column: usize,
    pub message: String,
}

/// Loads one document. An empty text is `null`. Dates become their ISO text; keys become strings as JSON does.
pub fn load(text: &str) -> Result<Value, YamlError> {
    let _ = text;
    Err(YamlError { line: 1, column: 1, message: "not built yet".to_owned() })
}

/// Block style, keys in their order, strings quoted where PyYAML would.
pub fn dump(value: &Value) -> String {
    value.to_string()
}
