//! Passwords and groups: the port and its adapters (spec/auth-rbac.md §2).

pub mod helper;
pub mod htpasswd;
pub mod ldap;

use std::fmt::Debug;

use async_trait::async_trait;

pub use helper::{Helper, HelperOptions};
pub use htpasswd::FlatFile;
pub use ldap::{Ldap, LdapOptions};

/// Checks a user's password, and may know the user's groups.
///
/// An adapter of another service (Keystone, …) implements this and gets its configuration in the node.
#[async_trait]
pub trait AuthBackend: Debug + Send + Sync {
    /// Whether the password is this user's. An error means that it could not be checked; its text holds no secret.
    async fn authenticate(&self, user: &str, password: &str) -> Result<bool, BackendError>;

    /// Whether [`AuthBackend::groups`] has anything to say.
    fn knows_groups(&self) -> bool {
        false
    }

    /// The groups that the user is in, as group mappings name them. Asked after the password was found right.
    async fn groups(&self, _user: &str) -> Result<Vec<String>, BackendError> {
        Ok(Vec::new())
    }
}

/// The backend could not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BackendError(pub String);
