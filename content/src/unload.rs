//! Taking everything that a pack brought out of the store (spec/packs.md §5). Files, configurations in files and
//! datastore keys stay.

use std::sync::Arc;

use bus::{Change, Event};
use domain::{DomainError, Services, rules};
use model::{
    Action, ActionAlias, Config, ConfigSchema, Pack, Policy, Resource, Rule, SensorType, Trigger, TriggerType,
};
use store::{Query, StoreExt};

use crate::error::ContentError;
use crate::install::SYSTEM_PACKS;

/// Deletes the packs' resources; packs that aren't there have none.
pub async fn unload(services: &Services, packs: &[String]) -> Result<(), ContentError> {
    if let Some(system) = packs.iter().find(|pack| SYSTEM_PACKS.contains(&pack.as_str())) {
        return Err(ContentError::Invalid(format!("Unregister includes an unregisterable pack - {system}.")));
    }
    for pack in packs {
        let of_pack = Query::eq("pack", pack.as_str());
        // Who fires goes first, then what is fired.
        all::<SensorType>(services, &of_pack, |sensor| &sensor.reference).await?;
        for rule in services.store.search::<Rule>(&of_pack).await? {
            match rules::delete(services, rule.id).await {
                Ok(()) | Err(DomainError::NotFound(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        all::<TriggerType>(services, &of_pack, |kind| &kind.reference).await?;
        all::<Trigger>(services, &of_pack, |trigger| &trigger.reference).await?;
        all::<Policy>(services, &of_pack, |policy| &policy.reference).await?;
        all::<ActionAlias>(services, &of_pack, |alias| &alias.reference).await?;
        all::<Action>(services, &of_pack, |action| &action.reference).await?;
        all::<ConfigSchema>(services, &of_pack, |schema| &schema.pack).await?;
        all::<Config>(services, &of_pack, |config| &config.pack).await?;
        all::<Pack>(services, &Query::eq("ref", pack.as_str()), |pack| &pack.reference).await?;
    }
    Ok(())
}

async fn all<T: Resource>(
    services: &Services,
    query: &Query,
    reference: impl Fn(&T) -> &str + Send,
) -> Result<(), ContentError> {
    for found in services.store.search::<T>(query).await? {
        let id = found.doc.id();
        services.store.remove::<T>(id).await?;
        services.catalog.forget::<T>();
        services.bus.announce(Arc::new(Event::Content {
            change: Change::Delete,
            collection: T::COLLECTION.name.to_owned(),
            id,
            reference: reference(&found.doc).to_owned(),
        }));
    }
    Ok(())
}
