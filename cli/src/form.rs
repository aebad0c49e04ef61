//! Asking a person for the values of a schema, one question after the other.

use std::io::BufRead;

use serde_json::{Map, Value, json};

use crate::context::{put, say};
use crate::error::{Error, Result};

const YES: &[&str] = &["y", "yes", "true", "t", "1", "on"];
const NO: &[&str] = &["n", "no", "false", "f", "0", "off"];

/// Where answers come from.
pub struct Form<R> {
    input: R,
    secret: fn() -> Result<String>,
}

impl Form<std::io::StdinLock<'static>> {
    /// Asks at the terminal; secrets aren't shown.
    pub fn terminal() -> Self {
        Form { input: std::io::stdin().lock(), secret: || crate::auth::read_hidden("") }
    }
}

impl<R: BufRead> Form<R> {
    /// The answers for `properties` (a schema per name). A property that was passed over gets its default; without one it
    /// is left out.
    pub fn ask(&mut self, properties: &Map<String, Value>) -> Result<Map<String, Value>> {
        self.group(properties, "")
    }

    fn group(&mut self, properties: &Map<String, Value>, prefix: &str) -> Result<Map<String, Value>> {
        let mut answers = Map::new();
        for (name, schema) in properties {
            let path = format!("{prefix}{name}");
            let kind = schema.get("type").and_then(Value::as_str).unwrap_or("string");
            let answer = match (kind, schema.get("properties").and_then(Value::as_object)) {
                ("object", Some(inner)) => Some(Value::Object(self.group(inner, &format!("{path}."))?)),
                _ => self.value(&path, kind, schema)?,
            };
            if let Some(answer) = answer {
                answers.insert(name.clone(), answer);
            }
        }
        Ok(answers)
    }

    /// One value; asks again while the answer doesn't fit.
    fn value(&mut self, path: &str, kind: &str, schema: &Value) -> Result<Option<Value>> {
        let required = schema.get("required").and_then(Value::as_bool).unwrap_or(false);
        let default = schema.get("default");
        loop {
            put(&question(path, kind, schema));
            let secret = schema.get("secret").and_then(Value::as_bool).unwrap_or(false);
            let line = if secret { (self.secret)()? } else { self.line()? };
            if line.is_empty() && (default.is_some() || !required) {
                return Ok(default.cloned());
            }
            match read(&line, kind, schema) {
                Ok(value) => return Ok(Some(value)),
                Err(text) => say(&text),
            }
        }
    }

    /// A question with yes for an answer unless it is told otherwise.
    pub fn agrees(&mut self, text: &str) -> Result<bool> {
        put(&format!("{text} [y]: "));
        let line = self.line()?;
        Ok(line.is_empty() || YES.contains(&line.to_lowercase().as_str()))
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        match self.input.read_line(&mut line) {
            Ok(0) => Err(Error::failed("no answer: the input has ended")),
            Ok(_) => Ok(line.trim_end_matches(['\n', '\r']).to_owned()),
            Err(error) => Err(Error::failed(format!("cannot read the answer: {error}"))),
        }
    }
}

fn choices(schema: &Value) -> Option<&Vec<Value>> {
    schema.get("enum").or_else(|| schema.pointer("/items/enum")).and_then(Value::as_array)
}

