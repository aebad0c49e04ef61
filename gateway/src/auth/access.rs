//! What an identity may do. RBAC is an adapter of this port; without it everybody may do everything.

use std::fmt::Debug;

use super::Identity;
use crate::http::ApiError;

/// Decides on permissions (spec/auth-rbac.md §8, §9).
pub trait Access: Debug + Send + Sync {
    /// Whether RBAC is on.
    fn enabled(&self) -> bool;

    /// Whether the user has the admin or system_admin role.
    fn is_admin(&self, user: &str) -> bool;

    /// Roles by name, as `GET /user` shows them.
    fn roles(&self, user: &str) -> Vec<String>;

    /// Whether the identity has this permission globally or for its type.
    fn has(&self, identity: &Identity, permission: &str) -> bool;
}

/// RBAC is off: every check passes and everybody is an administrator.
#[derive(Debug, Clone, Copy, Default)]
pub struct AllowAll;

impl Access for AllowAll {
    fn enabled(&self) -> bool {
        false
    }

    fn is_admin(&self, _: &str) -> bool {
        true
    }

    fn roles(&self, _: &str) -> Vec<String> {
        Vec::new()
    }

    fn has(&self, _: &Identity, _: &str) -> bool {
        true
    }
}

/// 403 unless the identity has the permission.
pub fn require(access: &dyn Access, identity: &Identity, permission: &str) -> Result<(), ApiError> {
    if access.has(identity, permission) {
        return Ok(());
    }
    Err(ApiError::forbidden(format!("User \"{}\" doesn't have required permission \"{permission}\"", identity.user)))
}
