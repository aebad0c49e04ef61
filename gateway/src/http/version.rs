//! Versions of resources: `ETag`, `If-Match` and `If-None-Match` (RFC 9110 §13). These are Squall's own: StackStorm
//! lets the last writer win, and without the headers we do too.

use http::StatusCode;

use super::ApiError;

/// The entity tag of a revision.
pub fn tag(rev: u64) -> String {
    format!("\"{rev}\"")
}

/// Whether `If-Match` or `If-None-Match` names this tag.
pub fn names(header: &str, tag: &str) -> bool {
    let header = header.trim();
    header == "*" || header.split(',').any(|one| one.trim().trim_start_matches("W/") == tag)
}

/// 412.
pub fn failed() -> ApiError {
    ApiError::new(StatusCode::PRECONDITION_FAILED, "The resource is not in the version that \"If-Match\" names.")
}

/// Routes whose resources have versions.
const VERSIONED: [&str; 13] = [
    "/actions/{ref}",
    "/actionalias/{id}",
    "/actionalias/{ref}",
    "/policies/{ref}",
    "/rules/{id}",
    "/rules/{ref}",
    "/sensortypes/{ref}",
    "/runnertypes/{name}",
    "/triggertypes/{ref}",
    "/triggers/{id}",
    "/apikeys/{id}",
    "/executions/{id}",
    "/keys/{name}",
];

/// Whether a request with `If-Match` can be served: a condition that nothing looks at must not pass.
pub fn is_known(pattern: &str) -> bool {
    VERSIONED.contains(&pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_name_tags() {
        assert!(names("*", "\"3\"") && names("\"1\", \"3\"", "\"3\"") && names("W/\"3\"", &tag(3)));
        assert!(!names("\"1\"", "\"3\"") && !names("3", "\"3\"") && !names("", "\"3\""));
    }
}
