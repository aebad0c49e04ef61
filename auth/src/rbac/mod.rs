//! Role-based access control (spec/auth-rbac.md §4 – §8).
//!
//! What a user may do is decided by [`Grants::may`] and [`Grants::may_on`] alone.

pub mod apply;
pub mod definitions;
pub mod directory;
pub mod grants;
pub mod permissions;
#[cfg(test)]
mod properties;

pub use apply::{Applied, ApplyError, apply, ensure_system_roles, sync_groups};
pub use definitions::{DefinitionError, Definitions};
pub use directory::Directory;
pub use grants::{Grants, Target};

/// The roles that nobody edits.
pub const SYSTEM_ADMIN: &str = "system_admin";
pub const ADMIN: &str = "admin";
pub const OBSERVER: &str = "observer";
pub const SYSTEM_ROLES: [&str; 3] = [SYSTEM_ADMIN, ADMIN, OBSERVER];
