//! What a handler answers.

use axum::body::Body;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use serde::Serialize;

use super::error::ApiError;

/// A response before the headers that all responses share are added.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: Body,
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");

impl Reply {
    fn with(status: StatusCode, content_type: HeaderValue, body: Body) -> Self {
        Self { status, headers: vec![(CONTENT_TYPE, content_type)], body }
    }

    /// 200 with compact JSON.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self, ApiError> {
        Self::json_status(StatusCode::OK, value)
    }

    /// 201 with compact JSON.
    pub fn created<T: Serialize + ?Sized>(value: &T) -> Result<Self, ApiError> {
        Self::json_status(StatusCode::CREATED, value)
    }

    pub fn json_status<T: Serialize + ?Sized>(status: StatusCode, value: &T) -> Result<Self, ApiError> {
        let text = serde_json::to_vec(value).map_err(|e| ApiError::internal(format!("answer as JSON: {e}")))?;
        Ok(Self::with(status, JSON, Body::from(text)))
    }

    /// 204.
    pub fn no_content() -> Self {
        Self { status: StatusCode::NO_CONTENT, headers: Vec::new(), body: Body::empty() }
    }

    /// 200 with a body of another type.
    pub fn raw(content_type: &str, body: impl Into<Body>) -> Self {
        let content_type =
            HeaderValue::from_str(content_type).unwrap_or(HeaderValue::from_static("application/octet-stream"));
        Self::with(StatusCode::OK, content_type, body.into())
    }

    pub fn text(text: impl Into<String>) -> Self {
        Self::raw("text/plain; charset=UTF-8", text.into())
    }

    /// Adds a header; a value that no header can hold is left out.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }

    /// Says which revision is shown.
    #[must_use]
    pub fn version(self, rev: u64) -> Self {
        self.header(http::header::ETAG, &super::version::tag(rev))
    }

    /// 304: the headers without the body.
    #[must_use]
    pub fn not_modified(mut self) -> Self {
        self.headers.retain(|(name, _)| name != CONTENT_TYPE);
        Self { status: StatusCode::NOT_MODIFIED, headers: self.headers, body: Body::empty() }
    }

    pub fn into_response(self) -> Response<Body> {
        let mut response = Response::new(self.body);
        *response.status_mut() = self.status;
        for (name, value) in self.headers {
            response.headers_mut().append(name, value);
        }
        response
    }
}

impl From<&ApiError> for Reply {
    fn from(error: &ApiError) -> Self {
        let mut reply = Self::with(error.status, JSON, Body::from(error.body()));
        if let Some(seconds) = error.retry_after {
            reply.headers.push((http::header::RETRY_AFTER, HeaderValue::from(seconds)));
        }
        reply
    }
}
