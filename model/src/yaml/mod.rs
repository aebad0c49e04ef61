//! YAML 1.1 as PyYAML's safe loader reads it and its safe dumper writes it.
//!
//! No YAML crate resolves plain scalars as PyYAML does (`yes`, `0777`, `1_000`, `12:30:45`, `1e3`), so packs would
//! change their meaning. Parsing is `saphyr-parser`'s; [`resolve`] gives scalars their types, [`load`] composes
//! documents, [`dump`] writes them.

mod compose;
mod emit;
mod resolve;

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

/// Nesting past this is refused.
pub const MAX_DEPTH: usize = 100;

/// Nodes of a document, with those that aliases repeat: past this an alias bomb is refused.
pub const MAX_NODES: usize = 1_000_000;

/// Loads one document. An empty text is `null`. Dates become their ISO text; keys become strings as JSON does.
pub fn load(text: &str) -> Result<Value, YamlError> {
    compose::load(text, false)
}

/// As [`load`], but a key that comes twice in a mapping is an error.
pub fn load_unique(text: &str) -> Result<Value, YamlError> {
    compose::load(text, true)
}

/// Block style, keys in their order, strings quoted where PyYAML would; ends with a newline.
pub fn dump(value: &Value) -> String {
    emit::dump(value)
}

/// As [`dump`], with Unicode kept where it can be printed.
pub fn dump_unicode(value: &Value) -> String {
    emit::dump_unicode(value)
}

#[cfg(test)]
mod tests;
