//! Bringing all permits of the store and the coordinator together: after lost memory, and by recovery.

use domain::Services;
use domain::permits::{PermitError, reconcile};
use model::{Id, Key, Permit, Policy, Resource};
use store::{Query, StoreExt};

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

/// The threshold of the policy that a key belongs to; 0 once there is none: nobody is granted a permit then.
async fn limit_of(services: &Services, key: &str) -> Result<u32, PermitError> {
    let id = key.split(':').next().and_then(|id| id.parse::<Id>().ok());
    let Some(id) = id else { return Ok(0) };
    let policy = services.store.read::<Policy>(id).await?;
    Ok(policy.and_then(|policy| threshold_of(&policy)).unwrap_or(0))
}
