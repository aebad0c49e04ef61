//! What an identity may do: RBAC's answer, or everything where RBAC is off.

use std::sync::Arc;

use auth::{Directory, Grants};

use crate::http::ApiError;

/// Whether RBAC is on, and with what.
#[derive(Debug, Clone)]
pub struct Access {
    everything: Arc<Grants>,
    rbac: Option<Rbac>,
}

#[derive(Debug, Clone)]
struct Rbac {
    directory: Arc<Directory>,
    isolation: bool,
}

impl Access {
    /// RBAC is off: every check passes and everybody is an administrator.
    pub fn off() -> Self {
        Self { everything: Arc::new(Grants::everything()), rbac: None }
    }

    /// With `isolation`, users see only their own executions, rules and API keys (`rbac.permission_isolation`).
    pub fn rbac(directory: Arc<Directory>, isolation: bool) -> Self {
        Self { rbac: Some(Rbac { directory, isolation }), ..Self::off() }
    }

    pub fn enabled(&self) -> bool {
        self.rbac.is_some()
    }

    pub fn isolates(&self) -> bool {
        self.rbac.as_ref().is_some_and(|rbac| rbac.isolation)
    }

    /// What no role limits.
    pub fn everything(&self) -> Arc<Grants> {
        self.everything.clone()
    }

    /// What a user's roles grant. Without the store nobody gets anything but an error.
    pub async fn grants(&self, user: &str) -> Result<Arc<Grants>, ApiError> {
        match &self.rbac {
            None => Ok(self.everything()),
            Some(rbac) => Ok(rbac.directory.grants(user).await?),
        }
    }

    /// Called after roles or assignments changed.
    pub fn forget(&self) {
        if let Some(rbac) = &self.rbac {
            rbac.directory.forget();
        }
    }
}
