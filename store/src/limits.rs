//! How much one call may carry; every adapter refuses more with [`StoreError::TooLarge`].

use crate::batch::{Batch, Write};
use crate::error::StoreError;

/// Writes of one batch.
pub const MAX_BATCH_WRITES: usize = 4_096;
/// Bodies of one batch together, bytes.
pub const MAX_BATCH_BYTES: usize = 48 << 20;
/// One body, bytes: below the 16 MiB that MongoDB takes, with room for keys and framing.
pub const MAX_DOCUMENT_BYTES: usize = 15 << 20;
/// One blob before compression, bytes.
pub const MAX_BLOB_BYTES: usize = 512 << 20;

/// Checks a batch against the limits; returns the bytes of its bodies.
pub fn check_batch(batch: &Batch) -> Result<usize, StoreError> {
    within("batch", batch.writes.len(), MAX_BATCH_WRITES, "writes")?;
    let mut total = 0;
    for write in &batch.writes {
        if let Write::Insert { body, .. } | Write::Update { body, .. } = write {
            within("document", body.len(), MAX_DOCUMENT_BYTES, "bytes")?;
            total += body.len();
        }
    }
    within("batch", total, MAX_BATCH_BYTES, "bytes")?;
    Ok(total)
}

/// Refuses a blob that is too large.
pub fn check_blob(size: usize) -> Result<(), StoreError> {
    within("blob", size, MAX_BLOB_BYTES, "bytes")
}

const fn within(what: &'static str, size: usize, limit: usize, unit: &'static str) -> Result<(), StoreError> {
    if size > limit { Err(StoreError::TooLarge { what, size, limit, unit }) } else { Ok(()) }
}
