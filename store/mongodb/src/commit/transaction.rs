//! Batches as one transaction: all take effect, or none.
//!
//! Neighbouring writes of one kind go in one command. Where such a group didn't do all it should, the transaction is
//! run anew write by write, which finds the one that was refused.

use std::time::Duration;

use model::Collection;
use mongodb::ClientSession;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, Document as Fields, doc};
use mongodb::error::Error;
use mongodb::options::{ReadConcern, ReadPreference, SelectionCriteria, WriteConcern};
use store::batch::{Fence, Write};
use store::{Applied, Batch, StoreError};
use tokio::time::{Instant, timeout_at};

use super::{at, duplicate, stale};
use crate::documents::{Mark, object_id, revision, stored};
use crate::failure::{DUPLICATE_KEY, Failure, classify, index_in};
use crate::options::majority;
use crate::store::{Attempts, Inner, reading};

pub(crate) const FENCES: &str = "squall_fences";
/// Bytes of bodies in one command: messages hold 48 MB.
const MAX_COMMAND: usize = 16 << 20;
const MAX_GROUP: usize = 1_000;

/// Why a transaction was given up.
pub(super) enum Cut {
    Driver(Error),
    Store(StoreError),
    /// A group did less than it should; which write it was isn't known.
    Group,
    /// The unique index of this name refused a write.
    Duplicate {
        batch: usize,
        write: usize,
        index: String,
    },
    Fence,
}

impl From<Error> for Cut {
    fn from(error: Error) -> Self {
        Self::Driver(error)
    }
}

