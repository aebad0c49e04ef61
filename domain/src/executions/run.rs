//! Steps that the scheduler and the runners take: hold, release, claim, finish.

use std::sync::Arc;

use bus::{Change, Event, Queue};
use model::{Claim, Execution, Id, Object, Permit, ResultValue, RunnerInfo, Status, Timestamp, Versioned};
use serde_json::{Value, json};
use store::{Batch, StoreError, StoreExt};

use super::request::ring;
use crate::{DomainError, Services};

/// Bytes of a large result that stay in the document.
const PREVIEW_BYTES: usize = 1024;

/// How an attempt ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// A completed status.
    pub status: Status,
    pub result: Value,
    /// Merged into the execution's context.
    pub context: Object,
}

/// Announces a stored change, and sends a completed execution on its way.
pub(crate) async fn changed(services: &Services, execution: &Arc<Versioned<Execution>>) {
    services.bus.announce(Arc::new(Event::Execution(Change::Update, execution.clone())));
    if execution.postrun_pending {
        ring(services, Queue::PostRun, execution).await;
    }
}

/// Tells who measures, if the status has changed.
fn observe(services: &Services, execution: &Execution, was: Status) {
    if let Some(observer) = services.observer.get().filter(|_| execution.status != was) {
        observer.moved(execution, was);
    }
}

/// Puts a requested execution off until `until` (status `delayed`); recovery or the scheduler releases it.
pub async fn hold(
    services: &Services,
    execution: &Versioned<Execution>,
    until: Timestamp,
) -> Result<Arc<Versioned<Execution>>, DomainError> {
    let check_at = until.plus(services.settings.redrive_after);
    step(services, execution, |execution, now| {
        if execution.status == Status::Delayed {
            execution.check_at = Some(check_at);
            return Ok(());
        }
        advance(execution, Status::Delayed, now)?;
        execution.check_at = Some(check_at);
        Ok(())
    })
    .await
}

/// Lets an execution run: rings the run queue. No write: the runner's claim moves it (DESIGN §3).
pub async fn release(services: &Services, execution: Arc<Versioned<Execution>>) {
    ring(services, Queue::Run, &execution).await;
}

/// A runner takes the execution: requested, delayed or scheduled → (scheduled →) running, attempt + 1, in one
/// compare-and-set (DESIGN §2 rule 4). [`DomainError::Superseded`] when it is no longer there to be taken.
pub async fn claim(
    services: &Services,
    execution: &Versioned<Execution>,
    claim: Claim,
    runner_info: RunnerInfo,
) -> Result<Arc<Versioned<Execution>>, DomainError> {
    step(services, execution, |execution, now| {
        let released = execution.released_at.take();
        if !may_begin_again(execution) {
            if execution.status != Status::Scheduled {
                advance(execution, Status::Scheduled, released.unwrap_or(now))?;
            }
            advance(execution, Status::Running, now)?;
        }
        execution.attempt += 1;
        execution.claim = Some(claim.clone());
        execution.runner_info = Some(runner_info.clone());
        execution.check_at = None;
        if execution.is_orquesta() {
            begin_workflow(execution);
        }
        Ok(())
    })
    .await
}

/// What a workflow's execution shows from its begin (spec/model.md §8.3). A re-run finds its workflow later.
fn begin_workflow(execution: &mut Execution) {
    if !execution.context.contains_key("re-run") {
        execution.context.insert("workflow_execution".to_owned(), json!(execution.own_workflow()));
    }
    if execution.result.is_none() {
        let result = json!({"output": null});
        execution.result_size = result.to_string().len() as u64;
        execution.result = Some(ResultValue::Inline(result));
    }
}

/// Workflows begin once however often their runner is asked to: one whose runner was lost before that can be claimed
/// again as it is.
pub fn may_begin_again(execution: &Execution) -> bool {
    execution.action_is_workflow && execution.status == Status::Running && execution.claim.is_none()
}

/// The runner that claimed it has started what goes on without it: the execution stays as it is, and nobody holds it
/// any more. Recovery leaves it to whoever it was handed to.
pub async fn hand_over(
    services: &Services,
    claimed: &Versioned<Execution>,
) -> Result<Arc<Versioned<Execution>>, DomainError> {
    let (attempt, holder) = (claimed.attempt, claimed.claim.clone());
    step(services, claimed, |execution, _| {
        if execution.attempt != attempt || execution.claim != holder || execution.status.is_completed() {
            return Err(DomainError::Superseded(format!("attempt {attempt} of {} is over", execution.id)));
        }
        execution.claim = None;
        execution.check_at = None;
        Ok(())
    })
    .await
}

