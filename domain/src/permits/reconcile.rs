//! Bringing what the store and the coordinator know of a key together.

use std::collections::{HashMap, HashSet};

use coordinator::{Grant, Holder};
use model::{Execution, Id, Permit, Versioned};
use store::{Cond, Query, StoreExt};

use super::PermitError;
use crate::Services;

/// What [`reconcile`] found and did.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Reconciled {
    /// The coordinator had forgotten permits that the store has: it was told, and whoever waits asks again.
    pub restored: bool,
    /// Permits that the coordinator takes for held now.
    pub held: usize,
    /// Executions that were granted a permit and have not gone on yet.
    pub granted: Vec<Id>,
}

/// Compares the permits of a key in the store with its holders in the coordinator.
///
/// * A holder without a permit in the store is on its way, if its execution is still to run; else it is dropped.
/// * If the coordinator lacks a holder that the store has, it is given the right list, and `limit` with it.
///
/// The store is only read. A permit that was left behind (its execution is over) counts for nothing here; recovery
/// takes it back.
pub async fn reconcile(services: &Services, key: &str, limit: u32) -> Result<Reconciled, PermitError> {
    // The coordinator first: a holder that it names and the store doesn't is on its way, or was released since.
    let held = services.coordinator.holders(key).await?;
    let stored = live_permits(services, key).await?;
    let mut reconciled = Reconciled { held: held.len(), ..Reconciled::default() };
    let extra: Vec<&Holder> =
        held.iter().map(|(holder, _)| holder).filter(|holder| !stored.contains_key(&holder.request)).collect();
    let on_their_way = on_their_way(services, &extra).await?;
    for holder in extra.iter().filter(|holder| !on_their_way.contains(&holder.request)) {
        services.coordinator.release(key, &holder.request).await?;
        reconciled.held -= 1;
    }
    reconciled.granted = on_their_way.iter().filter_map(|request| request.parse().ok()).collect();
    if is_known(&held, &stored) {
        return Ok(reconciled);
    }
    // A permit that the store has and the coordinator doesn't name may only be younger than the first look.
    let held = services.coordinator.holders(key).await?;
    let stored = live_permits(services, key).await?;
    if is_known(&held, &stored) {
        return Ok(reconciled);
    }
    let slots: HashSet<u32> = stored.values().copied().collect();
    let waiting_to_go_on = held.into_iter().map(|(holder, _)| holder).filter(|holder| {
        on_their_way.contains(&holder.request) && !stored.contains_key(&holder.request) && !slots.contains(&holder.slot)
    });
    let mut holders: Vec<Holder> = waiting_to_go_on.collect();
    holders.extend(stored.iter().map(|(request, slot)| Holder { request: request.clone(), slot: *slot }));
    tracing::warn!(key, holders = holders.len(), "the coordinator had forgotten permits; it is told");
    services.coordinator.restore(key, limit, &holders).await?;
    reconciled.restored = true;
    reconciled.held = holders.len();
    Ok(reconciled)
}

/// Whether the coordinator names all that the store has.
fn is_known(held: &[(Holder, Grant)], stored: &HashMap<String, u32>) -> bool {
    let held: HashMap<&str, u32> = held.iter().map(|(holder, _)| (holder.request.as_str(), holder.slot)).collect();
    stored.iter().all(|(request, slot)| held.get(request.as_str()) == Some(slot))
}

/// Execution → slot, of the permits whose executions are to run or run.
async fn live_permits(services: &Services, key: &str) -> Result<HashMap<String, u32>, PermitError> {
    let permits = services.store.search::<Permit>(&Query::eq("key", key)).await?;
    let executions = executions(services, permits.iter().map(|permit| permit.execution).collect()).await?;
    let is_live = |permit: &&Versioned<Permit>| {
        let execution = executions.get(&permit.execution);
        execution.is_some_and(|e| e.permits.iter().any(|held| held.key == key && held.slot == permit.slot))
    };
    Ok(permits.iter().filter(is_live).map(|permit| (permit.execution.to_string(), permit.slot)).collect())
}

/// Those whose executions are still to run and hold no permits yet.
async fn on_their_way(services: &Services, holders: &[&Holder]) -> Result<HashSet<String>, PermitError> {
    let ids: Vec<Id> = holders.iter().filter_map(|holder| holder.request.parse().ok()).collect();
    let executions = executions(services, ids).await?;
    Ok(executions
        .into_iter()
        .filter(|(_, execution)| !execution.status.is_completed())
        .map(|(id, _)| id.to_string())
        .collect())
}

async fn executions(services: &Services, ids: Vec<Id>) -> Result<HashMap<Id, Versioned<Execution>>, PermitError> {
    let mut found = HashMap::with_capacity(ids.len());
    for chunk in ids.chunks(500) {
        let page = services.store.search::<Execution>(&Query::filter(Cond::IdIn(chunk.to_vec()))).await?;
        found.extend(page.into_iter().map(|execution| (execution.id, execution)));
    }
    Ok(found)
}
