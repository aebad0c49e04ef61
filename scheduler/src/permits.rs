//! Bringing all permits of the store and the coordinator together: after lost memory, and by recovery.

use domain::Services;
use domain::permits::{PermitError, reconcile};
use model::{Id, Key, Permit, Policy, Resource};
use store::{Cond, Query, StoreExt};

use crate::schedule::threshold_of;

/// Keys looked at in one go.
const KEYS: u64 = 20_000;

/// Reconciles every key of which the store has a permit. Returns how many the coordinator had forgotten.
pub(crate) async fn mend_all(services: &Services) -> Result<usize, PermitError> {
    let keys = services.store.distinct(Permit::COLLECTION, "key", &Query::all(), KEYS).await?;
    let mut restored = 0;
    for key in keys {
        let Key::Text(key) = key else { continue };
        let limit = limit_of(services, &key).await?;
        restored += usize::from(reconcile(services, &key, limit).await?.restored);
    }
    Ok(restored)
}

/// Reconciles the keys after `after`, at most `limit`. Returns where to go on; `None` after the last.
pub(crate) async fn mend_some(
    services: &Services,
    after: Option<&str>,
    limit: u64,
) -> Result<Option<String>, PermitError> {
    let query = after.map_or_else(Query::all, |after| Query::filter(Cond::Gt("key", after.into())));
    let keys = services.store.distinct(Permit::COLLECTION, "key", &query, limit).await?;
    let full = keys.len() as u64 == limit;
    let mut last = None;
    for key in keys {
        let Key::Text(key) = key else { continue };
        reconcile(services, &key, limit_of(services, &key).await?).await?;
        last = Some(key);
    }
    Ok(last.filter(|_| full))
}

/// The threshold of the policy that a key belongs to; 0 once there is none: nobody is granted a permit then.
async fn limit_of(services: &Services, key: &str) -> Result<u32, PermitError> {
    let id = key.split(':').next().and_then(|id| id.parse::<Id>().ok());
    let Some(id) = id else { return Ok(0) };
    let policy = services.store.read::<Policy>(id).await?;
    Ok(policy.and_then(|policy| threshold_of(&policy)).unwrap_or(0))
}
