//! Trigger types and triggers (spec/api.md §7.7).

use bus::Change;
use content::checks;
use domain::triggers::register_type;
use model::trigger::parameters_hash;
use model::{Id, Object, Trigger, TriggerType, Versioned};
use store::{Batch, Cond, Order, Query as Find, StoreExt};

use super::{changed, refuse_system_pack};
use crate::context::Ctx;
use crate::http::list::{self, Attributes, Filter, ListSpec};
use crate::http::shape::{Kind, Shape, Take, may, must};
use crate::http::{ApiError, Reply};

pub(crate) const TYPES: ListSpec = ListSpec {
    default_limit: Some(100),
    filters: &[("pack", Filter::Text("pack")), ("name", Filter::Texts("name"))],
    sortable: &[("pack", "pack"), ("name", "name")],
    order: &[Order::Asc("pack"), Order::Asc("name")],
    attributes: Attributes::with_ref(
        &[
            "id",
            "uid",
            "ref",
            "pack",
            "name",
            "description",
            "payload_schema",
            "parameters_schema",
            "tags",
            "metadata_file",
        ],
        &[],
    ),
    offset: true,
};

/// Without the metadata file where there is none.
fn show(trigger_type: &TriggerType) -> Object {
    let mut object = trigger_type.to_api();
    if trigger_type.metadata_file.is_empty() {
        object.remove("metadata_file");
    }
    object
}

/// `GET /triggertypes`.
pub async fn list_types(ctx: Ctx) -> Result<Reply, ApiError> {
    list::simple::<TriggerType>(&ctx, &TYPES, show).await
}

/// `GET /triggertypes/{ref}`.
pub async fn get_type(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = ctx.by_ref::<TriggerType>(ctx.params.get("ref")).await?;
    Ok(Reply::json(&show(&found.doc))?.version(found.rev))
}

/// The trigger type of a request body.
fn type_of(ctx: &Ctx, default_pack: Option<&str>) -> Result<TriggerType, ApiError> {
    let body = ctx.any_object()?;
    let found = checks::trigger_type(&body, default_pack.unwrap_or_default(), ctx.services().now())?;
    if found.pack.is_empty() {
        let fault = format!("Both pack and name needed for building ref. pack=None, name={}", found.name);
        return Err(ApiError::bad_request(fault));
    }
    refuse_system_pack(&found.pack)?;
    Ok(found)
}

/// `POST /triggertypes`.
pub async fn create_type(ctx: Ctx) -> Result<Reply, ApiError> {
    let trigger_type = type_of(&ctx, None)?;
    let same = Find::eq("ref", trigger_type.reference.as_str());
    if let Some(existing) = ctx.services().store.first::<TriggerType>(&same).await? {
        return Err(domain::DomainError::Conflict {
            text: format!("Tried to save duplicate unique keys (trigger_types: uid {})", trigger_type.uid),
            existing: Some(existing.id),
        }
        .into());
    }
    Reply::created(&show(&register_type(ctx.services(), trigger_type).await?))
}

/// `PUT /triggertypes/{ref}`.
pub async fn update_type(ctx: Ctx) -> Result<Reply, ApiError> {
    let old = ctx.unchanged(ctx.by_ref::<TriggerType>(ctx.params.get("ref")).await?)?;
    refuse_system_pack(&old.pack)?;
    let new = TriggerType { id: old.id, ..type_of(&ctx, Some(&old.pack))? };
    let store = &ctx.services().store;
    if new.reference != old.reference {
        // Renamed: the same document under its new name.
        let renamed = store.update(Versioned { rev: old.rev, doc: new }).await?;
        changed::<TriggerType>(ctx.services(), Change::Update, renamed.id, &renamed.reference);
        return Reply::json(&show(&renamed.doc));
    }
    Reply::json(&show(&register_type(ctx.services(), new).await?))
}

/// `DELETE /triggertypes/{ref}`: with its shadow trigger.
pub async fn delete_type(ctx: Ctx) -> Result<Reply, ApiError> {
    let old = ctx.unchanged(ctx.by_ref::<TriggerType>(ctx.params.get("ref")).await?)?;
    refuse_system_pack(&old.pack)?;
    let services = ctx.services();
    let shadow = Find::eq("type", old.reference.as_str())
        .and(Cond::Eq("parameters_hash", parameters_hash(&Object::new()).into()));
    let shadow = services.store.first::<Trigger>(&shadow).await?;
    let mut batch = Batch::new();
    batch.delete::<TriggerType>(old.id, None);
    if let Some(trigger) = &shadow {
        batch.delete::<Trigger>(trigger.id, None);
    }
    services.store.commit(batch).await?;
    changed::<TriggerType>(services, Change::Delete, old.id, &old.reference);
    if let Some(trigger) = shadow {
        changed::<Trigger>(services, Change::Delete, trigger.id, &trigger.reference);
    }
    Ok(Reply::no_content())
}

