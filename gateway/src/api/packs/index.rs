//! What the configured indexes know (spec/api.md §7.10, spec/packs.md §6.5).

use content::install::index::{self, Indexes};
use serde_json::{Value, json};

use crate::context::Ctx;
use crate::http::shape::{Kind, Shape, Take, may};
use crate::http::{ApiError, Reply};

pub(crate) const SEARCH: Shape = Shape { fields: &[may("query", Kind::Text), may("pack", Kind::Text)], closed: false };

async fn read(ctx: &Ctx) -> Indexes {
    index::read(&ctx.services().settings.index_urls).await
}

/// The indexes, unless none of them answered.
async fn answered(ctx: &Ctx) -> Result<Indexes, ApiError> {
    let indexes = read(ctx).await;
    match indexes.all_failed() {
        Some(fault) => Err(ApiError::bad_request(fault)),
        None => Ok(indexes),
    }
}

/// `GET /packs/index`.
pub async fn all(ctx: Ctx) -> Result<Reply, ApiError> {
    let indexes = answered(&ctx).await?;
    Reply::json(&json!({"status": indexes.status, "index": indexes.packs}))
}

/// `POST /packs/index/search`: `{query}` gives all that mention it, `{pack}` the one of that name or `[]`.
pub async fn search(ctx: Ctx) -> Result<Reply, ApiError> {
    let mut body = ctx.object(&SEARCH)?;
    match (body.take_text("query"), body.take_text("pack")) {
        (Some(query), None) => Reply::json(&answered(&ctx).await?.search(&query)),
        (None, Some(pack)) => {
            let found = answered(&ctx).await?.pack(&pack).cloned();
            Reply::json(&found.unwrap_or_else(|| Value::Array(Vec::new())))
        }
        _ => Err(ApiError::bad_request("Either \"query\" or \"pack\" has to be given, not both.")),
    }
}

/// `GET /packs/index/health`: also when all of them failed.
pub async fn health(ctx: Ctx) -> Result<Reply, ApiError> {
    Reply::json(&read(&ctx).await.health())
}
