//! Handlers by resource. Each is `async fn(Ctx) -> Result<Reply, ApiError>`, named in [`crate::table`].

pub mod actions;
pub mod aliases;
pub mod apikeys;
pub mod cluster;
pub mod configs;
pub mod executions;
pub mod inquiries;
pub mod keys;
pub mod packs;
pub mod policies;
pub mod rbac;
pub mod root;
pub mod rule_enforcements;
pub mod rules;
pub mod runner_types;
pub mod service_registry;
pub mod simple;
pub mod traces;
pub mod trigger_instances;
pub mod triggers;
pub mod webhooks;
pub mod workflows;

use std::sync::Arc;

use bus::{Change, Event};
use domain::Services;
use model::{Id, Resource};

use crate::http::ApiError;

/// Packs whose resources the API doesn't change (spec/api.md §7).
const SYSTEM_PACKS: [&str; 1] = ["core"];

/// 400 for resources of system packs.
fn refuse_system_pack(pack: &str) -> Result<(), ApiError> {
    if SYSTEM_PACKS.contains(&pack) {
        return Err(ApiError::bad_request("Resources belonging to system level packs can't be manipulated"));
    }
    Ok(())
}

/// After a commit of the gateway's own: drops what is cached of the collection, here and on other nodes.
fn changed<T: Resource>(services: &Services, change: Change, id: Id, reference: &str) {
    services.catalog.forget::<T>();
    let collection = T::COLLECTION.name.to_owned();
    services.bus.announce(Arc::new(Event::Content { change, collection, id, reference: reference.to_owned() }));
}
