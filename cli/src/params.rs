//! `key=value` words as typed parameters (`spec/cli.md` §6).

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};

/// The parameters' schemas: the runner's come first.
#[derive(Debug, Default)]
pub struct Schemas {
    pub runner: Map<String, Value>,
    pub action: Map<String, Value>,
}

impl Schemas {
    fn of(&self, name: &str) -> Option<&Value> {
        self.runner.get(name).or_else(|| self.action.get(name))
    }

    fn kind(&self, name: &str) -> &str {
        let kind = |schema: &Map<String, Value>| schema.get(name).and_then(|schema| schema.get("type")).cloned();
        match kind(&self.runner).or_else(|| kind(&self.action)) {
            Some(Value::String(kind)) => match kind.as_str() {
                "integer" => "integer",
                "number" => "number",
                "boolean" => "boolean",
                "array" => "array",
                "object" => "object",
                _ => "string",
            },
            _ => "string",
        }
    }
}

/// Whether the words hold a parameter whose type must be known.
pub fn need_types(words: &[String]) -> bool {
    words.first().is_some_and(|word| word.contains('='))
        && words.iter().take_while(|word| word.contains('=')).any(|word| !word.starts_with('@'))
}

/// Reads the words from left to right. `http` is whether the action is `core.http`, where a file is what is sent.
pub fn parse(words: &[String], schemas: &Schemas, auto_dict: bool, http: bool) -> Result<Map<String, Value>> {
    let mut out = Map::new();
    for (index, word) in words.iter().enumerate() {
        let Some((name, text)) = word.split_once('=') else {
            out.insert("cmd".to_owned(), json!(words[index..].join(" ")));
            break;
        };
        if let Some(name) = name.strip_prefix('@') {
            let content = read_file(text)?;
            if http {
                out.insert("file_content".to_owned(), json!(content));
                out.entry("method").or_insert_with(|| json!("POST"));
                let base = Path::new(text).file_name().map(|name| name.to_string_lossy().into_owned());
                out.entry("file_name").or_insert_with(|| json!(base));
            } else {
                out.insert(name.to_owned(), json!(content));
            }
            continue;
        }
        let value = cast(schemas.kind(name), text, schemas.of(name), auto_dict)?;
        match (out.get_mut(name), value) {
            // a repeated array grows
            (Some(Value::Array(items)), Value::Array(more)) => items.extend(more),
            (_, value) => {
                out.insert(name.to_owned(), value);
            }
        }
    }
    Ok(out)
}

fn read_file(path: &str) -> Result<String> {
    match std::fs::metadata(path) {
        Err(_) => Err(Error::failed(format!("File \"{path}\" doesn't exist"))),
        Ok(metadata) if !metadata.is_file() => Err(Error::failed(format!("\"{path}\" is not a file"))),
        Ok(_) => std::fs::read_to_string(path).map_err(|error| Error::failed(format!("{path}: {error}"))),
    }
}

fn cast(kind: &str, text: &str, schema: Option<&Value>, auto_dict: bool) -> Result<Value> {
    match kind {
        "integer" => integer(text),
        "number" => {
            let number = text.trim().parse::<f64>().ok().and_then(serde_json::Number::from_f64);
            number
                .map(Value::Number)
                .ok_or_else(|| Error::failed(format!("could not convert string to float: '{text}'")))
        }
        "boolean" => boolean(text),
        "array" => array(text, schema, auto_dict),
        "object" => object(text),
        _ => Ok(json!(text)),
    }
}

fn integer(text: &str) -> Result<Value> {
    let digits = text.trim().replace('_', "");
    let whole = digits.parse::<i64>().map(Value::from).or_else(|_| digits.parse::<u64>().map(Value::from));
    whole.map_err(|_| Error::failed(format!("invalid literal for int() with base 10: '{text}'")))
}

fn boolean(text: &str) -> Result<Value> {
    match text.trim().to_lowercase().as_str() {
        "true" => Ok(json!(true)),
        "false" => Ok(json!(false)),
        "none" => Ok(Value::Null),
        other => other
            .parse::<i64>()
            .map(Value::from)
            .map_err(|_| Error::failed("Invalid value for boolean parameter. Valid values are: true, false")),
    }
}

fn array(text: &str, schema: Option<&Value>, auto_dict: bool) -> Result<Value> {
    let items = match serde_json::from_str::<Value>(text) {
        Ok(Value::Array(items)) => items,
        Ok(value) => vec![value],
        Err(_) => text.split(',').map(|item| json!(item.trim())).collect(),
    };
    let pairs = || items.iter().map(|item| item.as_str()?.split_once(':')).collect::<Option<Vec<_>>>();
    let Some(pairs) = auto_dict.then(pairs).flatten() else { return Ok(Value::Array(items)) };
    let properties = schema.and_then(|schema| schema.get("properties").or_else(|| schema.pointer("/items/properties")));
    let mut dict = Map::new();
    for (key, value) in pairs {
        let kind = properties.and_then(|p| p.get(key)).and_then(|p| p.get("type")).and_then(Value::as_str);
        dict.insert(key.to_owned(), cast(kind.unwrap_or("string"), value, None, false)?);
    }
    Ok(json!([dict]))
}

