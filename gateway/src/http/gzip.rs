//! Compression of answers for clients that ask for it.

use std::io::Write;

use axum::body::Body;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, VARY};
use http::{HeaderMap, Response};
use hyper::body::Body as _;

/// Smaller answers aren't worth it.
const SMALLEST: u64 = 1024;
/// Larger ones are compressed off the async threads.
const LARGE: u64 = 64 * 1024;

/// Whether `Accept-Encoding` takes gzip.
pub fn is_accepted(headers: &HeaderMap) -> bool {
    let Some(Ok(accepted)) = headers.get(ACCEPT_ENCODING).map(HeaderValue::to_str) else { return false };
    accepted.split(',').any(|coding| {
        let (name, parameters) = coding.split_once(';').unwrap_or((coding, ""));
        let refused = parameters.split(';').any(|one| {
            let weight = one.trim().strip_prefix("q=").map(str::trim);
            weight.is_some_and(|weight| weight.parse::<f32>().is_ok_and(|weight| weight <= 0.0))
        });
        matches!(name.trim(), "gzip" | "x-gzip" | "*") && !refused
    })
}

/// Compresses an answer of known length that holds text; what streams is left as it is.
pub async fn apply(response: Response<Body>) -> Response<Body> {
    let is_text = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|kind| {
        kind.starts_with("application/json") || kind.starts_with("text/") && !kind.starts_with("text/event-stream")
    });
    let size = response.body().size_hint().exact().unwrap_or_default();
    if !is_text || size < SMALLEST || response.headers().contains_key(CONTENT_ENCODING) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    // The whole body is in memory already: nothing is waited for.
    let Ok(bytes) = axum::body::to_bytes(body, usize::MAX).await else {
        return Response::from_parts(parts, Body::empty());
    };
    let packed = if size < LARGE {
        pack(&bytes)
    } else {
        let whole = bytes.clone();
        tokio::task::spawn_blocking(move || pack(&whole)).await.unwrap_or_default()
    };
    let Some(packed) = packed else { return Response::from_parts(parts, Body::from(bytes)) };
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    parts.headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    Response::from_parts(parts, Body::from(packed))
}

/// None if it can't be done.
pub(super) fn pack(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
    encoder.write_all(bytes).ok()?;
    encoder.finish().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_say_what_they_take() {
        let accepts = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(text));
            is_accepted(&headers)
        };
        for text in ["gzip", "deflate, gzip;q=0.5", "*", "br, x-gzip"] {
            assert!(accepts(text), "{text}");
        }
        for text in ["", "br", "gzip;q=0", "identity, gzip; q=0.0"] {
            assert!(!accepts(text), "{text}");
        }
        assert!(!is_accepted(&HeaderMap::new()));
    }
}
