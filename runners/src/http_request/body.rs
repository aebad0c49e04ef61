//! The body: text as given, or made JSON where the content type says so; or one file as a multipart form.

use serde_json::Value;

use super::request::CallError;

/// What is sent, with the content type that it brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    pub bytes: Vec<u8>,
    pub content_type: Option<String>,
}

/// `application/json` exactly: the text is read as JSON, else as a Python literal, and written compactly.
pub fn from_text(text: &str, content_type: Option<&str>) -> Result<Body, CallError> {
    if content_type != Some("application/json") || text.is_empty() {
        return Ok(Body { bytes: text.as_bytes().to_vec(), content_type: None });
    }
    let value = match serde_json::from_str::<Value>(text) {
        Ok(value) => value,
        Err(error) => python_literal(text)
            .ok_or_else(|| CallError::Failed(format!("Failed to parse the body as JSON: {error}")))?,
    };
    Ok(Body { bytes: value.to_string().into_bytes(), content_type: None })
}

/// A file as StackStorm sends it: the form's field is named like the file.
pub fn from_file(name: &str, content: &str, content_type: Option<&str>) -> Body {
    let boundary = format!("squall{}", uuid::Uuid::new_v4().simple());
    let quoted = name.replace('\\', "\\\\").replace('"', "%22").replace(['\r', '\n'], " ");
    let kind = content_type.map(|kind| format!("Content-Type: {kind}\r\n")).unwrap_or_default();
    let text = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"{quoted}\"; filename=\"{quoted}\"\r\n{kind}\r\n\
         {content}\r\n--{boundary}--\r\n"
    );
    Body { bytes: text.into_bytes(), content_type: Some(format!("multipart/form-data; boundary={boundary}")) }
}

/// A literal of dicts, lists, tuples, strings, numbers, True, False, None.
fn python_literal(text: &str) -> Option<Value> {
    let mut json = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\'' | '"' => json.push_str(&Value::String(string_literal(&mut chars, c)?).to_string()),
            '(' => json.push('['),
            ')' => json.push(']'),
            c if c.is_ascii_alphabetic() => {
                let mut word = String::from(c);
                while let Some(next) = chars.next_if(|next| next.is_ascii_alphanumeric() || *next == '_') {
                    word.push(next);
                }
                json.push_str(match word.as_str() {
                    "True" => "true",
                    "False" => "false",
                    "None" => "null",
                    // An exponent.
                    "e" | "E" => "e",
                    _ => return None,
                });
            }
            c => json.push(c),
        }
    }
    serde_json::from_str(&json).ok()
}

fn string_literal(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, quote: char) -> Option<String> {
    let mut text = String::new();
    loop {
        match chars.next()? {
            c if c == quote => return Some(text),
            '\\' => text.push(match chars.next()? {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                c @ ('\\' | '\'' | '"') => c,
                _ => return None,
            }),
            c => text.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Option<String> {
        from_text(text, Some("application/json")).ok().map(|body| String::from_utf8(body.bytes).unwrap())
    }

    #[test]
    fn json_is_made_compact_and_python_becomes_json() {
        assert_eq!(json(r#"{ "a" : 1 }"#).unwrap(), r#"{"a":1}"#);
        assert_eq!(json(r#"{'a': (True, None, "it's"), 'b': 1.5}"#).unwrap(), r#"{"a":[true,null,"it's"],"b":1.5}"#);
        assert_eq!(json("import os"), None);
        assert_eq!(from_text("{ }", Some("text/plain")).unwrap().bytes, b"{ }");
    }
}