impl From<StoreError> for Cut {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

pub(super) async fn commit(inner: &Inner, batch: &Batch) -> Result<Vec<Applied>, StoreError> {
    let mut done = run(inner, batch.fence.as_ref(), &[&batch.writes]).await?;
    Ok(done.pop().unwrap_or_default())
}

/// Runs batches one after the other in one transaction; what each write did. A refusal of any refuses all.
pub(super) async fn run(
    inner: &Inner,
    fence: Option<&Fence>,
    batches: &[&[Write]],
) -> Result<Vec<Vec<Applied>>, StoreError> {
    let mark = ObjectId::new();
    let mut attempts = Attempts::new(inner.deadline);
    let mut exact = false;
    loop {
        let mut begun = None;
        let tried = timeout_at(attempts.end, attempt(inner, fence, batches, mark, exact, &mut begun)).await;
        let cut = match tried {
            Err(_) => return Err(attempts.late()),
            Ok(Ok(applied)) => return Ok(applied),
            Ok(Err(cut)) => cut,
        };
        if let Some(mut session) = begun {
            // Frees its locks at once; the server would in a minute.
            let _ = tokio::time::timeout(Duration::from_secs(1), session.abort_transaction()).await;
        }
        match cut {
            Cut::Store(error) => return Err(error),
            Cut::Group => exact = true,
            Cut::Fence => return Err(stale_fence(inner, fence).await?),
            Cut::Duplicate { batch, write, index } => match refused(inner, &batches[batch][write], &index).await? {
                Some(error) => return Err(error),
                // Somebody made the document between our look and our insert: look again.
                None => attempts.again("a document appeared meanwhile".to_owned()).await?,
            },
            Cut::Driver(error) => match classify(&error) {
                Failure::Passing(text) | Failure::Open(text) | Failure::Duplicate(text) => attempts.again(text).await?,
                Failure::Final(error) => return Err(error),
            },
        }
    }
}

async fn attempt(
    inner: &Inner,
    fence: Option<&Fence>,
    batches: &[&[Write]],
    mark: Mark,
    exact: bool,
    begun: &mut Option<ClientSession>,
) -> Result<Vec<Vec<Applied>>, Cut> {
    let session = begun.insert(inner.client.start_session().await?);
    session
        .start_transaction()
        .read_concern(ReadConcern::snapshot())
        .write_concern(concern(inner))
        .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
        .await?;
    if let Some(fence) = fence {
        raise(inner, session, fence).await?;
    }
    let mut all = Vec::with_capacity(batches.len());
    for (number, writes) in batches.iter().enumerate() {
        all.push(apply(inner, session, number, writes, mark, exact).await?);
    }
    finish(session, Instant::now() + inner.deadline).await?;
    Ok(all)
}

fn concern(inner: &Inner) -> WriteConcern {
    majority(inner.deadline)
}

/// Commits; an unanswered commit is asked for again, which the server knows.
async fn finish(session: &mut ClientSession, end: Instant) -> Result<(), Cut> {
    loop {
        let Err(error) = session.commit_transaction().await else { return Ok(()) };
        let unknown = error.contains_label(mongodb::error::UNKNOWN_TRANSACTION_COMMIT_RESULT);
        if !unknown {
            return Err(error.into());
        }
        if Instant::now() >= end {
            return Err(StoreError::Unavailable(error.to_string()).into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Writes the fence's document even if the epoch stays, so that a stale batch and one that raises always collide.
async fn raise(inner: &Inner, session: &mut ClientSession, fence: &Fence) -> Result<(), Cut> {
    let epoch = i64::try_from(fence.epoch).unwrap_or(i64::MAX);
    let command = doc! {
        "update": inner.full(FENCES),
        "updates": [{
            "q": {"_id": &fence.name, "epoch": {"$lte": epoch}},
            "u": {"$set": {"epoch": epoch}, "$inc": {"n": 1_i64}},
            "upsert": true,
        }],
    };
    let reply = inner.database.run_command(command).session(session).await?;
    // A higher epoch doesn't match, and can't be inserted beside itself.
    match first_error(&reply) {
        Some((_, DUPLICATE_KEY, _)) => Err(Cut::Fence),
        Some((_, _, text)) => Err(StoreError::Unavailable(text).into()),
        None => Ok(()),
    }
}

async fn stale_fence(inner: &Inner, fence: Option<&Fence>) -> Result<StoreError, StoreError> {
    let Some(fence) = fence else { return Ok(StoreError::Unavailable("a fence that wasn't given".to_owned())) };
    let fences = inner.own(FENCES);
    let found = reading!(inner, fences.find_one(doc! {"_id": &fence.name}).await?)?;
    let current = found.and_then(|fields| fields.get_i64("epoch").ok()).unwrap_or(0);
    let current = u64::try_from(current).unwrap_or(0);
    if current <= fence.epoch {
        // Two first batches under one name at the same moment.
        return Ok(StoreError::Unavailable("the fence was made by another at the same moment".to_owned()));
    }
    Ok(StoreError::StaleFence { name: fence.name.clone(), given: fence.epoch, current })
}

#[derive(PartialEq, Eq, Clone, Copy)]
enum Kind {
    Insert,
    InsertOrIgnore,
    Update,
    Delete,
}

const fn kind(write: &Write) -> (&'static Collection, Kind, usize) {
    match write {
        Write::Insert { collection, or_ignore: false, body, .. } => (collection, Kind::Insert, body.len()),
        Write::Insert { collection, or_ignore: true, body, .. } => (collection, Kind::InsertOrIgnore, body.len()),
        Write::Update { collection, body, .. } => (collection, Kind::Update, body.len()),
        Write::Delete { collection, .. } => (collection, Kind::Delete, 0),
    }
}

/// How many of the first writes go in one command.
fn group(writes: &[Write], exact: bool) -> usize {
    let Some((collection, first, mut bytes)) = writes.first().map(kind) else { return 0 };
    if exact {
        return 1;
    }
    let alike = writes[1..].iter().take(MAX_GROUP - 1).take_while(|write| {
        let (other, kind, size) = kind(write);
        bytes += size;
        other.name == collection.name && kind == first && bytes <= MAX_COMMAND
    });
    1 + alike.count()
}

async fn apply(
    inner: &Inner,
    session: &mut ClientSession,
    batch: usize,
    writes: &[Write],
    mark: Mark,
    exact: bool,
) -> Result<Vec<Applied>, Cut> {
    let mut applied = Vec::with_capacity(writes.len());
    while applied.len() < writes.len() {
        let rest = &writes[applied.len()..];
        let these = &rest[..group(rest, exact)];
        let Some(command) = command(inner, these, mark)? else { return Err(missed(these)) };
        let reply = inner.database.run_command(command).session(&mut *session).await?;
        if let Some((at, code, text)) = first_error(&reply) {
            if code != DUPLICATE_KEY {
                return Err(StoreError::Unavailable(text).into());
            }
            let index = index_in(&text).unwrap_or_default().to_owned();
            return Err(Cut::Duplicate { batch, write: applied.len() + at, index });
        }
        applied.extend(outcome(these, &reply)?);
    }
    Ok(applied)
}

/// Nothing to send where a revision is beyond what is stored: no document has it.
fn command(inner: &Inner, writes: &[Write], mark: Mark) -> Result<Option<Fields>, StoreError> {
    let mut items: Vec<Bson> = Vec::with_capacity(writes.len());
    let Some((collection, kind, _)) = writes.first().map(kind) else { return Ok(None) };
    for write in writes {
        let item = match write {
            Write::Insert { collection, id, body, keys, or_ignore } => {
                let mut fields = stored(collection, *id, 1, body, keys, mark)?;
                if *or_ignore {
                    fields.remove("_id");
                    doc! {"q": {"_id": object_id(*id)}, "u": {"$setOnInsert": fields}, "upsert": true}
                } else {
                    fields
                }
            }
            Write::Update { collection, id, rev, body, keys } => {
                let Some(before) = revision(*rev).filter(|rev| *rev < i64::MAX) else { return Ok(None) };
                doc! {"q": at(*id, before), "u": stored(collection, *id, before + 1, body, keys, mark)?}
            }
            Write::Delete { id, rev, .. } => {
                let filter = match rev {
                    None => doc! {"_id": object_id(*id)},
                    Some(rev) => match revision(*rev) {
                        Some(rev) => at(*id, rev),
                        None => return Ok(None),
                    },
                };
                doc! {"q": filter, "limit": 1}
            }
        };
        items.push(item.into());
    }
    let full = inner.full(collection.name);
    Ok(Some(match kind {
        Kind::Insert => doc! {"insert": full, "documents": items, "ordered": true},
        Kind::InsertOrIgnore | Kind::Update => doc! {"update": full, "updates": items, "ordered": true},
        Kind::Delete => doc! {"delete": full, "deletes": items, "ordered": true},
    }))
}

/// Index, code and text of a reply's first write error.
fn first_error(reply: &Fields) -> Option<(usize, i32, String)> {
    let error = reply.get_array("writeErrors").ok()?.first()?.as_document()?;
    let at = error.get_i32("index").ok().and_then(|at| usize::try_from(at).ok()).unwrap_or(0);
    Some((at, error.get_i32("code").unwrap_or(0), error.get_str("errmsg").unwrap_or_default().to_owned()))
}

fn outcome(writes: &[Write], reply: &Fields) -> Result<Vec<Applied>, Cut> {
    let changed = reply.get_i32("n").ok().and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
    let Some((_, kind, _)) = writes.first().map(kind) else { return Ok(Vec::new()) };
    match kind {
        Kind::Insert => Ok(vec![Applied::Inserted; writes.len()]),
        Kind::InsertOrIgnore => {
            let mut applied = vec![Applied::Present; writes.len()];
            for made in reply.get_array("upserted").into_iter().flatten() {
                let at = made.as_document().and_then(|made| made.get_i32("index").ok());
                if let Some(place) = at.and_then(|at| usize::try_from(at).ok()).and_then(|at| applied.get_mut(at)) {
                    *place = Applied::Inserted;
                }
            }
            Ok(applied)
        }
        Kind::Update | Kind::Delete if changed == writes.len() => Ok(writes
            .iter()
            .map(|write| match write {
                Write::Update { rev, .. } => Applied::Updated { rev: rev + 1 },
                _ => Applied::Deleted,
            })
            .collect()),
        Kind::Delete if writes.len() == 1 && matches!(writes[0], Write::Delete { rev: None, .. }) => {
            Ok(vec![Applied::Absent])
        }
        Kind::Update | Kind::Delete => Err(missed(writes)),
    }
}

fn missed(writes: &[Write]) -> Cut {
    match writes {
        [Write::Update { collection, id, rev, .. } | Write::Delete { collection, id, rev: Some(rev) }] => {
            Cut::Store(stale(collection, *id, *rev))
        }
        _ => Cut::Group,
    }
}

/// The error for a write that an index refused; none if the write is to leave alone what is there by that id.
async fn refused(inner: &Inner, write: &Write, index: &str) -> Result<Option<StoreError>, StoreError> {
    match write {
        Write::Insert { or_ignore: true, .. } if index == "_id_" => Ok(None),
        Write::Insert { collection, id, keys, .. } | Write::Update { collection, id, keys, .. } => {
            duplicate(inner, collection, *id, keys, index).await.map(Some)
        }
        Write::Delete { .. } => Ok(Some(StoreError::Unavailable("a refused delete".to_owned()))),
    }
}
