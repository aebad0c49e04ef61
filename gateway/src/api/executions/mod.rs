//! Executions (spec/api.md §7.2).

pub mod change;
pub mod read;
pub mod result;

use domain::view::{self, ViewOptions};
use model::{Execution, Object, Versioned};
use store::StoreExt;

use crate::auth::guard;
use crate::context::Ctx;
use crate::http::ApiError;

/// By id; `last` is the newest. 404 otherwise.
pub async fn find(ctx: &Ctx, text: &str) -> Result<Versioned<Execution>, ApiError> {
    if text == "last" {
        let found = ctx.services().store.first::<Execution>(&guard::newest(&ctx.identity)).await?;
        let found = found.ok_or_else(|| ApiError::unknown_id(text))?;
        // Another than a moment ago, when the request was admitted, may be the newest now.
        ctx.require_execution("execution_view", &found)?;
        return Ok(found);
    }
    ctx.by_id(text).await
}

/// In API shape, as the request asks.
pub(crate) async fn show(ctx: &Ctx, execution: &Execution, fresh: bool) -> Result<Object, ApiError> {
    let options = ViewOptions { show_secrets: ctx.show_secrets()?, with_blobs: true, fresh };
    Ok(view::execution(ctx.services(), execution, options).await?)
}
