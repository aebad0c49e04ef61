//! The page that shows the API: one file, which needs nothing but this server.

use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY};

use crate::http::Reply;

const HTML: &str = include_str!("page.html");

/// `GET /docs`.
pub fn page() -> Reply {
    Reply::raw("text/html; charset=UTF-8", HTML).header(CACHE_CONTROL, "no-cache").header(
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'",
    )
}
