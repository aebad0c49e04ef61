//! Key-value pairs (spec/datastore.md, spec/api.md §7.4).

use std::sync::Arc;
use std::time::Duration;

use bus::{Change, Event};
use model::{Id, KeyValue, Object, Resource, Scope, Versioned};
use serde_json::Value;
use store::{Batch, Cond, Order, Query, StoreError, StoreExt};

use crate::races::Races;
use crate::triggers::{self, Dispatch};
use crate::{DomainError, Services};

/// What to store.
#[derive(Debug, Clone, Default)]
pub struct SetKey {
    pub value: String,
    pub description: Option<String>,
    /// Encrypt at rest.
    pub secret: bool,
    /// `value` is ciphertext already; its integrity is checked.
    pub encrypted: bool,
    pub ttl: Option<Duration>,
    /// Only over the pair that has this revision; [`DomainError::Superseded`] otherwise.
    pub expected: Option<u64>,
}

/// The pair as the API shows it: the user's prefix off the name, `encrypted` said. `revealed` is the plaintext to
/// show instead of the ciphertext.
pub fn to_api(pair: &KeyValue, revealed: Option<String>) -> Object {
    let mut object = model::resource::to_object(pair);
    let encrypted = pair.secret && revealed.is_none();
    if let Some(plain) = revealed {
        object.insert("value".to_owned(), plain.into());
    }
    object.insert("encrypted".to_owned(), encrypted.into());
    if pair.scope == Scope::User
        && let Some((user, name)) = pair.name.split_once(':')
    {
        object.insert("name".to_owned(), name.into());
        object.insert("user".to_owned(), user.into());
    }
    object
}

fn by_name(scope: Scope, stored_name: &str) -> Query {
    Query::eq("scope", scope.as_str()).and(Cond::Eq("name", stored_name.into()))
}

/// The pair, unless it is absent or expired.
pub async fn get(
    services: &Services,
    scope: Scope,
    user: &str,
    name: &str,
) -> Result<Option<Versioned<KeyValue>>, DomainError> {
    let found = services.store.first::<KeyValue>(&by_name(scope, &KeyValue::stored_name(scope, user, name))).await?;
    Ok(found.filter(|pair| !pair.is_expired(services.now())))
}

/// Creates or replaces, and dispatches the key-value triggers.
pub async fn set(
    services: &Services,
    scope: Scope,
    user: &str,
    name: &str,
    input: SetKey,
) -> Result<KeyValue, DomainError> {
    if name.is_empty() || (scope == Scope::User && user.is_empty()) {
        return Err(DomainError::Invalid("A valid user must be specified for user key ref.".to_owned()));
    }
    let stored_name = KeyValue::stored_name(scope, user, name);
    let value = stored_value(services, name, &input)?;
    let mut races = Races::default();
    loop {
        let now = services.now();
        let old = services.store.first::<KeyValue>(&by_name(scope, &stored_name)).await?;
        if input.expected.is_some_and(|expected| old.as_ref().is_none_or(|old| old.rev != expected)) {
            return Err(DomainError::Superseded("The key was changed by another request at the same time.".to_owned()));
        }
        let pair = KeyValue {
            id: old.as_ref().map_or_else(|| Id::fresh(now), |old| old.id),
            uid: KeyValue::uid_of(scope, &stored_name),
            name: stored_name.clone(),
            description: input.description.clone(),
            value: value.clone(),
            secret: input.secret || input.encrypted,
            scope,
            expire_timestamp: input.ttl.filter(|ttl| !ttl.is_zero()).map(|ttl| now.plus(ttl)),
        };
        let mut batch = Batch::new();
        match &old {
            Some(old) => batch.update(&Versioned { rev: old.rev, doc: pair.clone() }),
            None => batch.insert(&pair),
        };
        match services.store.commit(batch).await {
            Ok(_) => {
                // An expired pair counts as gone: what replaces it is new.
                let old = old.filter(|old| !old.is_expired(now)).map(|old| old.doc);
                written(services, old.as_ref(), &pair).await;
                return Ok(pair);
            }
            // Another writer was first: the last one wins, over what is there now.
            Err(error @ (StoreError::Stale { .. } | StoreError::Duplicate { .. })) => races.lost(error)?,
            Err(error) => return Err(error.into()),
        }
    }
}

