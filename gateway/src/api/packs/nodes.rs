//! Which nodes have a pack in force (DESIGN §6). This path is Squall's own.

use content::install::{deploy, reports};
use serde_json::{Value, json};

use crate::context::Ctx;
use crate::http::{ApiError, Reply};

/// `GET /packs/{ref}/nodes`: what each node said of the pack's content. A node that hasn't said anything of the content
/// that is wanted now has the state `behind`; nodes that are not up are shown with what they said last.
pub async fn nodes(ctx: Ctx) -> Result<Reply, ApiError> {
    let pack = super::known(&ctx, ctx.params.get("ref")).await?.doc.reference;
    let services = ctx.services();
    let failed = |error: content::InstallError| ApiError::unavailable(error.to_string());
    let Some(word) = deploy::wanted(services, &pack).await.map_err(failed)? else {
        // It was put into the directory of packs by hand: each node has what it has.
        return Reply::json(&json!({"pack": pack, "content": null, "source": null, "nodes": []}));
    };
    let reports = reports::of_pack(services, &pack).await.map_err(failed)?;
    let up = services.nodes.get().and_then(|nodes| nodes.with_packs()).unwrap_or_default();
    let silent = up.iter().filter(|name| reports.iter().all(|report| report.node != **name));
    let mut nodes: Vec<Value> = reports
        .iter()
        .map(|report| {
            let state = match &report.error {
                _ if report.content != word.content => "behind",
                None => "ready",
                Some(_) => "failed",
            };
            json!({
                "node": report.node,
                "up": up.contains(&report.node),
                "state": state,
                "content": report.content,
                "error": report.error,
                "since": report.at,
            })
        })
        .collect();
    nodes.extend(silent.map(
        |name| json!({"node": name, "up": true, "state": "behind", "content": null, "error": null, "since": null}),
    ));
    Reply::json(&json!({
        "pack": pack,
        "content": word.content,
        "size": word.size,
        "source": word.source,
        "installed_at": word.installed_at,
        "nodes": nodes,
    }))
}
