//! Add or replace one resource, keeping its id; equal content writes nothing and announces nothing.

use std::sync::Arc;

use bus::{Change, Event};
use domain::Services;
use domain::races::Races;
use model::{Id, Resource, Versioned};
use store::{Batch, Query, StoreError, StoreExt};

use crate::error::ContentError;

/// Resources that files define.
pub trait Upsert: Resource + PartialEq {
    fn set_id(&mut self, id: Id);
    /// What events call it.
    fn reference(&self) -> &str;
    /// Takes over what an operator may have changed and registration must keep.
    fn keep(&mut self, _old: &Self) {}
}

macro_rules! upsert {
    ($type:ty, $name:ident) => {
        impl Upsert for $type {
            fn set_id(&mut self, id: Id) {
                self.id = id;
            }
            fn reference(&self) -> &str {
                &self.$name
            }
        }
    };
}
upsert!(model::Pack, reference);
upsert!(model::Action, reference);
upsert!(model::ActionAlias, reference);
upsert!(model::Policy, reference);
upsert!(model::SensorType, reference);
upsert!(model::Config, pack);
upsert!(model::ConfigSchema, pack);
upsert!(model::PackContent, pack);
upsert!(model::PackReport, pack);

impl Upsert for model::RunnerType {
    fn set_id(&mut self, id: Id) {
        self.id = id;
    }
    fn reference(&self) -> &str {
        &self.name
    }
    /// An operator's disabling survives.
    fn keep(&mut self, old: &Self) {
        self.enabled = old.enabled;
    }
}

/// Makes the store hold `doc` as the one document that `query` finds.
pub async fn upsert<T: Upsert>(services: &Services, query: &Query, mut doc: T) -> Result<(), ContentError> {
    let mut races = Races::default();
    loop {
        let old = services.store.first::<T>(query).await?;
        let mut batch = Batch::new();
        let change = match old {
            Some(old) => {
                doc.set_id(old.id());
                doc.keep(&old.doc);
                if old.doc == doc {
                    return Ok(());
                }
                batch.update(&Versioned { rev: old.rev, doc: doc.clone() });
                Change::Update
            }
            None => {
                batch.insert(&doc);
                Change::Create
            }
        };
        match services.store.commit(batch).await {
            Ok(_) => {
                services.catalog.forget::<T>();
                services.bus.announce(Arc::new(Event::Content {
                    change,
                    collection: T::COLLECTION.name.to_owned(),
                    id: doc.id(),
                    reference: doc.reference().to_owned(),
                }));
                return Ok(());
            }
            // Another registration was first.
            Err(error @ StoreError::Stale { .. }) => races.lost(error)?,
            Err(error @ StoreError::Duplicate { .. }) if services.store.first::<T>(query).await?.is_some() => {
                races.lost(error)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
}
