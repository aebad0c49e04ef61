//! Permits that were left behind (DESIGN §3).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bus::{Job, Queue};
use domain::permits::PermitError;
use domain::{DomainError, Services};
use model::{Execution, Id, Permit, Status, Timestamp, Versioned};
use store::{Batch, Cond, Fence, Order, Query, StoreExt};

use crate::permits::{mend_all, mend_some};

/// Keys compared at each look.
const KEYS_PER_LOOK: u64 = 200;
/// Between looks at the permits; the coordinator's generation is asked for at every sweep.
const INTERVAL: Duration = Duration::from_secs(5);

/// What the backup scheduler does for permits:
///
/// * a permit in the store whose execution is over or gone is deleted, and given back;
/// * keys are compared with the coordinator, some at each look;
/// * when the coordinator has lost its memory, all keys are, and whatever waits for a policy is rung again.
///
/// Only this deletes permits beside the commits that end their executions, under the fence of the duty, and one after
/// the other: a slot that is taken anew is never mistaken for the one that was left behind.
#[derive(Debug)]
pub(super) struct PermitSweep {
    fence: Fence,
    generation: Option<u64>,
    /// When the permits were looked at, and the key up to which they were compared.
    looked: Option<Instant>,
    after: Option<String>,
}

impl PermitSweep {
    pub(super) fn new(fence: Fence) -> Self {
        Self { fence, generation: None, looked: None, after: None }
    }

    pub(super) async fn once(&mut self, services: &Services, page: u64, now: Instant) -> Result<(), DomainError> {
        if let Err(error) = self.look_at_generation(services, page).await {
            quiet(error)?;
        }
        if self.looked.is_some_and(|at| now.duration_since(at) < INTERVAL) {
            return Ok(());
        }
        self.looked = Some(now);
        self.take_back(services, page).await?;
        match mend_some(services, self.after.as_deref(), KEYS_PER_LOOK).await {
            Ok(after) => self.after = after,
            Err(error) => quiet(error)?,
        }
        Ok(())
    }

    async fn look_at_generation(&mut self, services: &Services, page: u64) -> Result<(), PermitError> {
        let now = services.coordinator.generation().await?;
        if self.generation == Some(now) {
            return Ok(());
        }
        let restored = mend_all(services).await?;
        if self.generation.is_some() {
            tracing::warn!(restored, "the coordinator has lost its memory; permits and wishes are told anew");
            ring_waiters(services, page).await?;
        }
        self.generation = Some(now);
        Ok(())
    }

    /// Deletes permits of executions that are over or gone.
    async fn take_back(&self, services: &Services, page: u64) -> Result<(), DomainError> {
        let mut after: Option<Id> = None;
        loop {
            let mut query = Query::all().limit(page);
            query.conds.extend(after.map(Cond::IdAfter));
            let permits = services.store.search::<Permit>(&query).await?;
            let Some(last) = permits.last() else { return Ok(()) };
            after = Some(last.id);
            let ids: Vec<Id> = permits.iter().map(|permit| permit.execution).collect();
            let executions = services.store.search::<Execution>(&Query::filter(Cond::IdIn(ids))).await?;
            let open: HashMap<Id, Status> = executions.iter().map(|e| (e.id, e.status)).collect();
            for permit in &permits {
                if open.get(&permit.execution).is_none_or(|status| status.is_completed()) {
                    self.forget(services, permit).await?;
                }
            }
        }
    }

    /// Its execution is over for good: if the permit is still there, nobody else will delete it.
    async fn forget(&self, services: &Services, permit: &Versioned<Permit>) -> Result<(), DomainError> {
        let Some(now) = services.store.read::<Permit>(permit.id).await? else { return Ok(()) };
        if now.execution != permit.execution {
            return Ok(());
        }
        tracing::warn!(key = permit.key, slot = permit.slot, execution = %permit.execution, "a permit was left behind");
        metrics::counter!("squall_permits_recovered_total").increment(1);
        let mut batch = Batch::under(self.fence.clone());
        batch.delete::<Permit>(permit.id, Some(now.rev));
        match services.store.commit(batch).await {
            Ok(_) => services.releases.give_back(permit.execution, vec![permit.key.clone()]),
            Err(error) if error.is_stale() => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// All executions that a policy holds: their wishes may be forgotten, and so may those of schedulers that are gone.
async fn ring_waiters(services: &Services, page: u64) -> Result<(), DomainError> {
    let mut from = Timestamp::default();
    loop {
        let query = Query::eq("status", Status::Delayed)
            .and(Cond::Gt("start_timestamp", from.into()))
            .order(Order::Asc("start_timestamp"))
            .limit(page);
        let found = services.store.search::<Execution>(&query).await?;
        let Some(last) = found.last() else { return Ok(()) };
        from = last.start_timestamp;
        for execution in found {
            if !execution.waits_for.is_empty() {
                let job = Job::Execution { id: execution.id, hint: None };
                if services.bus.enqueue(Queue::Schedule, job).await.is_err() {
                    // Its schedulers look for themselves; this is for those that are gone.
                    return Ok(());
                }
            }
        }
    }
}

/// A coordinator that can't be asked is no reason to cut the sweep short.
fn quiet(error: PermitError) -> Result<(), DomainError> {
    match error {
        PermitError::Domain(error) => Err(error),
        PermitError::Coordinator(error) => {
            tracing::debug!(%error, "permits can't be compared now; trying again");
            Ok(())
        }
    }
}
