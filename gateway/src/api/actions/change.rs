//! Creating, replacing and deleting actions, with their files.

use bus::Change;
use domain::triggers::{self, Dispatch};
use domain::{DomainError, Services};
use model::schema::{check_overrides, check_parameter_schemas};
use model::{Action, Id, Object, Versioned};
use serde_json::{Value, json};
use store::{Query as Find, StoreExt};

use crate::api::packs::files;
use crate::api::rules::tags;
use crate::api::{changed, refuse_system_pack};
use crate::context::Ctx;
use crate::http::shape::{Kind, Shape, Take, may, must};
use crate::http::{ApiError, Reply};

const BODY: Shape = Shape {
    fields: &[
        must("name", Kind::Text),
        must("runner_type", Kind::Text),
        may("id", Kind::Text),
        may("ref", Kind::Text),
        may("uid", Kind::Text),
        may("pack", Kind::Text),
        may("description", Kind::Text),
        may("enabled", Kind::Boolean),
        may("entry_point", Kind::Text),
        may("parameters", Kind::Object),
        may("output_schema", Kind::Object),
        may("tags", Kind::Array),
        may("notify", Kind::Object),
        may("metadata_file", Kind::Text),
        may("data_files", Kind::Array),
    ],
    closed: true,
};

const DATA_FILE: Shape = Shape { fields: &[must("file_path", Kind::Text), must("content", Kind::Text)], closed: true };

/// A file to write beside the action.
struct DataFile {
    path: String,
    content: String,
}

/// The action of a request body, checked, and the files that come with it.
async fn parse(ctx: &Ctx, id: Id, default_pack: &str) -> Result<(Action, Vec<DataFile>), ApiError> {
    let mut body = ctx.object(&BODY)?;
    let name = body.take_text("name").unwrap_or_default();
    let pack = body.take_text("pack").filter(|pack| !pack.is_empty()).unwrap_or_else(|| default_pack.to_owned());
    refuse_system_pack(&pack)?;
    let files = data_files(&mut body)?;
    let action = Action {
        id,
        uid: Action::uid_of(&pack, &name),
        reference: format!("{pack}.{name}"),
        pack,
        name,
        description: body.take_text("description"),
        enabled: body.take_bool("enabled").unwrap_or(true),
        runner_type: body.take_text("runner_type").unwrap_or_default(),
        entry_point: body.take_text("entry_point").unwrap_or_default(),
        parameters: body.take_object("parameters").unwrap_or_default(),
        output_schema: body.take_object("output_schema").unwrap_or_default(),
        tags: tags(&mut body)?,
        notify: body.take_object("notify").unwrap_or_default(),
        metadata_file: body.take_text("metadata_file").unwrap_or_default(),
    };
    check(ctx, &action).await?;
    Ok((action, files))
}

fn data_files(body: &mut Object) -> Result<Vec<DataFile>, ApiError> {
    let Some(Value::Array(files)) = body.remove("data_files") else { return Ok(Vec::new()) };
    files
        .into_iter()
        .map(|file| {
            let mut file = DATA_FILE.check(file)?;
            let path = file.take_text("file_path").unwrap_or_default();
            let path = if path.starts_with("actions/") { path } else { format!("actions/{path}") };
            Ok(DataFile { path, content: file.take_text("content").unwrap_or_default() })
        })
        .collect()
}

/// Whether the action could run: its pack, runner and parameters.
async fn check(ctx: &Ctx, action: &Action) -> Result<(), ApiError> {
    if action.name.is_empty() || action.name.contains('/') {
        return Err(ApiError::bad_request(format!("Invalid action name \"{}\".", action.name)));
    }
    let Some(runner) = ctx.services().catalog.runner_type(&action.runner_type).await? else {
        return Err(ApiError::bad_request(format!("RunnerType {} is not found.", action.runner_type)));
    };
    let invalid = |error: model::schema::SchemaError| ApiError::bad_request(error.to_string());
    check_parameter_schemas(&action.parameters).map_err(invalid)?;
    check_overrides(&action.reference, &runner.runner_parameters, &action.parameters, true).map_err(invalid)?;
    if files::directory(ctx, &action.pack).await?.is_none() {
        let searched: Vec<String> =
            ctx.services().settings.pack_dirs.iter().map(|dir| dir.display().to_string()).collect();
        return Err(ApiError::bad_request(format!(
            "Content pack \"{}\" is not found or doesn't contain actions directory. Searched in: {}",
            action.pack,
            searched.join(":")
        )));
    }
    Ok(())
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
    let (action, files) = parse(&ctx, Id::fresh(ctx.services().now()), "default").await?;
    refuse_duplicate(&ctx, &action).await?;
    write_files(&ctx, &action, &files).await?;
    ctx.services().store.insert(&action).await?;
    changed::<Action>(ctx.services(), Change::Create, action.id, &action.reference);
    tracing::info!(action = action.reference, user = ctx.identity.user, "action created");
    Reply::created(&action.to_api())
}

/// `PUT /actions/{ref}`: replaces the whole action.
pub async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    let old = ctx.by_ref::<Action>(ctx.params.get("ref")).await?;
    refuse_system_pack(&old.pack)?;
    let (action, files) = parse(&ctx, old.id, &old.pack).await?;
    refuse_duplicate(&ctx, &action).await?;
    write_files(&ctx, &action, &files).await?;
    let action = ctx.services().store.update(Versioned { rev: old.rev, doc: action }).await?;
    changed::<Action>(ctx.services(), Change::Update, action.id, &action.reference);
    tracing::info!(action = action.reference, user = ctx.identity.user, "action changed");
    Reply::json(&action.to_api())
}

const DELETE: Shape = Shape { fields: &[may("remove_files", Kind::Boolean)], closed: false };

/// `DELETE /actions/{ref}`, with its files if asked.
pub async fn delete(ctx: Ctx) -> Result<Reply, ApiError> {
    let mut body = ctx.object(&DELETE)?;
    let action = ctx.by_ref::<Action>(ctx.params.get("ref")).await?;
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
