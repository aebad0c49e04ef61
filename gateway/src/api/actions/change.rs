//! Creating, replacing and deleting actions, with their files.

use auth::Target;
use bus::Change;
use content::checks;
use domain::triggers::{self, Dispatch};
use domain::{DomainError, Services};
use model::{Action, Object, Versioned};
use serde_json::{Value, json};
use store::{Query as Find, StoreExt};

use crate::api::packs::files;
use crate::api::{changed, refuse_system_pack};
use crate::context::Ctx;
use crate::http::shape::{Kind, Shape, Take, may, must};
use crate::http::{ApiError, Reply};

pub(crate) const DATA_FILE: Shape =
    Shape { fields: &[must("file_path", Kind::Text), must("content", Kind::Text)], closed: true };

/// A file to write beside the action.
struct DataFile {
    path: String,
    content: String,
}

/// The action of a request body, checked, and the files that come with it.
async fn parse(ctx: &Ctx, default_pack: &str) -> Result<(Action, Vec<DataFile>), ApiError> {
    let mut body = ctx.any_object()?;
    let files = data_files(&mut body)?;
    let runner = match body.get("runner_type").and_then(Value::as_str) {
        Some(name) => ctx.services().catalog.runner_type(name).await?,
        None => None,
    };
    let find_runner = |_: &str| runner.as_deref().cloned();
    let action = checks::action(&body, default_pack, &find_runner, ctx.services().now())?;
    refuse_system_pack(&action.pack)?;
    if action.name.is_empty() || action.name.contains('/') {
        return Err(ApiError::bad_request(format!("Invalid action name \"{}\".", action.name)));
    }
    if files::directory(ctx, &action.pack).await?.is_none() {
        let dirs = ctx.services().settings.pack_dirs.iter();
        let searched: Vec<String> = dirs.map(|dir| dir.display().to_string()).collect();
        return Err(ApiError::bad_request(format!(
            "Content pack \"{}\" is not found or doesn't contain actions directory. Searched in: {}",
            action.pack,
            searched.join(":")
        )));
    }
    Ok((action, files))
}

fn data_files(body: &mut Object) -> Result<Vec<DataFile>, ApiError> {
    let Some(Value::Array(files)) = body.remove("data_files") else { return Ok(Vec::new()) };
    files
        .into_iter()
        .map(|file| {
            let mut file = DATA_FILE.check(file)?;
            let path = file.take_text("file_path").unwrap_or_default();
            // What is empty or absolute stays so, and is refused where the file's place is determined.
            let as_is = path.is_empty() || path.starts_with("actions/") || path.starts_with('/');
            let path = if as_is { path } else { format!("actions/{path}") };
            Ok(DataFile { path, content: file.take_text("content").unwrap_or_default() })
        })
        .collect()
}

/// Writes the files and tells of them. What can't be written is refused before anything is stored.
async fn write_files(ctx: &Ctx, action: &Action, data: &[DataFile]) -> Result<(), ApiError> {
    for file in data {
        let path = files::place(ctx, &action.pack, &file.path).await?;
        files::write(&path, file.content.as_bytes(), &file.path).await?;
        announce_file(ctx.services(), &action.reference, &path.display().to_string()).await;
    }
    Ok(())
}

/// Dispatches `core.st2.action.file_written`; the file stands whatever becomes of it.
async fn announce_file(services: &Services, reference: &str, path: &str) {
    let hostname = tokio::fs::read_to_string("/proc/sys/kernel/hostname").await.unwrap_or_default();
    let event = Dispatch {
        trigger: "core.st2.action.file_written".to_owned(),
        payload: json!({"ref": reference, "file_path": path, "host_info": {"hostname": hostname.trim()}}),
        occurrence_time: services.now(),
        id: None,
        trace_context: None,
        validate: false,
        fence: None,
    };
    match triggers::dispatch(services, event).await {
        Ok(_) | Err(DomainError::NotFound(_)) => {}
        Err(error) => tracing::warn!(action = reference, %error, "file-written trigger not dispatched"),
    }
}

