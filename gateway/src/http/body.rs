//! Request bodies: JSON, text, forms (spec/api.md §2), read up to a limit.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use model::Object;
use serde_json::Value;

use super::error::ApiError;

/// Bytes of an oversized body that are read and thrown away, so that the client gets to read the answer.
const DRAIN_FACTOR: u64 = 16;

/// Reads the body, at most `limit` bytes of it, within `deadline`.
pub async fn read(body: Body, limit: usize, deadline: Duration) -> Result<Bytes, ApiError> {
    match tokio::time::timeout(deadline, collect(body, limit)).await {
        Ok(result) => result,
        Err(_) => Err(ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            format!("The request body did not arrive within {} seconds.", deadline.as_secs()),
        )),
    }
}

/// Throws the rest of a refused request's body away, so that the client gets to read the answer.
pub async fn discard(mut body: Body, limit: usize, deadline: Duration) {
    let rest = async {
        let mut left = (limit as u64).saturating_mul(DRAIN_FACTOR);
        while let Some(Ok(frame)) = body.frame().await {
            let size = frame.data_ref().map_or(0, |data| data.len() as u64);
            if size > left {
                break;
            }
            left -= size;
        }
    };
    // A client that is too slow to send its body may miss the answer.
    drop(tokio::time::timeout(deadline, rest).await);
}

async fn collect(mut body: Body, limit: usize) -> Result<Bytes, ApiError> {
    let mut first = Bytes::new();
    let mut more = BytesMut::new();
    let mut seen: u64 = 0;
    let limit = limit as u64;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ApiError::bad_request("The request body could not be read."))?;
        let Ok(data) = frame.into_data() else { continue };
        seen += data.len() as u64;
        if seen > limit {
            more = BytesMut::new();
            if seen > limit.saturating_mul(DRAIN_FACTOR) {
                break;
            }
        } else if first.is_empty() && more.is_empty() {
            first = data;
        } else {
            more.extend_from_slice(&std::mem::take(&mut first));
            more.extend_from_slice(&data);
        }
    }
    if seen > limit {
        return Err(ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("The request body of at least {seen} bytes is over the limit of {limit} (api.max_body_size)."),
        ));
    }
    Ok(if more.is_empty() { first } else { more.freeze() })
}

fn refused(reason: impl std::fmt::Display) -> ApiError {
    ApiError::bad_request(format!("Failed to parse request body: {reason}"))
}

/// The body as a value, by its content type. Empty is `{}`, forms become lists of strings.
pub fn parse(headers: &HeaderMap, body: &[u8]) -> Result<Value, ApiError> {
    let content_type = match headers.get(CONTENT_TYPE) {
        Some(value) => value.to_str().map_err(|_| refused("Content-Type is not text"))?,
        None => "application/json",
    };
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "application/json" | "" => json(body),
        "text/plain" => match std::str::from_utf8(body) {
            Ok(text) => Ok(Value::from(text)),
            Err(error) => Err(refused(error)),
        },
        "application/x-www-form-urlencoded" | "multipart/form-data" => Ok(form(body)),
        _ => Err(refused(format!("Unsupported Content-Type: \"{content_type}\""))),
    }
}

fn form(body: &[u8]) -> Value {
    let mut object = Object::new();
    for (name, value) in url::form_urlencoded::parse(body) {
        let values = object.entry(name.into_owned()).or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(values) = values {
            values.push(value.into_owned().into());
        }
    }
    Value::Object(object)
}

fn json(body: &[u8]) -> Result<Value, ApiError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Value::Object(Object::new()));
    }
    serde_json::from_slice(body).map_err(|error| refused(describe(&error, body)))
}

/// The parser's message in the words of the parser that StackStorm uses, with line, column and offset.
fn describe(error: &serde_json::Error, body: &[u8]) -> String {
    let text = error.to_string();
    let (line, mut column) = (error.line().max(1), error.column().max(1));
    if error.is_eof() {
        column = error.column() + 1;
    }
    let reason = if std::str::from_utf8(body).is_err() {
        "invalid UTF-8 encoding in string"
    } else if error.is_eof() {
        "unexpected end of data"
    } else if text.starts_with("trailing characters") {
        "unexpected content after document"
    } else if text.starts_with("trailing comma") {
        "trailing comma is not allowed"
    } else if text.starts_with("control character") {
        "unexpected control character in string"
    } else if text.starts_with("invalid escape") || text.starts_with("invalid unicode") {
        "invalid escaped character in string"
    } else if text.starts_with("recursion limit") {
        "too many nested structures"
    } else {
        "unexpected character"
    };
    let before: usize = body.split_inclusive(|&byte| byte == b'\n').take(line - 1).map(<[u8]>::len).sum();
    format!("{reason}: line {line} column {column} (char {})", before + column - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fault(body: &str) -> String {
        parse(&HeaderMap::new(), body.as_bytes()).unwrap_err().fault
    }

    #[test]
    fn broken_json() {
        let prefix = "Failed to parse request body: ";
        assert_eq!(fault("{"), format!("{prefix}unexpected end of data: line 1 column 2 (char 1)"));
        assert_eq!(fault("{nope"), format!("{prefix}unexpected character: line 1 column 2 (char 1)"));
        assert_eq!(fault("{}\n x"), format!("{prefix}unexpected content after document: line 2 column 2 (char 4)"));
        let deep = "[".repeat(100_000);
        assert!(fault(&deep).contains("too many nested structures"));
    }

    #[test]
    fn forms_become_lists() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, "application/x-www-form-urlencoded".parse().unwrap());
        assert_eq!(parse(&headers, b"name=st2&k=1&k=2").unwrap(), json!({"name": ["st2"], "k": ["1", "2"]}));
        headers.insert(CONTENT_TYPE, "text/xml".parse().unwrap());
        assert_eq!(
            parse(&headers, b"<a/>").unwrap_err().fault,
            "Failed to parse request body: Unsupported Content-Type: \"text/xml\""
        );
    }

    #[tokio::test]
    async fn too_large_is_refused() {
        let body = Body::from(vec![b'x'; 100]);
        let error = read(body, 10, Duration::from_secs(1)).await.unwrap_err();
        assert_eq!(error.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(read(Body::from("0123456789"), 10, Duration::from_secs(1)).await.unwrap(), "0123456789");
    }
}
