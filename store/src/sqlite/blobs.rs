//! Blobs: zstd frames of a few MiB each, so that neither side holds a whole compressed copy.
//!
//! Chunks belong to an upload and are not visible until the blob's head names that upload, which the last write
//! does. An upload that a crash or its caller cut short leaves chunks that nothing names; the next start removes them.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use model::Id;
use sqlx::SqliteConnection;

use super::failure::failure;
use super::prepared::Values;
use super::work::{Work, run_bound};
use super::{OpenError, SqliteStore};
use crate::batch::Applied;
use crate::error::StoreError;
use crate::limits::check_blob;

/// Bytes that are compressed together.
const CHUNK: usize = 4 << 20;
const LEVEL: i32 = 3;

/// Numbers of uploads, each used once.
#[derive(Debug)]
pub(super) struct Uploads(AtomicI64);

impl Uploads {
    pub(super) async fn load(connection: &mut SqliteConnection) -> Result<Self, OpenError> {
        let last: Option<i64> = sqlx::query_scalar("SELECT max(upload) FROM squall_blobs")
            .fetch_one(connection)
            .await
            .map_err(|error| failure(&error))?;
        Ok(Self(AtomicI64::new(last.unwrap_or(0) + 1)))
    }

    fn next(&self) -> i64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

pub(super) async fn put(store: &SqliteStore, id: Id, bytes: Vec<u8>) -> Result<(), StoreError> {
    check_blob(bytes.len())?;
    if is_there(store, id).await? {
        return Ok(());
    }
    let size = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
    let upload = store.uploads.next();
    let bytes = Arc::new(bytes);
    let chunks = bytes.len().div_ceil(CHUNK).max(1);
    for chunk in 0..chunks {
        let data = compress(Arc::clone(&bytes), chunk).await?;
        let cost = data.len();
        let seq = i64::try_from(chunk).unwrap_or(i64::MAX);
        let work = if chunk + 1 == chunks {
            Work::BlobHead { id, upload, size, seq, data }
        } else {
            Work::BlobChunk { upload, seq, data }
        };
        if let Err(error) = store.write(work, cost).await {
            // The outcome may be open: a blob whose head was committed after all keeps its chunks.
            let _ = store.write(Work::DropUpload(upload), 0).await;
            return Err(error);
        }
    }
    Ok(())
}

/// The bytes of a blob are named by its id: what is there needs no second copy.
async fn is_there(store: &SqliteStore, id: Id) -> Result<bool, StoreError> {
    let mut reader = store.readers.take().await?;
    let found = sqlx::query_scalar::<_, i64>("SELECT 1 FROM squall_blobs WHERE id = ?")
        .bind(id.as_bytes().to_vec())
        .fetch_optional(&mut *reader)
        .await;
    found.map(|found| found.is_some()).map_err(|error| reader.failed(&error))
}

async fn compress(bytes: Arc<Vec<u8>>, chunk: usize) -> Result<Vec<u8>, StoreError> {
    let work = move || {
        let start = chunk * CHUNK;
        let end = bytes.len().min(start + CHUNK);
        zstd::bulk::compress(&bytes[start..end], LEVEL)
    };
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|error| StoreError::Unavailable(format!("compressing a blob: {error}")))?;
    done.map_err(|error| StoreError::Unavailable(format!("compressing a blob: {error}")))
}