/// Stores the outcome of the attempt that `claimed` holds: result (as a blob if large) and status in one
/// compare-and-set; the output chunks that are still unsaved go in by `append_output` before it.
///
/// If the execution is `canceling`, it ends `canceled` whatever the outcome says. A result of an older attempt or of
/// a completed execution is refused as `Superseded` (invariant E2).
pub async fn finish(
    services: &Services,
    claimed: &Versioned<Execution>,
    outcome: Outcome,
) -> Result<Arc<Versioned<Execution>>, DomainError> {
    let (status, result, size) = keep_result(services, claimed, outcome.status, outcome.result).await?;
    let (attempt, holder) = (claimed.attempt, claimed.claim.clone());
    let follows = super::follow_up::needed(services, claimed).await?;
    let done = step(services, claimed, |execution, now| {
        if execution.attempt != attempt || execution.claim != holder {
            return Err(DomainError::Superseded(format!("attempt {attempt} of {} is over", execution.id)));
        }
        let canceled = execution.status == Status::Canceling;
        advance(execution, if canceled { Status::Canceled } else { status }, now)?;
        // That of a canceled action says by whom; a canceled workflow has what it came to.
        if !canceled || execution.result.is_none() || (execution.is_orquesta() && result.is_some()) {
            execution.result.clone_from(&result);
            execution.result_size = size;
        } else if let Some(ResultValue::Inline(kept)) = &execution.result {
            execution.result_size = kept.to_string().len() as u64;
        }
        execution.context.extend(outcome.context.clone());
        execution.postrun_pending = follows;
        Ok(())
    })
    .await?;
    Ok(done)
}

/// Where the result goes: into the document, into a blob, or nowhere because it is over the limit, which fails the
/// execution with a text that says so.
///
/// The blob's address is the hash of execution and content: each belongs to one execution and goes with it.
async fn keep_result(
    services: &Services,
    execution: &Execution,
    status: Status,
    result: Value,
) -> Result<(Status, Option<ResultValue>, u64), DomainError> {
    if result.is_null() {
        return Ok((status, None, 0));
    }
    let text = result.to_string();
    let size = text.len() as u64;
    if text.len() <= services.settings.inline_result_limit {
        return Ok((status, Some(ResultValue::Inline(result)), size));
    }
    drop(result);
    if text.len() > services.settings.max_result_size {
        let error = format!(
            "the result has {size} bytes, more than the limit max_result_size = {}",
            services.settings.max_result_size
        );
        let result = json!({"error": error, "traceback": ""});
        let size = result.to_string().len() as u64;
        return Ok((Status::Failed, Some(ResultValue::Inline(result)), size));
    }
    let mut end = PREVIEW_BYTES.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let preview = text[..end].to_owned();
    let blob = Id::derive("result", execution.start_timestamp, &[&execution.id.to_string(), &text]);
    services.store.put_blob(blob, text.into_bytes()).await?;
    Ok((status, Some(ResultValue::Blob { blob, preview }), size))
}

/// Moves along an edge, or says that the step no longer applies.
pub(crate) fn advance(execution: &mut Execution, to: Status, now: Timestamp) -> Result<(), DomainError> {
    execution.advance(to, now).map_err(|illegal| DomainError::Superseded(format!("{}: {illegal}", execution.id)))
}

/// Stores a changed execution: with a terminal status, its permits go in the same commit, and the coordinator is told.
///
/// Every way to a terminal status leads through here.
async fn write(
    services: &Services,
    mut changed: Versioned<Execution>,
) -> Result<Arc<Versioned<Execution>>, StoreError> {
    if !changed.status.is_completed() || (changed.permits.is_empty() && changed.waits_for.is_empty()) {
        return services.store.update(changed).await.map(Arc::new);
    }
    let held = std::mem::take(&mut changed.doc.permits);
    let mut keys = std::mem::take(&mut changed.doc.waits_for);
    let mut batch = Batch::new();
    batch.update(&changed);
    for held in held {
        // It is this execution's own: note and permit come in one commit and go in one.
        batch.delete::<Permit>(Permit::id_of(&held.key, held.slot), None);
        keys.push(held.key);
    }
    services.store.commit(batch).await?;
    changed.rev += 1;
    services.releases.give_back(changed.id, keys);
    Ok(Arc::new(changed))
}

/// Applies `change` to what the caller has; if that is out of date, to what the store has; until it is written or
/// `change` refuses.
async fn step(
    services: &Services,
    known: &Versioned<Execution>,
    mut change: impl FnMut(&mut Execution, Timestamp) -> Result<(), DomainError> + Send,
) -> Result<Arc<Versioned<Execution>>, DomainError> {
    let mut current = known.clone();
    loop {
        let (id, was) = (current.id, current.status);
        change(&mut current.doc, services.now())?;
        match write(services, current).await {
            Ok(written) => {
                observe(services, &written, was);
                changed(services, &written).await;
                return Ok(written);
            }
            Err(error) if error.is_stale() => current = read(services, id).await?,
            Err(error) => return Err(error.into()),
        }
    }
}

pub(super) async fn read(services: &Services, id: Id) -> Result<Versioned<Execution>, DomainError> {
    let found = services.store.read::<Execution>(id).await?;
    found.ok_or_else(|| DomainError::NotFound(format!("Unable to identify resource with id \"{id}\".")))
}

/// Reads, lets `change` decide, writes with compare-and-set, again if another came first; then announces.
/// `change` returns false to leave it as it is.
pub async fn update(
    services: &Services,
    id: Id,
    mut change: impl FnMut(&mut Execution, Timestamp) -> Result<bool, DomainError> + Send,
) -> Result<Arc<Versioned<Execution>>, DomainError> {
    loop {
        let mut current = read(services, id).await?;
        let was = current.status;
        if !change(&mut current.doc, services.now())? {
            return Ok(Arc::new(current));
        }
        match write(services, current).await {
            Ok(written) => {
                observe(services, &written, was);
                changed(services, &written).await;
                return Ok(written);
            }
            Err(error) if error.is_stale() => {}
            Err(error) => return Err(error.into()),
        }
    }
}
