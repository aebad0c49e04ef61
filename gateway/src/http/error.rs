//! One error type for every handler, mapped once to StackStorm's error body (spec/api.md §4).

use content::ContentError;
use domain::DomainError;
use http::StatusCode;
use model::Id;
use serde_json::json;
use store::StoreError;

/// Seconds that a client is asked to wait when a dependency is away.
pub const RETRY_AFTER_SECONDS: u64 = 2;

/// What the client gets instead of the resource.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{status}: {fault}")]
pub struct ApiError {
    pub status: StatusCode,
    /// Text of `faultstring`.
    pub fault: String,
    /// Present on 409: `conflict-id`, null when the existing resource is not known.
    pub conflict: Option<Option<Id>>,
    /// Seconds for `Retry-After`.
    pub retry_after: Option<u64>,
    /// What is logged and not shown.
    pub detail: Option<String>,
}

impl ApiError {
    pub fn new(status: StatusCode, fault: impl Into<String>) -> Self {
        Self { status, fault: fault.into(), conflict: None, retry_after: None, detail: None }
    }

    pub fn bad_request(fault: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, fault)
    }

    pub fn unauthorized(fault: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, fault)
    }

    pub fn forbidden(fault: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, fault)
    }

    pub fn not_found(fault: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, fault)
    }

    /// Unknown path, or a method that the path doesn't have.
    pub fn no_route() -> Self {
        Self::not_found("The resource could not be found.")
    }

    /// By ref or id.
    pub fn unknown_ref(reference: &str) -> Self {
        Self::not_found(format!("Resource with a reference or id \"{reference}\" not found"))
    }

    /// By id.
    pub fn unknown_id(id: &str) -> Self {
        Self::not_found(format!("Unable to identify resource with id \"{id}\"."))
    }

    /// A failure that is ours: the text is logged, the client learns nothing of it.
    pub fn internal(detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..Self::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error") }
    }

    /// 429: ask again after so many seconds.
    pub fn too_many(fault: impl Into<String>, seconds: u64) -> Self {
        Self { retry_after: Some(seconds.max(1)), ..Self::new(StatusCode::TOO_MANY_REQUESTS, fault) }
    }

    /// A dependency is away: try again (invariant A1).
    pub fn unavailable(fault: impl Into<String>) -> Self {
        Self { retry_after: Some(RETRY_AFTER_SECONDS), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, fault) }
    }

    /// JSON text of the body.
    pub fn body(&self) -> String {
        match &self.conflict {
            Some(id) => json!({"conflict-id": id, "faultstring": self.fault}).to_string(),
            None => json!({"faultstring": self.fault}).to_string(),
        }
    }
}

impl From<DomainError> for ApiError {
    fn from(error: DomainError) -> Self {
        match error {
            DomainError::Invalid(text) => Self::bad_request(text),
            DomainError::Forbidden(text) => Self::forbidden(text),
            DomainError::NotFound(text) => Self::not_found(text),
            DomainError::Conflict { text, existing } => {
                Self { conflict: Some(existing), ..Self::new(StatusCode::CONFLICT, text) }
            }
            DomainError::Superseded(text) => Self::new(StatusCode::CONFLICT, text),
            DomainError::Store(error) => error.into(),
        }
    }
}

impl From<ContentError> for ApiError {
    fn from(error: ContentError) -> Self {
        match error {
            ContentError::Invalid(text) => Self::bad_request(text),
            ContentError::NotFound(text) => Self::not_found(text),
            ContentError::Domain(error) => error.into(),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Duplicate { .. } => DomainError::from(error).into(),
            StoreError::Stale { .. } | StoreError::StaleFence { .. } => {
                Self::new(StatusCode::CONFLICT, "The resource was changed by another request at the same time.")
            }
            StoreError::TooLarge { .. } => Self::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
            StoreError::Full(_) => Self {
                detail: Some(error.to_string()),
                retry_after: Some(RETRY_AFTER_SECONDS),
                ..Self::new(StatusCode::INSUFFICIENT_STORAGE, "No space is left to store this: reads still work.")
            },
            StoreError::Unavailable(_) => Self {
                detail: Some(error.to_string()),
                ..Self::unavailable("The database is not available, try again.")
            },
            StoreError::Corrupt { .. } | StoreError::Misuse(_) => Self::internal(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_of_the_store_is_never_an_empty_answer() {
        let error = ApiError::from(StoreError::Unavailable("gone".to_owned()));
        assert_eq!((error.status.as_u16(), error.retry_after), (503, Some(RETRY_AFTER_SECONDS)));
        assert!(!error.body().contains("gone"));
        let error = ApiError::from(StoreError::Full("disk".to_owned()));
        assert_eq!(error.status.as_u16(), 507);
    }

    #[test]
    fn conflicts_name_the_existing_resource() {
        let id: Id = "6553f1000000000000000000".parse().unwrap();
        let error = DomainError::Conflict { text: "dup".to_owned(), existing: Some(id) };
        assert_eq!(ApiError::from(error).body(), r#"{"conflict-id":"6553f1000000000000000000","faultstring":"dup"}"#);
    }
}
