//! Files of packs. Nothing outside of the pack's directory is ever read.

use std::path::{Component, Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::StatusCode;
use http::header::{ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use model::Timestamp;
use serde_json::json;

use crate::context::Ctx;
use crate::http::{ApiError, Reply};

/// A file and when it changed.
#[derive(Debug)]
pub struct File {
    pub bytes: Bytes,
    pub modified: SystemTime,
}

/// The pack's directory: where it was registered from, else below one of the configured directories.
pub async fn directory(ctx: &Ctx, pack: &str) -> Result<Option<PathBuf>, ApiError> {
    let registered = super::find(ctx, pack).await?.and_then(|pack| pack.doc.path).map(PathBuf::from);
    let settings = &ctx.services().settings;
    let reference = Path::new(pack);
    let plain = matches!(reference.components().collect::<Vec<_>>().as_slice(), [Component::Normal(_)]);
    let candidates = settings.pack_dirs.iter().filter(|_| plain).map(|dir| dir.join(pack));
    for candidate in registered.into_iter().chain(candidates) {
        if tokio::fs::metadata(&candidate).await.is_ok_and(|meta| meta.is_dir()) {
            return Ok(Some(candidate));
        }
    }
    Ok(None)
}

/// The real path of a pack's file. Absolute paths, `..` and links that lead out of the pack are refused.
pub async fn locate(ctx: &Ctx, pack: &str, file: &str) -> Result<PathBuf, ApiError> {
    let missing = || ApiError::not_found(format!("File \"{file}\" not found"));
    let root = directory(ctx, pack).await?.ok_or_else(missing)?;
    if !is_plain(file) {
        return Err(refused(&root, file));
    }
    let real_root = tokio::fs::canonicalize(&root).await.map_err(|_| missing())?;
    let real = tokio::fs::canonicalize(root.join(file)).await.map_err(|_| missing())?;
    if !real.starts_with(&real_root) {
        return Err(refused(&root, file));
    }
    Ok(real)
}

/// Relative, without a step upwards.
fn is_plain(file: &str) -> bool {
    let inside = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    !file.is_empty() && !file.contains('\0') && Path::new(file).components().all(inside)
}

fn refused(root: &Path, file: &str) -> ApiError {
    ApiError::bad_request(format!(
        "Invalid file path: \"{file}\". File path needs to be relative to the pack directory ({}). \
         For example \"my_action.py\".",
        root.display()
    ))
}

/// Where a file of a pack is to be written; its directory is made. Nothing outside of the pack is ever written.
pub async fn place(ctx: &Ctx, pack: &str, file: &str) -> Result<PathBuf, ApiError> {
    let Some(root) = directory(ctx, pack).await? else {
        return Err(ApiError::bad_request(format!("Directory for pack \"{pack}\" doesn't exist")));
    };
    let path = root.join(file);
    let (Some(parent), true) = (path.parent(), is_plain(file) && path.file_name().is_some()) else {
        return Err(refused(&root, file));
    };
    let failed = |error: std::io::Error| not_written(file, &error);
    // The part of the path that is there must not lead out of the pack before more of it is made.
    let real_root = tokio::fs::canonicalize(&root).await.map_err(failed)?;
    let mut present = parent;
    while tokio::fs::symlink_metadata(present).await.is_err() {
        present = present.parent().ok_or_else(|| refused(&root, file))?;
    }
    let real = tokio::fs::canonicalize(present).await.map_err(failed)?;
    let is_link = tokio::fs::symlink_metadata(&path).await.is_ok_and(|meta| meta.is_symlink());
    if !real.starts_with(&real_root) || is_link {
        return Err(refused(&root, file));
    }
    tokio::fs::create_dir_all(parent).await.map_err(failed)?;
    Ok(path)
}

fn not_written(file: &str, error: &std::io::Error) -> ApiError {
    let status = match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => StatusCode::INSUFFICIENT_STORAGE,
        _ => StatusCode::FORBIDDEN,
    };
    ApiError { detail: Some(error.to_string()), ..ApiError::new(status, format!("File \"{file}\" can't be written")) }
}

/// Replaces a file as a whole.
pub async fn write(path: &Path, bytes: &[u8], shown: &str) -> Result<(), ApiError> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".new-{}", uuid::Uuid::new_v4().simple()));
    let draft = PathBuf::from(draft);
    let written = async {
        tokio::fs::write(&draft, bytes).await?;
        tokio::fs::rename(&draft, path).await
    };
    if let Err(error) = written.await {
        // Nothing of a failed attempt stays.
        drop(tokio::fs::remove_file(&draft).await);
        return Err(not_written(shown, &error));
    }
    Ok(())
}

