//! Blobs: zstd frames of a few MiB each.
//!
//! Chunks belong to an upload and are not visible until the blob's head names that upload; the head is written last.
//! An upload that was cut short leaves chunks that nothing names: a start removes those that are older than an hour.

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt as _;
use model::Id;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Document as Fields, doc};
use store::StoreError;
use store::limits::check_blob;
use tokio::time::timeout_at;

use crate::documents::object_id;
use crate::failure::{Failure, classify};
use crate::store::{Attempts, Inner, reading};

/// Bytes that are compressed together.
const CHUNK: usize = 4 << 20;
const LEVEL: i32 = 3;
/// An upload is over or dead by then.
const LEFTOVER: Duration = Duration::from_secs(3_600);

const HEADS: &str = "squall_blobs";
const CHUNKS: &str = "squall_blob_chunks";

/// Writes one document; repeating is harmless because its id is known.
async fn insert(inner: &Inner, collection: &str, fields: Fields) -> Result<(), StoreError> {
    let stored = inner.own(collection);
    let mut attempts = Attempts::new(inner.deadline);
    loop {
        match timeout_at(attempts.end, async { stored.insert_one(&fields).await }).await {
            Err(_) => return Err(attempts.late()),
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => match classify(&error) {
                Failure::Duplicate(_) => return Ok(()),
                Failure::Passing(text) | Failure::Open(text) => attempts.again(text).await?,
                Failure::Final(error) => return Err(error),
            },
        }
    }
}

async fn head(inner: &Inner, id: Id) -> Result<Option<Fields>, StoreError> {
    let heads = inner.own(HEADS);
    reading!(inner, heads.find_one(doc! {"_id": object_id(id)}).await?)
}

pub(crate) async fn put(inner: &Inner, id: Id, bytes: Vec<u8>) -> Result<(), StoreError> {
    check_blob(bytes.len())?;
    // The bytes of a blob are named by its id: what is there needs no second copy.
    if head(inner, id).await?.is_some() {
        return Ok(());
    }
    let upload = ObjectId::new();
    let size = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
    let bytes = Arc::new(bytes);
    let chunks = bytes.len().div_ceil(CHUNK).max(1);
    for chunk in 0..chunks {
        let data = Binary { subtype: BinarySubtype::Generic, bytes: compress(Arc::clone(&bytes), chunk).await? };
        let seq = i64::try_from(chunk).unwrap_or(i64::MAX);
        let fields = doc! {"_id": ObjectId::new(), "upload": upload, "seq": seq, "data": data};
        if let Err(error) = insert(inner, CHUNKS, fields).await {
            drop_upload(inner, upload).await;
            return Err(error);
        }
    }
    let fields = doc! {
        "_id": object_id(id), "upload": upload, "size": size, "chunks": i64::try_from(chunks).unwrap_or(i64::MAX),
    };
    insert(inner, HEADS, fields).await?;
    // Somebody else may have stored the same at the same time; one copy stays.
    let kept = head(inner, id).await?.and_then(|head| head.get_object_id("upload").ok());
    if kept.is_some_and(|kept| kept != upload) {
        drop_upload(inner, upload).await;
    }
    Ok(())
}

/// Best effort: what stays is removed by a later start.
async fn drop_upload(inner: &Inner, upload: ObjectId) {
    let chunks = inner.own(CHUNKS);
    let _ = tokio::time::timeout(inner.deadline, async { chunks.delete_many(doc! {"upload": upload}).await }).await;
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

pub(crate) async fn get(inner: &Inner, id: Id) -> Result<Option<Vec<u8>>, StoreError> {
    // One that is deleted (and stored anew) between two reads is looked up again; each time round is another deletion.
    loop {
        let Some(head) = head(inner, id).await? else { return Ok(None) };
        let broken = |what: &str| StoreError::Unavailable(format!("blob {id}: its head lacks {what}"));
        let upload = head.get_object_id("upload").map_err(|_| broken("its upload"))?;
        let chunks = head.get_i64("chunks").map_err(|_| broken("its number of chunks"))?;
        let size = head.get_i64("size").map_err(|_| broken("its size"))?;
        if let Some(bytes) = read_upload(inner, id, upload, chunks, size).await? {
            return Ok(Some(bytes));
        }
    }
}

async fn read_upload(
    inner: &Inner,
    id: Id,
    upload: ObjectId,
    chunks: i64,
    size: i64,
) -> Result<Option<Vec<u8>>, StoreError> {
    let stored = inner.own(CHUNKS);
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    for seq in 0..chunks {
        let found = reading!(inner, stored.find_one(doc! {"upload": upload, "seq": seq}).await?)?;
        let Some(fields) = found else { return Ok(None) };
        let Ok(data) = fields.get_binary_generic("data") else { return Ok(None) };
        let data = data.clone();
        let work = move || zstd::bulk::decompress(&data, CHUNK);
        let done = tokio::task::spawn_blocking(work).await;
        let done = done.map_err(|error| StoreError::Unavailable(format!("blob {id}: {error}")))?;
        bytes.extend(done.map_err(|error| StoreError::Unavailable(format!("blob {id} is damaged: {error}")))?);
    }
    Ok(Some(bytes))
}

pub(crate) async fn delete(inner: &Inner, id: Id) -> Result<(), StoreError> {
    let Some(found) = head(inner, id).await? else { return Ok(()) };
    let heads = inner.own(HEADS);
    reading!(inner, heads.delete_one(doc! {"_id": object_id(id)}).await?)?;
    if let Ok(upload) = found.get_object_id("upload") {
        let chunks = inner.own(CHUNKS);
        reading!(inner, chunks.delete_many(doc! {"upload": upload}).await?)?;
    }
    Ok(())
}

/// Chunks of uploads that never got their head.
pub(crate) async fn remove_leftovers(inner: &Inner) -> Result<(), StoreError> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let before = u32::try_from(now.saturating_sub(LEFTOVER).as_secs()).unwrap_or(0);
    let mut oldest = [0; 12];
    oldest[..4].copy_from_slice(&before.to_be_bytes());
    let (chunks, heads) = (inner.own(CHUNKS), inner.own(HEADS));
    let pipeline = vec![
        doc! {"$match": {"upload": {"$lt": ObjectId::from_bytes(oldest)}, "seq": 0_i64}},
        doc! {"$lookup": {"from": heads.name(), "localField": "upload", "foreignField": "upload", "as": "head"}},
        doc! {"$match": {"head": []}},
        doc! {"$project": {"upload": 1}},
        doc! {"$limit": 1_000_i64},
    ];
    let left: Vec<Fields> = reading!(inner, chunks.aggregate(pipeline.clone()).await?.try_collect().await?)?;
    for fields in left {
        if let Ok(upload) = fields.get_object_id("upload") {
            tracing::info!(%upload, "an upload that was cut short is removed");
            drop_upload(inner, upload).await;
        }
    }
    Ok(())
}