pub(super) async fn get(store: &SqliteStore, id: Id) -> Result<Option<Vec<u8>>, StoreError> {
    let mut reader = store.readers.take().await?;
    // A blob that is deleted (and stored anew) between two reads is looked up again; each time round is another
    // deletion, so this ends.
    loop {
        let head = sqlx::query_as::<_, (i64, i64, i64)>("SELECT upload, size, chunks FROM squall_blobs WHERE id = ?")
            .bind(id.as_bytes().to_vec())
            .fetch_optional(&mut *reader)
            .await;
        let (upload, size, chunks) = match head {
            Ok(Some(head)) => head,
            Ok(None) => return Ok(None),
            Err(error) => return Err(reader.failed(&error)),
        };
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        let mut whole = true;
        for seq in 0..chunks {
            let chunk =
                sqlx::query_scalar::<_, Vec<u8>>("SELECT data FROM squall_blob_chunks WHERE upload = ? AND seq = ?")
                    .bind(upload)
                    .bind(seq)
                    .fetch_optional(&mut *reader)
                    .await;
            match chunk {
                Ok(Some(data)) => bytes = decompress(id, data, bytes).await?,
                Ok(None) => {
                    whole = false;
                    break;
                }
                Err(error) => return Err(reader.failed(&error)),
            }
        }
        if whole {
            return Ok(Some(bytes));
        }
    }
}

async fn decompress(id: Id, data: Vec<u8>, mut into: Vec<u8>) -> Result<Vec<u8>, StoreError> {
    let work = move || {
        let plain = zstd::bulk::decompress(&data, CHUNK)?;
        into.extend_from_slice(&plain);
        Ok(into)
    };
    let corrupt = |reason: String| StoreError::Corrupt { collection: "blobs", id, reason };
    let done = tokio::task::spawn_blocking(work).await.map_err(|error| corrupt(error.to_string()))?;
    done.map_err(|error: std::io::Error| corrupt(error.to_string()))
}

/// Writer: adds a chunk.
pub(super) async fn insert_chunk(
    connection: &mut SqliteConnection,
    upload: i64,
    seq: i64,
    data: Vec<u8>,
) -> Result<Vec<Applied>, StoreError> {
    let mut values = Values::default();
    values.push(upload)?;
    values.push(seq)?;
    values.push(data)?;
    run_bound(connection, "INSERT INTO squall_blob_chunks (upload, seq, data) VALUES (?, ?, ?)", values).await?;
    Ok(vec![Applied::Inserted])
}

/// Writer: makes a blob visible with its last chunk, or drops the upload if the blob is there.
pub(super) async fn insert_head(
    connection: &mut SqliteConnection,
    id: Id,
    upload: i64,
    size: i64,
    seq: i64,
    data: Vec<u8>,
) -> Result<Vec<Applied>, StoreError> {
    let mut values = Values::default();
    values.push_id(id)?;
    values.push(upload)?;
    values.push(size)?;
    values.push(seq + 1)?;
    let sql = "INSERT INTO squall_blobs (id, upload, size, chunks) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO NOTHING";
    if run_bound(connection, sql, values).await? == 0 {
        drop_upload(connection, upload).await?;
        return Ok(vec![Applied::Present]);
    }
    insert_chunk(connection, upload, seq, data).await
}

/// Writer: removes the chunks of an upload, unless a blob's head names it.
pub(super) async fn drop_upload(connection: &mut SqliteConnection, upload: i64) -> Result<Vec<Applied>, StoreError> {
    let mut values = Values::default();
    values.push(upload)?;
    let sql = "DELETE FROM squall_blob_chunks WHERE upload = ?1
        AND NOT EXISTS (SELECT 1 FROM squall_blobs WHERE upload = ?1)";
    run_bound(connection, sql, values).await?;
    Ok(vec![Applied::Deleted])
}

/// Writer: removes a blob and its chunks.
pub(super) async fn delete(connection: &mut SqliteConnection, id: Id) -> Result<Vec<Applied>, StoreError> {
    let mut values = Values::default();
    values.push_id(id)?;
    let sql = "DELETE FROM squall_blob_chunks WHERE upload = (SELECT upload FROM squall_blobs WHERE id = ?)";
    run_bound(connection, sql, values).await?;
    let mut values = Values::default();
    values.push_id(id)?;
    let gone = run_bound(connection, "DELETE FROM squall_blobs WHERE id = ?", values).await? > 0;
    Ok(vec![if gone { Applied::Deleted } else { Applied::Absent }])
}