fn stored_value(services: &Services, name: &str, input: &SetKey) -> Result<String, DomainError> {
    if !input.secret && !input.encrypted {
        return Ok(input.value.clone());
    }
    let Some(crypto) = &services.crypto else {
        return Err(DomainError::Invalid(format!(
            "Crypto key not found in the configured path. Unable to encrypt / decrypt value for key {name}."
        )));
    };
    if input.encrypted {
        crypto.decrypt(&input.value).map_err(|_| {
            DomainError::Invalid(format!(
                "Failed to verify the integrity of the provided value for key \"{name}\". Ensure that the value is \
                 encrypted with the correct key and not corrupted."
            ))
        })?;
        return Ok(input.value.clone());
    }
    crypto.encrypt(&input.value).map_err(|error| DomainError::Invalid(error.to_string()))
}

/// False if there was none.
pub async fn delete(services: &Services, scope: Scope, user: &str, name: &str) -> Result<bool, DomainError> {
    let Some(pair) = get(services, scope, user, name).await? else {
        return Ok(false);
    };
    if !services.store.remove::<KeyValue>(pair.id).await? {
        return Ok(false);
    }
    announce(services, Change::Delete, &pair);
    dispatch(services, "core.st2.key_value_pair.delete", &[("object", &pair)]).await;
    Ok(true)
}

/// Pairs of a scope by name prefix, not expired, sorted by name. `limit` None: all.
pub async fn list(
    services: &Services,
    scope: Scope,
    user: &str,
    prefix: Option<&str>,
    limit: Option<u64>,
    offset: u64,
) -> Result<Vec<KeyValue>, DomainError> {
    let prefix = KeyValue::stored_name(scope, user, prefix.unwrap_or_default());
    let query = Query::eq("scope", scope.as_str()).and(Cond::Prefix("name", prefix)).order(Order::Asc("name"));
    let now = services.now();
    let found = services.store.search::<KeyValue>(&query).await?;
    let live = found.into_iter().map(|pair| pair.doc).filter(|pair| !pair.is_expired(now));
    let skip = usize::try_from(offset).unwrap_or(usize::MAX);
    let take = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(live.skip(skip).take(take).collect())
}

/// Plaintext of a pair's value.
pub fn reveal(services: &Services, pair: &KeyValue) -> Result<String, DomainError> {
    if !pair.secret {
        return Ok(pair.value.clone());
    }
    let Some(crypto) = &services.crypto else {
        return Err(DomainError::Invalid(format!(
            "Crypto key not found in the configured path. Unable to encrypt / decrypt value for key {}.",
            pair.name
        )));
    };
    crypto.decrypt(&pair.value).map_err(|error| DomainError::Invalid(error.to_string()))
}

async fn written(services: &Services, old: Option<&KeyValue>, pair: &KeyValue) {
    let Some(old) = old else {
        announce(services, Change::Create, pair);
        return dispatch(services, "core.st2.key_value_pair.create", &[("object", pair)]).await;
    };
    announce(services, Change::Update, pair);
    dispatch(services, "core.st2.key_value_pair.update", &[("object", pair)]).await;
    if old.value != pair.value {
        let objects = [("old_object", old), ("new_object", pair)];
        dispatch(services, "core.st2.key_value_pair.value_change", &objects).await;
    }
}

fn announce(services: &Services, change: Change, pair: &KeyValue) {
    services.bus.announce(Arc::new(Event::Content {
        change,
        collection: KeyValue::COLLECTION.name.to_owned(),
        id: pair.id,
        reference: pair.name.clone(),
    }));
}

/// The write stands whatever becomes of its trigger. Nobody listening, no instance: a key written a thousand times a
/// second must not cost a thousand events that no rule asks for.
async fn dispatch(services: &Services, trigger: &str, objects: &[(&str, &KeyValue)]) {
    match services.catalog.rules_of(trigger).await {
        Ok(rules) if rules.is_empty() => return,
        _ => {}
    }
    let payload: Object =
        objects.iter().map(|(name, pair)| ((*name).to_owned(), Value::Object(to_api(pair, None)))).collect();
    let event = Dispatch {
        trigger: trigger.to_owned(),
        payload: Value::Object(payload),
        occurrence_time: services.now(),
        id: None,
        trace_context: None,
        validate: false,
        fence: None,
    };
    if let Err(error) = triggers::dispatch(services, event).await {
        tracing::warn!(trigger, %error, "key-value trigger not dispatched");
    }
}