/// Triggers that are listed at most.
const MAX_TRIGGERS: u64 = 50_000;

/// `GET /triggers`: all of them, whatever the query says.
pub async fn list(ctx: Ctx) -> Result<Reply, ApiError> {
    let triggers = ctx.services().store.search::<Trigger>(&Find::all().limit(MAX_TRIGGERS)).await?;
    Reply::json(&triggers.iter().map(|trigger| trigger.to_api()).collect::<Vec<_>>())
}

async fn find(ctx: &Ctx) -> Result<Versioned<Trigger>, ApiError> {
    let text = ctx.params.get("id");
    let unknown = || ApiError::not_found(format!("Unable to find the TriggerDB instance. {{'id': '{text}'}}"));
    ctx.find_ref::<Trigger>(text).await?.ok_or_else(unknown)
}

/// `GET /triggers/{id}`.
pub async fn get(ctx: Ctx) -> Result<Reply, ApiError> {
    let trigger = find(&ctx).await?;
    Ok(Reply::json(&trigger.to_api())?.version(trigger.rev))
}

pub(crate) const BODY: Shape = Shape {
    fields: &[
        must("type", Kind::Text),
        may("name", Kind::Text),
        may("pack", Kind::Text),
        may("parameters", Kind::Object),
        may("description", Kind::Text),
        may("id", Kind::Text),
        may("ref", Kind::Text),
        may("uid", Kind::Text),
    ],
    closed: true,
};

/// `POST /triggers`: the trigger of this type and parameters, made if there is none.
pub async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    let mut body = ctx.object(&BODY)?;
    let type_ref = body.take_text("type").unwrap_or_default();
    let parameters = body.take_object("parameters").unwrap_or_default();
    let services = ctx.services();
    if let Some(existing) = domain::triggers::find_trigger(services, &type_ref, &parameters).await? {
        return Reply::created(&existing.to_api());
    }
    if let Some(trigger_type) = services.catalog.trigger_type(&type_ref).await? {
        domain::triggers::check_parameters(services, &trigger_type, &parameters)?;
    }
    let now = services.now();
    let name = body.take_text("name").unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let own_pack = type_ref.split_once('.').map_or("default", |(pack, _)| pack).to_owned();
    let pack = body.take_text("pack").unwrap_or(own_pack);
    let trigger = Trigger {
        id: Id::fresh(now),
        uid: Trigger::uid_of(&pack, &name, &parameters),
        reference: format!("{pack}.{name}"),
        pack,
        name,
        description: body.take_text("description"),
        type_ref,
        parameters,
        ref_count: 0,
        created_at: now,
    };
    services.store.insert(&trigger).await?;
    changed::<Trigger>(services, Change::Create, trigger.id, &trigger.reference);
    Reply::created(&trigger.to_api())
}

/// `PUT /triggers/{id}`.
pub async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    let mut body = ctx.object(&BODY)?;
    let mut trigger = ctx.unchanged(find(&ctx).await?)?;
    let doc = &mut trigger.doc;
    doc.type_ref = body.take_text("type").unwrap_or_default();
    doc.name = body.take_text("name").unwrap_or_else(|| doc.name.clone());
    doc.pack = body.take_text("pack").unwrap_or_else(|| doc.pack.clone());
    doc.parameters = body.take_object("parameters").unwrap_or_default();
    doc.description = body.take_text("description");
    doc.uid = Trigger::uid_of(&doc.pack, &doc.name, &doc.parameters);
    doc.reference = format!("{}.{}", doc.pack, doc.name);
    let trigger = ctx.services().store.update(trigger).await?;
    changed::<Trigger>(ctx.services(), Change::Update, trigger.id, &trigger.reference);
    Ok(Reply::json(&trigger.to_api())?.version(trigger.rev))
}

/// `DELETE /triggers/{id}`.
pub async fn delete(ctx: Ctx) -> Result<Reply, ApiError> {
    let trigger = ctx.unchanged(find(&ctx).await?)?;
    ctx.remove(&trigger).await?;
    changed::<Trigger>(ctx.services(), Change::Delete, trigger.id, &trigger.reference);
    Ok(Reply::no_content())
}
