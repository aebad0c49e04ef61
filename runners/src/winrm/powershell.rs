//! PowerShell's command line, literals and error stream (spec/runners.md §16.6).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use model::Object;
use serde_json::Value;

use super::ntlm::utf16;
use crate::shell::args::positional_texts;

/// What a command line of Windows may be long.
pub const LINE_LIMIT: usize = 8191;

/// The command line that runs `script`.
pub fn encoded(script: &str) -> String {
    format!("powershell -encodedcommand {}", STANDARD.encode(utf16(script)))
}

/// The script with its arguments: named ones first, then positional ones, which are always texts.
pub fn with_arguments(script: &str, schemas: &Object, parameters: &Object, operator: &str) -> String {
    let mut words = Vec::new();
    for (name, value) in parameters {
        let is_positional = schemas.get(name).is_some_and(|schema| schema.get("position").is_some_and(Value::is_i64));
        if !is_positional {
            words.push(format!("{operator}{name} {}", literal(value)));
        }
    }
    words.extend(positional_texts(schemas, parameters).iter().map(|text| string(text)));
    if words.is_empty() { script.to_owned() } else { format!("& {{{script}}} {}", words.join(" ")) }
}

pub fn literal(value: &Value) -> String {
    match value {
        Value::Null => "$null".to_owned(),
        Value::Bool(true) => "$true".to_owned(),
        Value::Bool(false) => "$false".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => string(text),
        Value::Array(items) => format!("@({})", items.iter().map(literal).collect::<Vec<_>>().join(", ")),
        Value::Object(object) => {
            let pairs: Vec<_> =
                object.iter().map(|(name, value)| format!("{} = {}", string(name), literal(value))).collect();
            format!("@{{{}}}", pairs.join("; "))
        }
    }
}

/// In double quotes; what means something there is escaped. So are typographic quotes, which PowerShell takes for
/// plain ones.
fn string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '\n' => quoted.push_str("`n"),
            '\r' => quoted.push_str("`r"),
            '\t' => quoted.push_str("`t"),
            '\u{7}' => quoted.push_str("`a"),
            '\u{8}' => quoted.push_str("`b"),
            '\u{c}' => quoted.push_str("`f"),
            '\u{b}' => quoted.push_str("`v"),
            '\0' => quoted.push_str("`0"),
            '"' | '\'' | '`' | '$' | '\u{201c}' | '\u{201d}' | '\u{201e}' => {
                quoted.push('`');
                quoted.push(c);
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Errors as text: PowerShell writes them as XML behind `#< CLIXML`. Anything else is left as it is.
pub fn clean_errors(stderr: &str) -> String {
    let Some(xml) = stderr.trim_start().strip_prefix("#< CLIXML") else { return stderr.to_owned() };
    let Ok(document) = roxmltree::Document::parse(xml.trim()) else { return stderr.to_owned() };
    document
        .root_element()
        .children()
        .filter(|node| node.has_tag_name_local("S") && node.attribute("S") == Some("Error"))
        .filter_map(|node| node.text())
        .map(|text| text.replace("_x000D_", "\r").replace("_x000A_", "\n"))
        .collect::<String>()
        .replace("\r\n", "\n")
}

/// Names without regard to their namespace.
pub trait LocalName {
    fn has_tag_name_local(&self, name: &str) -> bool;
}

impl LocalName for roxmltree::Node<'_, '_> {
    fn has_tag_name_local(&self, name: &str) -> bool {
        self.is_element() && self.tag_name().name() == name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn literals() {
        assert_eq!(literal(&json!("a\"b$c\n`'")), "\"a`\"b`$c`n```'\"");
        assert_eq!(literal(&json!([1, "x", null, true])), "@(1, \"x\", $null, $true)");
        assert_eq!(literal(&json!({"k": [false]})), "@{\"k\" = @($false)}");
        assert_eq!(encoded("dir"), "powershell -encodedcommand ZABpAHIA");
    }

    #[test]
    fn arguments_follow_the_script() {
        let schemas = json!({"n": {"type": "integer", "position": 0}, "s": {"type": "string"}});
        let parameters = json!({"n": 5, "s": "a b", "e": null});
        let (schemas, parameters) = (schemas.as_object().unwrap(), parameters.as_object().unwrap());
        assert_eq!(with_arguments("S", schemas, parameters, "-"), "& {S} -s \"a b\" -e $null \"5\"");
        assert_eq!(with_arguments("S", &Object::new(), &Object::new(), "-"), "S");
    }

    #[test]
    fn errors_become_text() {
        let xml = "#< CLIXML\r\n<Objs Version=\"1.1.0.1\" xmlns=\"http://schemas.microsoft.com/powershell/2004/04\">\
                   <Obj S=\"progress\" RefId=\"0\"/><S S=\"Error\">no such_x000D__x000A_</S><S S=\"Error\">thing</S></Objs>";
        assert_eq!(clean_errors(xml), "no such\nthing");
        assert_eq!(clean_errors("plain"), "plain");
        assert_eq!(clean_errors("#< CLIXML <broken"), "#< CLIXML <broken");
    }
}
