//! Documents: contexts, graphs, results. Written once, compressed, in chunks, apart from the rows that change.

use model::Id;

use crate::error::StateError;
use crate::limits::MAX_DOCUMENT_BYTES;

/// Bytes of a chunk.
const CHUNK: usize = 512 << 10;
/// From this size on, packing is no work for an async thread.
const LARGE: usize = 64 << 10;
const LEVEL: i32 = 3;

/// A document to put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    pub key: String,
    pub bytes: Vec<u8>,
}

impl Document {
    pub(crate) async fn pack(self) -> Result<Packed, StateError> {
        if self.bytes.len() < LARGE {
            return self.pack_here();
        }
        tokio::task::spawn_blocking(move || self.pack_here())
            .await
            .map_err(|error| StateError::Unavailable(format!("packing a document ended badly: {error}")))?
    }

    fn pack_here(self) -> Result<Packed, StateError> {
        let hash = Id::of_content(&self.bytes);
        let size = self.bytes.len() as u64;
        let packed = zstd::bulk::compress(&self.bytes, LEVEL)
            .map_err(|error| StateError::Misuse(format!("document '{}' can't be compressed: {error}", self.key)))?;
        let chunks = packed.chunks(CHUNK).map(<[u8]>::to_vec).collect();
        Ok(Packed { key: self.key, size, hash, chunks })
    }
}

/// A document as it is stored.
#[derive(Debug, Clone)]
pub(crate) struct Packed {
    pub key: String,
    pub size: u64,
    pub hash: Id,
    pub chunks: Vec<Vec<u8>>,
}

impl Packed {
    pub fn stored_bytes(&self) -> usize {
        self.chunks.iter().map(Vec::len).sum()
    }
}

/// Puts chunks together again and checks them against size and hash.
pub(crate) async fn unpack(workflow: Id, size: u64, hash: Id, chunks: Vec<Vec<u8>>) -> Result<Vec<u8>, StateError> {
    let read = move || {
        let corrupt = |reason: String| StateError::Corrupt { workflow, reason };
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if size > MAX_DOCUMENT_BYTES {
            return Err(corrupt(format!("a document of {size} bytes")));
        }
        let bytes = zstd::bulk::decompress(&chunks.concat(), size).map_err(|error| corrupt(error.to_string()))?;
        if bytes.len() != size || Id::of_content(&bytes) != hash {
            return Err(corrupt("a document differs from what was put".to_owned()));
        }
        Ok(bytes)
    };
    if size < LARGE as u64 {
        return read();
    }
    tokio::task::spawn_blocking(read)
        .await
        .map_err(|error| StateError::Unavailable(format!("unpacking a document ended badly: {error}")))?
}
