//! Installing and removing packs: both run an action of the `packs` pack.

use domain::executions::{self, Request};
use http::StatusCode;
use model::Object;
use serde_json::{Value, json};

use crate::context::Ctx;
use crate::http::shape::{Kind, Shape, Take, may, must};
use crate::http::{ApiError, Reply};

pub(crate) const INSTALL: Shape = Shape {
    fields: &[must("packs", Kind::Texts), may("force", Kind::Boolean), may("skip_dependencies", Kind::Boolean)],
    closed: false,
};

pub(crate) const UNINSTALL: Shape = Shape { fields: &[must("packs", Kind::Texts)], closed: false };

async fn run(ctx: &Ctx, action: &str, parameters: Object) -> Result<Reply, ApiError> {
    let context = Object::from_iter([("user".to_owned(), Value::from(ctx.identity.user.as_str()))]);
    let request = Request { action: action.to_owned(), parameters, context, ..Request::default() };
    let execution = executions::request(ctx.services(), request).await?;
    Reply::json_status(StatusCode::ACCEPTED, &json!({"execution_id": execution.id}))
}

/// `POST /packs/install`.
pub async fn install(ctx: Ctx) -> Result<Reply, ApiError> {
    let mut body = ctx.object(&INSTALL)?;
    let mut parameters = Object::new();
    parameters.insert("packs".to_owned(), body.take_texts("packs").unwrap_or_default().into());
    for flag in ["force", "skip_dependencies"] {
        if body.take_bool(flag).unwrap_or(false) {
            parameters.insert(flag.to_owned(), true.into());
        }
    }
    run(&ctx, "packs.install", parameters).await
}

/// `POST /packs/uninstall`.
pub async fn uninstall(ctx: Ctx) -> Result<Reply, ApiError> {
    let mut body = ctx.object(&UNINSTALL)?;
    let packs = body.take_texts("packs").unwrap_or_default();
    run(&ctx, "packs.uninstall", Object::from_iter([("packs".to_owned(), packs.into())])).await
}