fn question(path: &str, kind: &str, schema: &Value) -> String {
    let mut text = String::new();
    if let Some(about) = schema.get("description").and_then(Value::as_str).filter(|about| !about.is_empty()) {
        text.push_str(&format!("# {about}\n"));
    }
    let hint = match kind {
        "string" => String::new(),
        "array" => " (comma-separated list)".to_owned(),
        "object" => " (JSON object)".to_owned(),
        kind => format!(" ({kind})"),
    };
    text.push_str(&format!("{path}{hint}"));
    if let Some(choices) = choices(schema) {
        for (index, choice) in choices.iter().enumerate() {
            text.push_str(&format!("\n {index} - {}", plain(choice)));
        }
        text.push_str("\nnumber");
    }
    match schema.get("default") {
        // a secret isn't shown even if it is only a default
        Some(_) if schema.get("secret").and_then(Value::as_bool).unwrap_or(false) => text.push_str(" [***]: "),
        Some(default) => text.push_str(&format!(" [{}]: ", plain(default))),
        None => text.push_str(": "),
    }
    text
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// What a line means for a schema; the error says why it means nothing.
fn read(line: &str, kind: &str, schema: &Value) -> std::result::Result<Value, String> {
    let pick = |word: &str| -> std::result::Result<Option<Value>, String> {
        let Some(choices) = choices(schema) else { return Ok(None) };
        // the number on the screen, or the choice itself
        let chosen = word.parse().ok().and_then(|index: usize| choices.get(index));
        let chosen = chosen.or_else(|| choices.iter().find(|choice| plain(choice) == word));
        chosen.cloned().map(Some).ok_or_else(|| format!("\"{word}\" is none of the choices"))
    };
    let unfit = |what: &str| format!("\"{line}\" isn't {what}");
    if kind == "array" {
        let inner = schema.get("items").cloned().unwrap_or_else(|| json!({}));
        if inner.get("type").and_then(Value::as_str) == Some("object") {
            let list: Option<Vec<Value>> = serde_json::from_str(line).ok();
            return list.map(Value::Array).ok_or_else(|| unfit("a JSON list of objects"));
        }
        let item = inner.get("type").and_then(Value::as_str).unwrap_or("string");
        let words = line.split(',').map(str::trim).filter(|word| !word.is_empty());
        return words
            .map(|word| read(word, item, &inner))
            .collect::<std::result::Result<Vec<_>, _>>()
            .map(Value::Array);
    }
    if let Some(chosen) = pick(line)? {
        return Ok(chosen);
    }
    match kind {
        "boolean" if YES.contains(&line.to_lowercase().as_str()) => Ok(json!(true)),
        "boolean" if NO.contains(&line.to_lowercase().as_str()) => Ok(json!(false)),
        "boolean" => Err(unfit("yes or no")),
        "integer" => line.parse::<i64>().map(|number| json!(number)).map_err(|_| unfit("an integer")),
        "number" => match line.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(json!(number)),
            _ => Err(unfit("a number")),
        },
        "object" => {
            let object: Option<Map<String, Value>> = serde_json::from_str(line).ok();
            object.map(Value::Object).ok_or_else(|| unfit("a JSON object"))
        }
        _ if line.is_empty() => Err("an answer is needed".to_owned()),
        _ => Ok(json!(line)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(schema: Value, typed: &str) -> Result<Value> {
        let mut form = Form { input: typed.as_bytes(), secret: || Ok("hidden".to_owned()) };
        form.ask(schema.as_object().unwrap()).map(Value::Object)
    }

    #[test]
    fn answers_become_values_of_their_types() {
        let schema = json!({
            "name": {"type": "string", "required": true},
            "count": {"type": "integer", "default": 3},
            "ratio": {"type": "number"},
            "on": {"type": "boolean"},
            "tags": {"type": "array", "items": {"type": "integer"}},
            "color": {"enum": ["red", "green"]},
            "key": {"type": "string", "secret": true},
            "inner": {"type": "object", "properties": {"deep": {"type": "string", "default": "d"}}},
            "left": {"type": "string"},
        });
        let got = answers(schema, "x\n\n0.5\nYes\n1, 2\n1\n\n\n").unwrap();
        let expected = json!({
            "name": "x", "count": 3, "ratio": 0.5, "on": true, "tags": [1, 2], "color": "green",
            "key": "hidden", "inner": {"deep": "d"},
        });
        assert_eq!(got, expected);
    }

    #[test]
    fn what_does_not_fit_is_asked_again_until_the_input_ends() {
        let schema = json!({"n": {"type": "integer", "required": true}});
        assert_eq!(answers(schema.clone(), "\nx\n7\n").unwrap(), json!({"n": 7}));
        assert!(answers(schema, "x\n").is_err());
    }

    #[test]
    fn a_secret_default_is_not_shown() {
        let shown = question("key", "string", &json!({"secret": true, "default": "s3cret", "description": "About."}));
        assert_eq!(shown, "# About.\nkey [***]: ");
    }
}
