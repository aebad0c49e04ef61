//! From the answer to a result.

use model::{Object, Status};
use serde_json::{Value, json};

use super::request::{CallError, classify};
use crate::runner::Ending;

pub async fn read(mut answer: reqwest::Response, limit: usize) -> Result<Ending, CallError> {
    let code = answer.status().as_u16();
    let headers = header_object(answer.headers());
    let charset = charset(answer.headers());
    let content_type = answer.headers().get("content-type").and_then(|value| value.to_str().ok()).unwrap_or("");
    let is_json = content_type.split(';').next().is_some_and(|kind| kind.trim() == "application/json");
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| classify(&error))? {
        if bytes.len() + chunk.len() > limit {
            return Err(CallError::Failed(format!(
                "the body of the response is larger than the limit output_limit = {limit} bytes"
            )));
        }
        bytes.extend_from_slice(&chunk);
    }
    let text = decode(&bytes, charset.as_deref());
    let parsed = if is_json { serde_json::from_str::<Value>(&text).ok() } else { None };
    let is_parsed = parsed.is_some();
    let body = parsed.unwrap_or(Value::String(text));
    let status = if (200..=206).contains(&code) { Status::Succeeded } else { Status::Failed };
    Ok(Ending::new(status, json!({"status_code": code, "body": body, "parsed": is_parsed, "headers": headers})))
}

fn charset(headers: &reqwest::header::HeaderMap) -> Option<String> {
    let kind = headers.get("content-type")?.to_str().ok()?;
    let charset = kind.split(';').skip(1).find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"').to_ascii_lowercase())
    });
    // Text without a charset is Latin-1 for HTTP, and so for Python's requests; UTF-8 that is valid is never that.
    charset.or_else(|| kind.starts_with("text/").then(|| "iso-8859-1".to_owned()))
}

fn decode(bytes: &[u8], charset: Option<&str>) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) if matches!(charset, Some("iso-8859-1" | "latin-1" | "latin1" | "us-ascii")) => {
            bytes.iter().map(|byte| char::from(*byte)).collect()
        }
        Err(_) => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// Duplicates are joined. The names come in lower case from the client; they get the form in which servers write them.
fn header_object(headers: &reqwest::header::HeaderMap) -> Object {
    let mut object = Object::new();
    for name in headers.keys() {
        let values: Vec<String> =
            headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect();
        object.insert(usual_name(name.as_str()), values.join(", ").into());
    }
    object
}

fn usual_name(name: &str) -> String {
    const ODD: [(&str, &str); 6] = [
        ("etag", "ETag"),
        ("www-authenticate", "WWW-Authenticate"),
        ("te", "TE"),
        ("dnt", "DNT"),
        ("x-request-id", "X-Request-ID"),
        ("content-md5", "Content-MD5"),
    ];
    if let Some((_, usual)) = ODD.iter().find(|(lower, _)| *lower == name) {
        return (*usual).to_owned();
    }
    let capital = |word: &str| {
        let mut chars = word.chars();
        chars.next().map_or_else(String::new, |first| format!("{}{}", first.to_ascii_uppercase(), chars.as_str()))
    };
    name.split('-').map(capital).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_get_their_usual_form() {
        assert_eq!(usual_name("content-type"), "Content-Type");
        assert_eq!(usual_name("etag"), "ETag");
        assert_eq!(usual_name("x-powered-by"), "X-Powered-By");
    }

    #[test]
    fn text_is_decoded_by_its_charset() {
        assert_eq!(decode(b"caf\xe9", Some("iso-8859-1")), "café");
        assert_eq!(decode("café".as_bytes(), Some("iso-8859-1")), "café");
        assert_eq!(decode(b"caf\xe9", None), "caf\u{fffd}");
    }
}
