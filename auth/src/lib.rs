//! Who somebody is, and what they may do; the gateway asks, this crate answers.
//!
//! * [`backend`]: the port [`AuthBackend`] that checks passwords and knows groups, with its adapters: Apache's files,
//!   LDAP, a helper program.
//! * [`sso`]: sign-on at an identity provider, by OpenID Connect.
//! * [`rbac`]: roles and what they grant. [`rbac::Grants`] decides, without I/O; [`rbac::Directory`] keeps every
//!   user's grants at hand; [`rbac::definitions`] reads the files that define roles and assignments, and
//!   [`rbac::apply`] makes the store as they say.
//!
//! Tokens, cookies and API keys are HTTP's matter: the gateway's.

pub mod backend;
pub mod rbac;
pub mod sso;

pub use backend::{AuthBackend, BackendError, FlatFile};
pub use rbac::{Directory, Grants, Target};
pub use sso::{SsoError, SsoOptions};