/// 409 before files are touched; the unique index decides if another request comes in between.
async fn refuse_duplicate(ctx: &Ctx, action: &Action) -> Result<(), ApiError> {
    let same = Find::eq("ref", action.reference.as_str());
    match ctx.services().store.first::<Action>(&same).await? {
        Some(existing) if existing.id != action.id => Err(DomainError::Conflict {
            text: format!("Tried to save duplicate unique keys (actions: uid {})", action.uid),
            existing: Some(existing.id),
        }
        .into()),
        _ => Ok(()),
    }
}

/// `POST /actions`.
pub async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    let (action, files) = parse(&ctx, "default").await?;
    ctx.require("action_create", Target::in_pack("action", &action.pack, &action.name))?;
    refuse_duplicate(&ctx, &action).await?;
    write_files(&ctx, &action, &files).await?;
    ctx.services().store.insert(&action).await?;
    changed::<Action>(ctx.services(), Change::Create, action.id, &action.reference);
    tracing::info!(action = action.reference, user = ctx.identity.user, "action created");
    Reply::created(&action.to_api())
}

/// `PUT /actions/{ref}`: replaces the whole action.
pub async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    let old = ctx.unchanged(ctx.by_ref::<Action>(ctx.params.get("ref")).await?)?;
    refuse_system_pack(&old.pack)?;
    let (action, files) = parse(&ctx, &old.pack).await?;
    // The path's action was looked at; under its new name it has to be the caller's to change as well.
    ctx.require("action_modify", Target::in_pack("action", &action.pack, &action.name))?;
    let action = Action { id: old.id, ..action };
    refuse_duplicate(&ctx, &action).await?;
    write_files(&ctx, &action, &files).await?;
    let action = ctx.services().store.update(Versioned { rev: old.rev, doc: action }).await?;
    changed::<Action>(ctx.services(), Change::Update, action.id, &action.reference);
    tracing::info!(action = action.reference, user = ctx.identity.user, "action changed");
    Ok(Reply::json(&action.to_api())?.version(action.rev))
}

pub(crate) const DELETE: Shape = Shape { fields: &[may("remove_files", Kind::Boolean)], closed: false };

/// `DELETE /actions/{ref}`, with its files if asked.
pub async fn delete(ctx: Ctx) -> Result<Reply, ApiError> {
    let mut body = ctx.object(&DELETE)?;
    let action = ctx.unchanged(ctx.by_ref::<Action>(ctx.params.get("ref")).await?)?;
    refuse_system_pack(&action.pack)?;
    ctx.services().store.remove::<Action>(action.id).await?;
    changed::<Action>(ctx.services(), Change::Delete, action.id, &action.reference);
    tracing::info!(action = action.reference, user = ctx.identity.user, "action deleted");
    if body.take_bool("remove_files").unwrap_or(false)
        && let Err(error) = remove_files(&ctx, &action).await
    {
        // The action is kept as long as its files are there.
        ctx.services().store.insert_or_ignore(&action.doc).await?;
        changed::<Action>(ctx.services(), Change::Create, action.id, &action.reference);
        return Err(error);
    }
    Ok(Reply::no_content())
}

/// Removes entry point and metadata file; files that aren't there don't matter.
pub(super) async fn remove_files(ctx: &Ctx, action: &Action) -> Result<(), ApiError> {
    let entry_point = (!action.entry_point.is_empty()).then(|| format!("actions/{}", action.entry_point));
    let metadata = (!action.metadata_file.is_empty()).then(|| action.metadata_file.clone());
    for file in entry_point.into_iter().chain(metadata) {
        let path = match files::locate(ctx, &action.pack, &file).await {
            Ok(path) => path,
            Err(error) if error.status == http::StatusCode::NOT_FOUND => continue,
            Err(error) => return Err(error),
        };
        tokio::fs::remove_file(&path).await.map_err(|error| {
            let fault = format!("No permission to delete \"{file}\" of the action from disk");
            ApiError { detail: Some(error.to_string()), ..ApiError::forbidden(fault) }
        })?;
    }
    Ok(())
}
