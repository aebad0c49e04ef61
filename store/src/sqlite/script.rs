//! Many statements in one go.
//!
//! sqlx runs each connection on a thread of its own, so a statement costs two hops between threads, more than
//! SQLite itself needs for a small write. Batches of equal shape (the same writes to the same tables) are therefore
//! strung together into one text of several statements, which sqlx keeps prepared as one.
//!
//! A batch of several writes is wrapped in a savepoint. After each conditional write of such a batch comes a guard,
//! a statement that fails if the write changed nothing, which ends the script there; the count of statements done
//! tells which batch failed and at which write.

use std::collections::HashMap;
use std::sync::Arc;

use futures::StreamExt as _;
use sqlx::{AssertSqlSafe, Either, Executor as _, SqliteConnection};

use super::failure::{failure, is_duplicate, is_guard};
use super::prepared::{Kind, Prepared, PreparedBatch, Values};
use super::work::{Outcome, find_duplicate, run_fixed};
use crate::batch::Applied;
use crate::error::StoreError;

/// How many batches of a shape go into one script; the smallest is 1.
const TIMES: [usize; 3] = [16, 4, 1];
/// Most statements in one script, so that what is kept prepared stays small.
const MAX_STATEMENTS: usize = 64;
/// Batches of more writes are not strung together: each is run in pieces of equal writes.
const MAX_SHAPE: usize = 8;
/// Texts that are kept; shapes are few, but nothing here is unbounded.
const MAX_TEXTS: usize = 256;

const GUARD: &str = "INSERT INTO squall_guard (ok) SELECT 0 WHERE changes() <> 1";

/// What batches have in common that go into one script.
pub(super) type Shape = Vec<(usize, Kind)>;

/// What stands around the writes of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Envelope {
    None,
    Savepoint,
    Transaction,
}

impl Envelope {
    const fn texts(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::None => None,
            Self::Savepoint => Some(("SAVEPOINT one", "RELEASE one")),
            Self::Transaction => Some(("BEGIN IMMEDIATE", "COMMIT")),
        }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    envelope: Envelope,
    guarded: bool,
    shape: Shape,
    times: usize,
}

/// The texts of scripts, by what they do.
#[derive(Debug, Default)]
pub(super) struct Texts(HashMap<Key, Arc<str>>);

/// One step of a batch within a script.
#[derive(Debug, Clone, Copy)]
enum Step {
    Open,
    Write(usize),
    Guard(usize),
    Close,
}

/// How a script ended early.
struct Break {
    /// Statements that were done before.
    done: usize,
    error: sqlx::Error,
}

/// The shape of a batch, if it is to be strung together with others.
pub(super) fn shape_of(batch: &PreparedBatch) -> Option<Shape> {
    (batch.writes.len() <= MAX_SHAPE)
        .then(|| batch.writes.iter().map(|write| (write.table.number, write.kind)).collect())
}

impl Texts {
    fn get(&mut self, key: Key, writes: &[Prepared]) -> Arc<str> {
        if let Some(text) = self.0.get(&key) {
            return Arc::clone(text);
        }
        if self.0.len() >= MAX_TEXTS {
            self.0.clear();
        }
        let steps = steps(key.envelope, key.guarded, writes);
        let mut statements = Vec::with_capacity(steps.len() * key.times);
        for _ in 0..key.times {
            statements.extend(steps.iter().map(|step| match (step, key.envelope.texts()) {
                (Step::Write(place), _) => &**writes[*place].sql(),
                (Step::Open, Some((open, _))) => open,
                (Step::Close, Some((_, close))) => close,
                _ => GUARD,
            }));
        }
        let text: Arc<str> = statements.join(";").into();
        self.0.insert(key, Arc::clone(&text));
        text
    }
}

fn steps(envelope: Envelope, guarded: bool, writes: &[Prepared]) -> Vec<Step> {
    let enclosed = envelope != Envelope::None;
    let mut steps = Vec::new();
    steps.extend(enclosed.then_some(Step::Open));
    for (place, write) in writes.iter().enumerate() {
        steps.push(Step::Write(place));
        steps.extend((guarded && write.is_conditional()).then_some(Step::Guard(place)));
    }
    steps.extend(enclosed.then_some(Step::Close));
    steps
}

/// One batch as a transaction of its own, in one script.
pub(super) async fn alone(
    connection: &mut SqliteConnection,
    texts: &mut Texts,
    batch: &PreparedBatch,
) -> Result<Outcome, StoreError> {
    let writes = &batch.writes;
    let Some(shape) = shape_of(batch) else {
        run_fixed(connection, "BEGIN IMMEDIATE").await?;
        let outcome = long(connection, texts, writes).await?;
        run_fixed(connection, "COMMIT").await?;
        return Ok(outcome);
    };
    if writes.is_empty() {
        return Ok(Ok(Vec::new()));
    }
    let single = writes.len() == 1;
    let envelope = if single { Envelope::None } else { Envelope::Transaction };
    let steps = steps(envelope, !single, writes);
    let text = texts.get(Key { envelope, guarded: !single, shape, times: 1 }, writes);
    let (changes, broken) = run(connection, text, std::slice::from_ref(batch)).await?;
    let Some(broken) = broken else { return Ok(applied(writes, &steps, &changes)) };
    let refusal = refusal(connection, writes, steps.get(broken.done), &broken.error).await?;
    if !single {
        run_fixed(connection, "ROLLBACK").await?;
    }
    Ok(Err(refusal))
}

