//! API keys (spec/api.md §7.5, spec/model.md §5.3).

use base64::Engine as _;
use bus::Change;
use model::schema::MASK;
use model::{ApiKey, Id, Object, Versioned};
use serde_json::Value;
use sha2::{Digest, Sha256};
use store::{Cond, Query as Find, StoreExt};

use crate::auth::tokens::ensure_user;
use crate::context::Ctx;
use crate::http::list::{Attributes, ListSpec};
use crate::http::shape::{Kind, Shape, Take, may};
use crate::http::{ApiError, Reply};

pub(crate) const SPEC: ListSpec = ListSpec {
    default_limit: Some(50),
    filters: &[],
    sortable: &[],
    order: &[],
    attributes: Attributes::plain(&["id", "uid", "user", "key_hash", "metadata", "created_at", "enabled"]),
    offset: true,
};

pub(crate) const BODY: Shape = Shape {
    fields: &[
        may("user", Kind::Text),
        may("metadata", Kind::Object),
        may("enabled", Kind::Boolean),
        may("id", Kind::Text),
        may("uid", Kind::Text),
        may("key_hash", Kind::Text),
        may("created_at", Kind::Text),
    ],
    closed: true,
};

/// The user that a key is for: another than the caller is an administrator's to choose, for a key has all of its
/// user's roles.
fn user_of(ctx: &Ctx, body: &mut Object) -> Result<String, ApiError> {
    match body.take_text("user").filter(|user| !user.is_empty()) {
        Some(user) if user != ctx.identity.user && !ctx.identity.is_admin => {
            Err(ApiError::forbidden("\"user\" attribute can only be provided by admins"))
        }
        Some(user) => Ok(user),
        None => Ok(ctx.identity.user.clone()),
    }
}

/// 86 characters that nobody guesses.
fn fresh_key() -> String {
    let seed: [u8; 32] = rand::random();
    let digest = Sha256::new().chain_update(seed).chain_update(rand::random::<[u8; 32]>()).finalize();
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    base64::engine::general_purpose::STANDARD_NO_PAD.encode(hex)
}

fn show(ctx: &Ctx, key: &ApiKey) -> Result<Object, ApiError> {
    let mut object = key.to_api();
    if !ctx.show_secrets()? {
        for name in ["uid", "key_hash"] {
            object.insert(name.to_owned(), MASK.into());
        }
    }
    Ok(object)
}

/// By id or by the key itself.
async fn find(ctx: &Ctx, text: &str) -> Result<Option<Versioned<ApiKey>>, ApiError> {
    let store = &ctx.services().store;
    if let Ok(id) = text.parse::<Id>()
        && let Some(key) = store.read::<ApiKey>(id).await?
    {
        return Ok(Some(key));
    }
    Ok(store.first::<ApiKey>(&Find::eq("key_hash", ApiKey::hash_of(text))).await?)
}

async fn to_change(ctx: &Ctx) -> Result<Versioned<ApiKey>, ApiError> {
    let text = ctx.params.get("id");
    find(ctx, text).await?.ok_or_else(|| ApiError::not_found(format!("ApiKey with key or id={text} not found.")))
}

fn changed(ctx: &Ctx, change: Change, id: Id) {
    ctx.gateway.forget_credentials();
    super::changed::<ApiKey>(ctx.services(), change, id, "");
}

/// `GET /apikeys`.
pub async fn list(ctx: Ctx) -> Result<Reply, ApiError> {
    let mut list = SPEC.parse(&ctx)?;
    if let Some(user) = ctx.only_user() {
        list.find.conds.push(Cond::Eq("user", user.into()));
    }
    let (rows, total) = list.fetch::<ApiKey>(&ctx).await?;
    let items: Result<Vec<Object>, ApiError> = rows.iter().map(|row| show(&ctx, row)).collect();
    list.reply(items?, total)
}

/// `GET /apikeys/{id or key}`.
pub async fn get(ctx: Ctx) -> Result<Reply, ApiError> {
    let text = ctx.params.get("id");
    let key = find(&ctx, text)
        .await?
        .ok_or_else(|| ApiError::not_found(format!("ApiKey matching {text} for reference and id not found.")))?;
    Ok(Reply::json(&show(&ctx, &key)?)?.version(key.rev))
}

/// `POST /apikeys`: the only answer that holds the key. With a `key_hash`, an existing key is imported.
pub async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    let mut body = ctx.object(&BODY)?;
    let user = user_of(&ctx, &mut body)?;
    let user = ensure_user(&ctx, &user).await?;
    let imported = body.take_text("key_hash").filter(|hash| !hash.is_empty());
    let key = imported.is_none().then(fresh_key);
    let key_hash = imported.unwrap_or_else(|| ApiKey::hash_of(key.as_deref().unwrap_or_default()));
    let now = ctx.services().now();
    let stored = ApiKey {
        id: Id::fresh(now),
        uid: format!("api_key:{key_hash}"),
        user: user.name,
        key_hash,
        metadata: body.take_object("metadata").unwrap_or_default(),
        created_at: now,
        enabled: body.take_bool("enabled").unwrap_or(true),
    };
    ctx.services().store.insert(&stored).await?;
    changed(&ctx, Change::Create, stored.id);
    let mut object = stored.to_api();
    object.remove("key_hash");
    object.insert("key".to_owned(), key.map_or(Value::Null, Value::from));
    Reply::created(&object)
}

/// `PUT /apikeys/{id or key}`.
pub async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    let mut body = ctx.object(&BODY)?;
    let mut key = ctx.unchanged(to_change(&ctx).await?)?;
    // Clients send back what they were shown, masked.
    let unchanged = ["", MASK, key.key_hash.as_str()];
    if body.take_text("key_hash").is_some_and(|hash| !unchanged.contains(&hash.as_str())) {
        return Err(ApiError::bad_request("Update of key_hash is not allowed."));
    }
    let user = user_of(&ctx, &mut body)?;
    key.doc.user = ensure_user(&ctx, &user).await?.name;
    key.doc.metadata = body.take_object("metadata").unwrap_or_default();
    key.doc.enabled = body.take_bool("enabled").unwrap_or(true);
    key.doc.created_at = ctx.services().now();
    let key = ctx.services().store.update(key).await?;
    changed(&ctx, Change::Update, key.id);
    Ok(Reply::json(&key.to_api())?.version(key.rev))
}

/// `DELETE /apikeys/{id or key}`.
pub async fn delete(ctx: Ctx) -> Result<Reply, ApiError> {
    let key = ctx.unchanged(to_change(&ctx).await?)?;
    ctx.remove(&key).await?;
    changed(&ctx, Change::Delete, key.id);
    Ok(Reply::no_content())
}

#[cfg(test)]
mod tests {
    #[test]
    fn keys_have_stackstorms_form() {
        let key = super::fresh_key();
        assert_eq!(key.len(), 86);
        assert_ne!(key, super::fresh_key());
    }
}
