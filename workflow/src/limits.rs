//! What one call may ask for (DESIGN §2 rule 9).

use crate::error::StateError;

/// Bytes of the body of a head, task, item, cell, event, message, timer or launch; what is larger is a document.
pub const MAX_BODY_BYTES: usize = 1 << 20;
/// Characters of a name: status, kind, task, space, engine.
pub const MAX_NAME_CHARS: usize = 256;
/// Characters of a key of a cell, timer or document.
pub const MAX_KEY_CHARS: usize = 1_024;
/// Bytes of one document before compression.
pub const MAX_DOCUMENT_BYTES: usize = 128 << 20;
/// Rows that one commit may write.
pub const MAX_COMMIT_ROWS: usize = 50_000;
/// Bytes that one commit may write, documents counted before compression.
pub const MAX_COMMIT_BYTES: usize = 192 << 20;
/// Rows of one page of any list, and messages of one drain.
pub const MAX_PAGE: u32 = 10_000;

pub(crate) const fn check(what: &'static str, size: usize, limit: usize, unit: &'static str) -> Result<(), StateError> {
    if size > limit { Err(StateError::TooLarge { what, size, limit, unit }) } else { Ok(()) }
}

pub(crate) const fn body(what: &'static str, text: &str) -> Result<(), StateError> {
    check(what, text.len(), MAX_BODY_BYTES, "bytes")
}

pub(crate) fn name(what: &'static str, text: &str) -> Result<(), StateError> {
    check(what, text.chars().count(), MAX_NAME_CHARS, "characters")?;
    no_nul(what, text)
}

pub(crate) fn key(what: &'static str, text: &str) -> Result<(), StateError> {
    check(what, text.chars().count(), MAX_KEY_CHARS, "characters")?;
    no_nul(what, text)
}

/// PostgreSQL's texts can't hold it.
pub(crate) fn no_nul(what: &'static str, text: &str) -> Result<(), StateError> {
    if text.contains('\0') {
        return Err(StateError::Misuse(format!("{what} holds a NUL character (JSON writes it as \\u0000)")));
    }
    Ok(())
}