/// Batches of one shape within the open transaction; returns what became of each, in their order.
pub(super) async fn together(
    connection: &mut SqliteConnection,
    texts: &mut Texts,
    shape: &Shape,
    batches: &[PreparedBatch],
) -> Result<Vec<Outcome>, StoreError> {
    let single = shape.len() <= 1;
    let envelope = if single { Envelope::None } else { Envelope::Savepoint };
    let mut outcomes = Vec::with_capacity(batches.len());
    if shape.is_empty() {
        outcomes.resize_with(batches.len(), || Ok(Vec::new()));
        return Ok(outcomes);
    }
    while let Some(first) = batches.get(outcomes.len()) {
        let rest = &batches[outcomes.len()..];
        let steps = steps(envelope, !single, &first.writes);
        let times = times(rest.len(), steps.len());
        let key = Key { envelope, guarded: !single, shape: shape.clone(), times };
        let text = texts.get(key, &first.writes);
        let (changes, broken) = run(connection, text, &rest[..times]).await?;
        let mut results = changes.chunks_exact(steps.len());
        for (batch, changes) in rest.iter().zip(results.by_ref()) {
            outcomes.push(applied(&batch.writes, &steps, changes));
        }
        if let Some(broken) = broken {
            // What comes after the failed batch is run anew.
            let failed = &rest[broken.done / steps.len()];
            let at = steps.get(broken.done % steps.len());
            let refusal = refusal(connection, &failed.writes, at, &broken.error).await?;
            if !single {
                run_fixed(connection, "ROLLBACK TO one").await?;
                run_fixed(connection, "RELEASE one").await?;
            }
            outcomes.push(Err(refusal));
        }
    }
    Ok(outcomes)
}

/// A batch of many writes within the open transaction, in pieces of equal writes.
pub(super) async fn long(
    connection: &mut SqliteConnection,
    texts: &mut Texts,
    writes: &[Prepared],
) -> Result<Outcome, StoreError> {
    run_fixed(connection, "SAVEPOINT one").await?;
    let mut all = Vec::with_capacity(writes.len());
    while let Some(first) = writes.get(all.len()) {
        let rest = &writes[all.len()..];
        let alike = |write: &&Prepared| write.table.number == first.table.number && write.kind == first.kind;
        let steps = steps(Envelope::None, true, std::slice::from_ref(first));
        let times = times(rest.iter().take_while(alike).count(), steps.len());
        let shape = vec![(first.table.number, first.kind)];
        let key = Key { envelope: Envelope::None, guarded: true, shape, times };
        let text = texts.get(key, std::slice::from_ref(first));
        let mut values = Values::default();
        for write in &rest[..times] {
            write.bind(&mut values)?;
        }
        let (changes, broken) = run_bound(connection, text, values).await?;
        for (write, changes) in rest.iter().zip(changes.chunks_exact(steps.len())) {
            all.push(write.applied(changes[0])?);
        }
        if let Some(broken) = broken {
            let failed = &rest[broken.done / steps.len()];
            let at = steps.get(broken.done % steps.len());
            let refusal = refusal(connection, std::slice::from_ref(failed), at, &broken.error).await?;
            run_fixed(connection, "ROLLBACK TO one").await?;
            run_fixed(connection, "RELEASE one").await?;
            return Ok(Err(refusal));
        }
    }
    run_fixed(connection, "RELEASE one").await?;
    Ok(Ok(all))
}

/// The largest size that there is enough for and that isn't too long.
fn times(available: usize, statements: usize) -> usize {
    TIMES.into_iter().find(|times| *times <= available && times * statements <= MAX_STATEMENTS).unwrap_or(1)
}

async fn run(
    connection: &mut SqliteConnection,
    text: Arc<str>,
    batches: &[PreparedBatch],
) -> Result<(Vec<u64>, Option<Break>), StoreError> {
    let mut values = Values::default();
    for write in batches.iter().flat_map(|batch| &batch.writes) {
        write.bind(&mut values)?;
    }
    run_bound(connection, text, values).await
}

/// Runs a script to its end or its first failure; returns what each statement that was done changed.
async fn run_bound(
    connection: &mut SqliteConnection,
    text: Arc<str>,
    values: Values,
) -> Result<(Vec<u64>, Option<Break>), StoreError> {
    let mut results = connection.fetch_many(sqlx::query_with(AssertSqlSafe(text), values.0));
    let mut changes = Vec::new();
    while let Some(result) = results.next().await {
        match result {
            Ok(Either::Left(done)) => changes.push(done.rows_affected()),
            Ok(Either::Right(_)) => {}
            Err(error) if is_duplicate(&error) || is_guard(&error) => {
                let done = changes.len();
                return Ok((changes, Some(Break { done, error })));
            }
            Err(error) => return Err(failure(&error)),
        }
    }
    Ok((changes, None))
}

/// Reads what the writes of one batch did from the changes of its statements.
fn applied(writes: &[Prepared], steps: &[Step], changes: &[u64]) -> Outcome {
    let done = steps.iter().zip(changes).filter_map(|(step, changed)| match step {
        Step::Write(place) => Some(writes[*place].applied(*changed)),
        _ => None,
    });
    done.collect::<Result<Vec<Applied>, StoreError>>()
}

/// Why a batch was refused at this step. What the batch did before is still there to be seen.
async fn refusal(
    connection: &mut SqliteConnection,
    writes: &[Prepared],
    at: Option<&Step>,
    error: &sqlx::Error,
) -> Result<StoreError, StoreError> {
    match at {
        Some(Step::Write(place)) if is_duplicate(error) => find_duplicate(connection, &writes[*place]).await,
        Some(Step::Guard(place)) => Ok(writes[*place].stale()),
        _ => Err(failure(error)),
    }
}
