//! Results and output as files.

use std::collections::VecDeque;
use std::io::Write;

use axum::body::Body;
use bytes::Bytes;
use domain::view;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{CONTENT_DISPOSITION, CONTENT_ENCODING};
use model::{Execution, OutputChunk};
use serde_json::{Value, json};
use store::StoreExt;

use super::find;
use crate::context::Ctx;
use crate::http::{ApiError, Reply};
use crate::stream::output::stored;

/// `GET /executions/{id}/result`: not masked.
pub async fn result(ctx: Ctx) -> Result<Reply, ApiError> {
    let (download, compress) = (ctx.query.flag("download")?, ctx.query.flag("compress")?);
    let pretty = ctx.query.flag("pretty_format")?;
    let execution = find(&ctx, ctx.params.get("id")).await?;
    let value = match view::result(ctx.services(), &execution).await? {
        Value::Null => json!({}),
        value => value,
    };
    let text = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) };
    let text = text.map_err(|error| ApiError::internal(error.to_string()))?;
    let mut name = format!("execution_{}_result.json", execution.id);
    let mut reply = if compress {
        name.push_str(".gz");
        let packed = tokio::task::spawn_blocking(move || gzip(&text))
            .await
            .map_err(|error| ApiError::internal(error.to_string()))?
            .map_err(|error| ApiError::internal(error.to_string()))?;
        Reply::raw("application/x-gzip", packed).header(CONTENT_ENCODING, "gzip")
    } else {
        Reply::raw("text/json", text)
    };
    if download {
        reply = reply.header(CONTENT_DISPOSITION, &format!("attachment; filename={name}"));
    }
    Ok(reply)
}

fn gzip(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// Chunks that are read at a time.
const PAGE: u64 = 200;

/// `GET /executions/{id}/output`: stored output as text, written as it is read.
pub async fn output(ctx: Ctx) -> Result<Reply, ApiError> {
    let execution: Execution = find(&ctx, ctx.params.get("id")).await?.doc;
    let kind = ctx.query.text("output_type").filter(|kind| *kind != "all").map(str::to_owned);
    // The first page is read before the answer begins: a store that fails is 503, not an empty text.
    let first = page(&ctx, &execution, kind.as_deref(), 0).await?;
    let state = (ctx, execution, kind, VecDeque::from(first), 0);
    let body = futures::stream::unfold(Some(state), |state| async {
        let (ctx, execution, kind, mut chunks, mut offset) = state?;
        if chunks.is_empty() && offset % PAGE == 0 && offset > 0 {
            match page(&ctx, &execution, kind.as_deref(), offset).await {
                Ok(next) => chunks = next.into(),
                Err(error) => return Some((Err(std::io::Error::other(error.fault)), None)),
            }
        }
        let chunk: OutputChunk = chunks.pop_front()?;
        offset += 1;
        Some((Ok(Bytes::from(chunk.data)), Some((ctx, execution, kind, chunks, offset))))
    });
    Ok(Reply::raw("text/plain; charset=UTF-8", Body::from_stream(body)))
}

async fn page(ctx: &Ctx, execution: &Execution, kind: Option<&str>, offset: u64) -> Result<Vec<OutputChunk>, ApiError> {
    let find = stored(execution.id, kind).limit(PAGE).offset(offset);
    let chunks = ctx.services().store.search::<OutputChunk>(&find).await?;
    Ok(chunks.into_iter().map(|chunk| chunk.doc).collect())
}