/// Reads a regular file of at most `max` bytes.
pub async fn read(path: &Path, shown: &str, max: u64) -> Result<File, ApiError> {
    let missing = || ApiError::not_found(format!("File \"{shown}\" not found"));
    let meta = tokio::fs::metadata(path).await.map_err(|_| missing())?;
    if !meta.is_file() {
        return Err(missing());
    }
    if meta.len() > max {
        return Err(ApiError::bad_request(format!(
            "File {} exceeds maximum allowed file size ({max} bytes)",
            path.display()
        )));
    }
    let bytes = tokio::fs::read(path).await.map_err(|error| ApiError {
        detail: Some(error.to_string()),
        ..ApiError::forbidden(format!("File \"{shown}\" can't be read"))
    })?;
    Ok(File { bytes: bytes.into(), modified: meta.modified().unwrap_or(UNIX_EPOCH) })
}

/// `GET /packs/views/file/{ref}/{path…}`.
pub async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    let (pack, file) = (ctx.params.get("ref"), ctx.params.get("path"));
    if super::find(&ctx, pack).await?.is_none() {
        return Err(ApiError::not_found(format!("Pack with ref_or_id \"{pack}\" does not exist")));
    }
    let path = locate(&ctx, pack, file).await?;
    let found = read(&path, file, ctx.gateway.limits.max_file_size).await?;
    let since_epoch = found.modified.duration_since(UNIX_EPOCH).unwrap_or_default();
    let etag = format!("{}.{:06}", since_epoch.as_secs(), since_epoch.subsec_micros());
    let seconds = i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX / 1_000_000);
    let modified = Timestamp::from_micros(seconds.saturating_mul(1_000_000));
    let modified = modified.datetime().format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let unchanged = match ctx.header(IF_NONE_MATCH.as_str()) {
        Some(given) => given.trim_matches('"') == etag,
        None => ctx.header(IF_MODIFIED_SINCE.as_str()) == Some(&modified),
    };
    let mut reply = if unchanged {
        Reply { status: StatusCode::NOT_MODIFIED, headers: Vec::new(), body: axum::body::Body::empty() }
    } else {
        Reply::raw(mime(&path), found.bytes)
    };
    reply = reply.header(ETAG, &etag).header(LAST_MODIFIED, &modified);
    Ok(reply)
}

/// As Python guesses it: YAML and Markdown are unknown there.
fn mime(path: &Path) -> &'static str {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    match extension {
        "yaml" | "yml" | "md" => "application/octet-stream",
        "py" => "text/x-python",
        "sh" => "application/x-sh",
        _ => mime_guess::from_path(path).first_raw().unwrap_or("application/octet-stream"),
    }
}

/// `GET /packs/views/files/{ref}`: the registered files that are text of a reasonable size.
pub async fn all(ctx: Ctx) -> Result<Reply, ApiError> {
    let pack = super::known(&ctx, ctx.params.get("ref")).await?;
    let mut files = Vec::new();
    let mut total = 0;
    for name in &pack.files {
        let Ok(path) = locate(&ctx, &pack.reference, name).await else { continue };
        let Ok(file) = read(&path, name, ctx.gateway.limits.max_file_size).await else { continue };
        let Ok(text) = std::str::from_utf8(&file.bytes) else { continue };
        if text.contains('\0') {
            continue;
        }
        total += text.len();
        if total > MAX_ALL_FILES {
            break;
        }
        files.push(json!({"file_path": name, "content": text}));
    }
    Reply::json(&files)
}

/// Bytes of all files of one pack that are shown together.
const MAX_ALL_FILES: usize = 32 * 1024 * 1024;