fn object(text: &str) -> Result<Value> {
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text).map_err(|error| Error::failed(format!("not a JSON object: {error}")));
    }
    let pairs = text.split(',').filter_map(|piece| piece.split_once('='));
    Ok(Value::Object(pairs.map(|(key, value)| (key.trim().to_owned(), json!(value.trim()))).collect()))
}

/// Variables that only mean something here, and our own credentials.
const KEPT_HERE: &[&str] = &[
    "HOME",
    "LANG",
    "LC_CTYPE",
    "LOGNAME",
    "LS_COLORS",
    "MAIL",
    "OLDPWD",
    "PATH",
    "PS1",
    "PWD",
    "PYTHONPATH",
    "SHELL",
    "SSH_TTY",
    "ST2_API_KEY",
    "ST2_AUTH_TOKEN",
    "TERM",
    "USER",
    "_",
];

/// The environment to hand to an action.
pub fn environment() -> Map<String, Value> {
    let wanted =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    wanted.filter(|(name, _)| !KEPT_HERE.contains(&name.as_str())).map(|(name, value)| (name, json!(value))).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn schemas() -> Schemas {
        let map = |value: Value| value.as_object().cloned().unwrap();
        Schemas {
            runner: map(json!({"timeout": {"type": "integer"}, "env": {"type": "object"}})),
            action: map(json!({
                "timeout": {"type": "string"}, "f": {"type": "number"}, "b": {"type": "boolean"},
                "a": {"type": "array", "properties": {"n": {"type": "integer"}}}, "o": {"type": "object"},
            })),
        }
    }

    fn words(text: &str) -> Vec<String> {
        text.split('|').map(str::to_owned).collect()
    }

    fn read(text: &str) -> Value {
        Value::Object(parse(&words(text), &schemas(), false, false).unwrap())
    }

    #[test]
    fn values_get_the_types_of_their_parameters() {
        assert_eq!(
            read("timeout=3|f=2|b=TRUE|o=a=1,b=2,junk|x=5|cmd=a=b"),
            json!({"timeout": 3, "f": 2.0, "b": true, "o": {"a": "1", "b": "2"}, "x": "5", "cmd": "a=b"})
        );
        assert_eq!(read("a=5|a=x"), json!({"a": [5, "x"]}));
        assert_eq!(read("a=[1,\"b\"]|o={\"x\": [1]}"), json!({"a": [1, "b"], "o": {"x": [1]}}));
        assert_eq!(read("a= 1, b|b=0"), json!({"a": ["1", "b"], "b": 0}));
        assert_eq!(read("x=1|date|+%Y|k=v"), json!({"x": "1", "cmd": "date +%Y k=v"}));
        let dict = parse(&words("a=n:1,m:3"), &schemas(), true, false).unwrap();
        assert_eq!(Value::Object(dict), json!({"a": [{"n": 1, "m": "3"}]}));
    }

    #[test]
    fn wrong_values_are_named() {
        let wrong = |text: &str| parse(&words(text), &schemas(), false, false).unwrap_err().to_string();
        assert_eq!(wrong("timeout=zz"), "invalid literal for int() with base 10: 'zz'");
        assert_eq!(wrong("f=x"), "could not convert string to float: 'x'");
        assert_eq!(wrong("b=zz"), "Invalid value for boolean parameter. Valid values are: true, false");
        assert_eq!(wrong("@x=/nope"), "File \"/nope\" doesn't exist");
        assert_eq!(wrong("@x=/"), "\"/\" is not a file");
        assert!(wrong("o={bad").starts_with("not a JSON object"));
    }

    #[test]
    fn files_become_values() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hello\n").unwrap();
        let word = format!("@x={}", file.path().display());
        assert_eq!(read(&word), json!({"x": "hello\n"}));
        let http = parse(&[word], &schemas(), false, true).unwrap();
        assert_eq!((&http["file_content"], &http["method"]), (&json!("hello\n"), &json!("POST")));
        assert!(!need_types(&words("@x=y|echo|a=b")) && need_types(&words("@x=y|a=b")));
    }

    proptest! {
        #[test]
        fn no_word_panics(text in "\\PC{0,30}") {
            let _ = parse(&words(&text), &schemas(), true, true);
        }
    }
}
