//! Letting an execution go on, or wait.

use std::collections::HashSet;
use std::sync::Arc;

use model::{Execution, HeldPermit, Id, Permit, Status, Timestamp, Versioned};
use store::{Batch, Query, StoreError, StoreExt};

use crate::executions::run::{advance, changed};
use crate::{DomainError, Services};

type Stored = Arc<Versioned<Execution>>;

/// What became of [`admit`].
#[derive(Debug)]
pub enum Admission {
    /// It may run: ring the run queue.
    Admitted(Stored),
    /// Somebody admitted it before.
    Already(Stored),
    /// It is over, or runs without a permit: it needs none.
    NotNeeded,
    /// The store knows other holders of these keys' slots: the coordinator is wrong about them.
    Taken(Vec<String>),
}

/// Notes the granted permits in the store, all or none, and lets the execution go on: `requested` (from `delayed`).
/// `known` saves a read. Repeating it is harmless.
pub async fn admit(
    services: &Services,
    id: Id,
    mut known: Option<Versioned<Execution>>,
    granted: &[HeldPermit],
) -> Result<Admission, DomainError> {
    loop {
        let current = match known.take() {
            Some(known) => Some(known),
            None => services.store.read::<Execution>(id).await?,
        };
        let Some(mut current) = current else { return Ok(Admission::NotNeeded) };
        if !matches!(current.status, Status::Requested | Status::Delayed | Status::Scheduled) {
            return Ok(match current.permits.is_empty() {
                true => Admission::NotNeeded,
                false => Admission::Already(Arc::new(current)),
            });
        }
        if !current.permits.is_empty() {
            return Ok(Admission::Already(Arc::new(current)));
        }
        let now = services.now();
        if current.status == Status::Delayed {
            advance(&mut current.doc, Status::Requested, now)?;
        }
        current.doc.permits = granted.to_vec();
        current.doc.waits_for.clear();
        current.doc.check_at = Some(now.plus(services.settings.redrive_after));
        let mut batch = Batch::new();
        batch.update(&current);
        for held in granted {
            batch.insert(&Permit::new(held, id, now));
        }
        match services.store.commit(batch).await {
            Ok(_) => {
                current.rev += 1;
                let written = Arc::new(current);
                changed(services, &written).await;
                return Ok(Admission::Admitted(written));
            }
            Err(error) if error.is_stale() => {}
            Err(StoreError::Duplicate { existing, .. }) => return Ok(Admission::Taken(taken(granted, existing))),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Slots that [`adopt`] tries before it leaves an execution uncounted.
const TRIES: usize = 20;

/// Gives an execution that runs already, since before its policies were made, the lowest free slot of each key, be it
/// above the threshold: it counts from now on. True if it has them now.
pub async fn adopt(services: &Services, id: Id, keys: &[String]) -> Result<bool, DomainError> {
    for _ in 0..TRIES {
        let Some(mut current) = services.store.read::<Execution>(id).await? else { return Ok(false) };
        if !matches!(current.status, Status::Scheduled | Status::Running) || !current.permits.is_empty() {
            return Ok(false);
        }
        for key in keys {
            let slots = services.store.search::<Permit>(&Query::eq("key", key.as_str())).await?;
            let taken: HashSet<u32> = slots.iter().map(|permit| permit.slot).collect();
            let slot = (0..).find(|slot| !taken.contains(slot)).unwrap_or(u32::MAX);
            current.doc.permits.push(HeldPermit { key: key.clone(), slot, token: 0 });
        }
        let now = services.now();
        let mut batch = Batch::new();
        batch.update(&current);
        for held in &current.permits {
            batch.insert(&Permit::new(held, id, now));
        }
        match services.store.commit(batch).await {
            Ok(_) => return Ok(true),
            Err(error) if error.is_stale() => {}
            Err(StoreError::Duplicate { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

/// The keys that the store's refusal is about; all, if it doesn't say.
fn taken(granted: &[HeldPermit], existing: Option<Id>) -> Vec<String> {
    let is = |held: &&HeldPermit| existing.is_none_or(|id| Permit::id_of(&held.key, held.slot) == id);
    let mut keys: Vec<String> = granted.iter().filter(is).map(|held| held.key.clone()).collect();
    if keys.is_empty() {
        keys.extend(granted.iter().map(|held| held.key.clone()));
    }
    keys
}

/// Puts down that an execution waits for permits of these keys: status `delayed`. Writes nothing if the store says so
/// already and recovery needn't look before `now`. Returns what is stored, whatever it is by then.
pub async fn wait_for(
    services: &Services,
    id: Id,
    mut known: Option<Versioned<Execution>>,
    keys: &[String],
    check_at: Timestamp,
) -> Result<Option<Stored>, DomainError> {
    loop {
        let current = match known.take() {
            Some(known) => Some(known),
            None => services.store.read::<Execution>(id).await?,
        };
        let Some(mut current) = current else { return Ok(None) };
        let now = services.now();
        let open = matches!(current.status, Status::Requested | Status::Scheduled | Status::Delayed);
        if !open || !current.permits.is_empty() {
            return Ok(Some(Arc::new(current)));
        }
        let noted = current.status == Status::Delayed && current.waits_for == keys;
        if noted && current.check_at.is_some_and(|at| at > now) {
            return Ok(Some(Arc::new(current)));
        }
        if current.status != Status::Delayed {
            advance(&mut current.doc, Status::Delayed, now)?;
        }
        current.doc.waits_for = keys.to_vec();
        current.doc.check_at = Some(check_at);
        match services.store.update(current).await {
            Ok(written) => {
                let written = Arc::new(written);
                if !noted {
                    changed(services, &written).await;
                }
                return Ok(Some(written));
            }
            Err(error) if error.is_stale() => {}
            Err(error) => return Err(error.into()),
        }
    }
}
