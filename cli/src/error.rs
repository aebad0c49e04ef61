//! What goes wrong, and how it is said: the texts and exit codes of `spec/cli.md` §5.

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server refused. `status` is the HTTP status code.
    #[error("{text}")]
    Http { status: u16, text: String },
    /// The server can't be reached or broke off.
    #[error("{0}")]
    Unreachable(String),
    /// Anything else that ends a command with exit code 1.
    #[error("{0}")]
    Failed(String),
    /// An operation that ends with exit code 2, its text without the blank line.
    #[error("{0}")]
    Operation(String),
    /// The text is out already; end with this exit code.
    #[error("exit code {0}")]
    Exit(u8),
}

/// What commands return.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Shorthand for [`Error::Failed`].
    pub fn failed(text: impl Into<String>) -> Error {
        Error::Failed(text.into())
    }

    /// Commands that change something end with 2 instead of 1.
    pub fn into_operation(self) -> Error {
        match self {
            Error::Exit(code) => Error::Exit(code),
            other => Error::Operation(other.to_string()),
        }
    }

    /// Whether the resource isn't there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::Http { status: 404, .. })
    }
}
