//! Key-value pairs (spec/datastore.md, spec/api.md §7.4).

use std::time::Duration;

use model::{KeyValue, Scope, Versioned};

use crate::{DomainError, Services};

/// What to store.
#[derive(Debug, Clone, Default)]
pub struct SetKey {
    pub value: String,
    pub description: Option<String>,
    /// Encrypt at rest.
    pub secret: bool,
    /// `value` is ciphertext already; its integrity is checked.
    pub encrypted: bool,
    pub ttl: Option<Duration>,
}

/// The pair, unless it is absent or expired.
pub async fn get(
    services: &Services,
    scope: Scope,
    user: &str,
    name: &str,
) -> Result<Option<Versioned<KeyValue>>, DomainError> {
    let _ = (services, scope, user, name);
    Ok(None)
}

/// Creates or replaces, and dispatches the key-value triggers.
pub async fn set(
    services: &Services,
    scope: Scope,
    user: &str,
    name: &str,
    input: SetKey,
) -> Result<KeyValue, DomainError> {
    let _ = (services, scope, user, name, input);
    Err(DomainError::Invalid(String::new()))
}

/// False if there was none.
pub async fn delete(services: &Services, scope: Scope, user: &str, name: &str) -> Result<bool, DomainError> {
    let _ = (services, scope, user, name);
    Ok(false)
}

/// Pairs of a scope by name prefix, not expired, sorted by name. `limit` None: all.
pub async fn list(
    services: &Services,
    scope: Scope,
    user: &str,
    prefix: Option<&str>,
    limit: Option<u64>,
    offset: u64,
) -> Result<Vec<KeyValue>, DomainError> {
    let _ = (services, scope, user, prefix, limit, offset);
    Ok(Vec::new())
}

/// Plaintext of a pair's value.
pub fn reveal(services: &Services, pair: &KeyValue) -> Result<String, DomainError> {
    let _ = services;
    Ok(pair.value.clone())
}
