//! A batch of one write: one operation, no transaction. This is the hot path.

use model::{Collection, Id};
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Document as Fields, doc};
use store::batch::Write;
use store::{Applied, StoreError};
use tokio::time::timeout_at;

use super::{at, duplicate, stale};
use crate::documents::{Mark, object_id, revision, stored};
use crate::failure::{Failure, classify};
use crate::store::{Attempts, Inner, reading};

/// What one attempt came to.
enum Attempt {
    Done(Applied),
    /// Nothing matched: somebody else was first, or an earlier attempt of ours.
    Missed,
    Duplicate(String),
}

pub(super) async fn commit(inner: &Inner, write: &Write) -> Result<Applied, StoreError> {
    let mark = ObjectId::new();
    let mut attempts = Attempts::new(inner.deadline);
    loop {
        let tried = timeout_at(attempts.end, attempt(inner, write, mark)).await;
        let outcome = match tried {
            Err(_) => return Err(attempts.late()),
            Ok(Ok(outcome)) => outcome,
            Ok(Err(Tried::Store(error))) => return Err(error),
            Ok(Err(Tried::Driver(error))) => match classify(&error) {
                Failure::Duplicate(index) => Attempt::Duplicate(index),
                Failure::Final(error) => return Err(error),
                Failure::Passing(text) => {
                    attempts.again(text).await?;
                    continue;
                }
                Failure::Open(text) => {
                    attempts.open = true;
                    attempts.again(text).await?;
                    continue;
                }
            },
        };
        match settle(inner, write, mark, outcome, attempts.open).await? {
            Some(result) => return result,
            None => attempts.again("an unanswered write isn't confirmed by a majority yet".to_owned()).await?,
        }
    }
}

enum Tried {
    Driver(mongodb::error::Error),
    Store(StoreError),
}

impl From<mongodb::error::Error> for Tried {
    fn from(error: mongodb::error::Error) -> Self {
        Self::Driver(error)
    }
}

impl From<StoreError> for Tried {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

async fn attempt(inner: &Inner, write: &Write, mark: Mark) -> Result<Attempt, Tried> {
    match write {
        Write::Insert { collection, id, body, keys, or_ignore } => {
            let mut fields = stored(collection, *id, 1, body, keys, mark)?;
            let collection = inner.collection(collection)?;
            if !or_ignore {
                collection.insert_one(&fields).await?;
                return Ok(Attempt::Done(Applied::Inserted));
            }
            fields.remove("_id");
            let done =
                collection.update_one(doc! {"_id": object_id(*id)}, doc! {"$setOnInsert": fields}).upsert(true).await?;
            let inserted = done.upserted_id.is_some();
            Ok(Attempt::Done(if inserted { Applied::Inserted } else { Applied::Present }))
        }
        Write::Update { collection, id, rev, body, keys } => {
            let Some(before) = revision(*rev).filter(|rev| *rev < i64::MAX) else { return Ok(Attempt::Missed) };
            let fields = stored(collection, *id, before + 1, body, keys, mark)?;
            let done = inner.collection(collection)?.replace_one(at(*id, before), &fields).await?;
            let updated = Attempt::Done(Applied::Updated { rev: rev + 1 });
            Ok(if done.matched_count == 1 { updated } else { Attempt::Missed })
        }
        Write::Delete { collection, id, rev } => {
            let filter = match rev {
                None => doc! {"_id": object_id(*id)},
                Some(rev) => match revision(*rev) {
                    Some(rev) => at(*id, rev),
                    None => return Ok(Attempt::Missed),
                },
            };
            let done = inner.collection(collection)?.delete_one(filter).await?;
            Ok(if done.deleted_count == 1 { Attempt::Done(Applied::Deleted) } else { Attempt::Missed })
        }
    }
}

/// What an outcome means, given that an earlier attempt may have been ours. `None`: not to be told yet.
async fn settle(
    inner: &Inner,
    write: &Write,
    mark: Mark,
    outcome: Attempt,
    open: bool,
) -> Result<Option<Result<Applied, StoreError>>, StoreError> {
    if !open {
        return match outcome {
            Attempt::Done(applied) => Ok(Some(Ok(applied))),
            Attempt::Missed => Ok(Some(missed(write))),
            Attempt::Duplicate(index) => refused(inner, write, &index).await.map(Some),
        };
    }
    match (write, outcome) {
        (Write::Delete { .. }, Attempt::Missed) => Ok(Some(unknown())),
        (Write::Insert { collection, id, keys, .. }, Attempt::Duplicate(index)) => {
            match found(inner, collection, *id).await? {
                Some(fields) if is_marked(&fields, mark) => Ok(Some(Ok(Applied::Inserted))),
                Some(_) => refused(inner, write, &index).await.map(Some),
                None if index == "_id_" => Ok(None),
                None => Ok(Some(Err(duplicate(inner, collection, *id, keys, &index).await?))),
            }
        }
        (Write::Insert { collection, id, or_ignore: true, .. }, Attempt::Done(Applied::Present)) => {
            let ours = found(inner, collection, *id).await?.map(|fields| is_marked(&fields, mark));
            Ok(ours.map(|ours| Ok(if ours { Applied::Inserted } else { Applied::Present })))
        }
        (Write::Update { collection, id, rev, .. }, Attempt::Missed) => {
            let fields = found(inner, collection, *id).await?;
            let now = fields.as_ref().and_then(|fields| fields.get_i64("rev").ok());
            let next = revision(*rev).map(|rev| rev + 1);
            Ok(match fields {
                Some(fields) if now == next && is_marked(&fields, mark) => Some(Ok(Applied::Updated { rev: rev + 1 })),
                // Not ours: another one's took our place. Beyond it, ours may have come before.
                Some(_) if now == next => Some(missed(write)),
                Some(_) if now < next => None,
                _ => Some(unknown()),
            })
        }
        (_, Attempt::Done(applied)) => Ok(Some(Ok(applied))),
        (_, Attempt::Missed) => Ok(Some(missed(write))),
        (_, Attempt::Duplicate(index)) => refused(inner, write, &index).await.map(Some),
    }
}

fn unknown() -> Result<Applied, StoreError> {
    Err(StoreError::Unavailable("whether the write took effect can't be told".to_owned()))
}

fn missed(write: &Write) -> Result<Applied, StoreError> {
    match write {
        Write::Update { collection, id, rev, .. } | Write::Delete { collection, id, rev: Some(rev) } => {
            Err(stale(collection, *id, *rev))
        }
        Write::Delete { rev: None, .. } => Ok(Applied::Absent),
        Write::Insert { .. } => unknown(),
    }
}

async fn refused(inner: &Inner, write: &Write, index: &str) -> Result<Result<Applied, StoreError>, StoreError> {
    match write {
        // Two upserts of one id at the same moment: the other's is there.
        Write::Insert { or_ignore: true, .. } if index == "_id_" => Ok(Ok(Applied::Present)),
        Write::Insert { collection, id, keys, .. } | Write::Update { collection, id, keys, .. } => {
            Ok(Err(duplicate(inner, collection, *id, keys, index).await?))
        }
        Write::Delete { .. } => Ok(unknown()),
    }
}

async fn found(inner: &Inner, collection: &Collection, id: Id) -> Result<Option<Fields>, StoreError> {
    let stored = inner.collection(collection)?;
    reading!(inner, stored.find_one(doc! {"_id": object_id(id)}).projection(doc! {"rev": 1, "w": 1}).await?)
}

fn is_marked(fields: &Fields, mark: Mark) -> bool {
    fields.get_object_id("w").is_ok_and(|found| found == mark)
}
