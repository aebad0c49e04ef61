//! Why a pack can't be installed.

use crate::error::ContentError;

/// Texts are for whoever installs; passwords in addresses are left out of them.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The pack, or what was asked for, is wrong.
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Content(#[from] ContentError),
    #[error("{what}: {error}")]
    Disk { what: String, error: std::io::Error },
}

impl InstallError {
    pub fn refused(text: impl Into<String>) -> Self {
        Self::Refused(text.into())
    }

    /// For `map_err`: what could not be done.
    pub fn disk(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |error| Self::Disk { what, error }
    }
}

impl From<store::StoreError> for InstallError {
    fn from(error: store::StoreError) -> Self {
        Self::Content(error.into())
    }
}

/// Work on a blocking thread; a panic there is an error here.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, InstallError> + Send + 'static,
) -> Result<T, InstallError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(InstallError::refused(format!("working on files failed: {error}"))),
    }
}
