//! Cloning an action with its files.

use std::path::Path;

use auth::Target;
use bus::Change;
use model::{Action, Id};
use serde_json::json;
use store::{Query as Find, StoreExt};

use super::change::remove_files;
use crate::api::packs::files;
use crate::api::{changed, refuse_system_pack};
use crate::context::Ctx;
use crate::http::shape::{Kind, Shape, Take, may, must};
use crate::http::{ApiError, Reply};

pub(crate) const BODY: Shape = Shape {
    fields: &[must("dest_pack", Kind::Text), must("dest_action", Kind::Text), may("overwrite", Kind::Boolean)],
    closed: false,
};

/// `POST /actions/{ref}/clone`.
pub async fn clone(ctx: Ctx) -> Result<Reply, ApiError> {
    let mut body = ctx.object(&BODY)?;
    let source = ctx.by_ref::<Action>(ctx.params.get("ref")).await?.doc;
    let pack = body.take_text("dest_pack").unwrap_or_default();
    let name = body.take_text("dest_action").unwrap_or_default();
    let overwrite = body.take_bool("overwrite").unwrap_or(false);
    require(&ctx, "action_view", &source.pack, &source.name)?;
    require(&ctx, "action_create", &pack, &name)?;
    refuse_system_pack(&pack)?;
    if files::directory(&ctx, &pack).await?.is_none() {
        return Err(ApiError::bad_request(format!("Destination pack '{pack}' doesn't exist")));
    }
    // The name becomes a file's name.
    let plain = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0']);
    if !plain {
        return Err(ApiError::bad_request(format!("Invalid action name \"{name}\".")));
    }
    let store = &ctx.services().store;
    let existing = store.first::<Action>(&Find::eq("ref", format!("{pack}.{name}"))).await?;
    if existing.is_some() && !overwrite {
        return Err(ApiError::bad_request("The requested destination action already exists"));
    }
    if existing.is_some() {
        require(&ctx, "action_delete", &pack, &name)?;
    }
    let clone = renamed(&source, &pack, &name, Id::fresh(ctx.services().now()));
    copy_files(&ctx, &source, &clone).await?;
    if let Some(existing) = existing {
        if existing.entry_point != clone.entry_point || existing.metadata_file != clone.metadata_file {
            remove_files(&ctx, &existing).await?;
        }
        let mut batch = store::Batch::new();
        batch.delete::<Action>(existing.id, Some(existing.rev));
        batch.insert(&clone);
        store.commit(batch).await?;
    } else {
        store.insert(&clone).await?;
    }
    changed::<Action>(ctx.services(), Change::Create, clone.id, &clone.reference);
    tracing::info!(action = source.reference, clone = clone.reference, user = ctx.identity.user, "action cloned");
    Reply::created(&clone.to_api())
}

/// Here a refusal is 401 (spec/auth-rbac.md §9).
fn require(ctx: &Ctx, permission: &str, pack: &str, name: &str) -> Result<(), ApiError> {
    let outcome = ctx.require(permission, Target::in_pack("action", pack, name));
    outcome.map_err(|error| ApiError { status: http::StatusCode::UNAUTHORIZED, ..error })
}

/// The clone: its script has the clone's name in the directory of the original's.
fn renamed(source: &Action, pack: &str, name: &str, id: Id) -> Action {
    let entry_point = if source.entry_point.is_empty() {
        String::new()
    } else {
        let path = Path::new(&source.entry_point);
        let file = match path.extension().and_then(|extension| extension.to_str()) {
            Some(extension) => format!("{name}.{extension}"),
            None => name.to_owned(),
        };
        path.with_file_name(file).to_string_lossy().into_owned()
    };
    Action {
        id,
        uid: Action::uid_of(pack, name),
        reference: format!("{pack}.{name}"),
        pack: pack.to_owned(),
        name: name.to_owned(),
        entry_point,
        metadata_file: format!("actions/{name}.yaml"),
        ..source.clone()
    }
}

async fn copy_files(ctx: &Ctx, source: &Action, clone: &Action) -> Result<(), ApiError> {
    if !source.entry_point.is_empty() {
        let from = files::locate(ctx, &source.pack, &format!("actions/{}", source.entry_point)).await?;
        let script = files::read(&from, &source.entry_point, u64::MAX).await?;
        let shown = format!("actions/{}", clone.entry_point);
        let to = files::place(ctx, &clone.pack, &shown).await?;
        files::write(&to, &script.bytes, &shown).await?;
        // A script that can be executed stays so.
        if let Ok(meta) = tokio::fs::metadata(&from).await {
            drop(tokio::fs::set_permissions(&to, meta.permissions()).await);
        }
    }
    let metadata = json!({
        "name": clone.name,
        "pack": clone.pack,
        "description": clone.description,
        "enabled": clone.enabled,
        "runner_type": clone.runner_type,
        "entry_point": clone.entry_point,
        "parameters": clone.parameters,
        "output_schema": clone.output_schema,
        "tags": clone.tags,
        "notify": clone.notify,
    });
    let to = files::place(ctx, &clone.pack, &clone.metadata_file).await?;
    files::write(&to, format!("---\n{}", model::yaml::dump(&metadata)).as_bytes(), &clone.metadata_file).await
}
