//! StackStorm's registry of services, told from the nodes' sessions and roles (spec/api.md §7.15).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::context::Ctx;
use crate::http::{ApiError, Reply};

/// Each role of a node, and the services that it stands for. A workflow's engine runs where schedulers do.
const SERVICES: [(&str, &[&str]); 5] = [
    ("api", &["api", "auth", "stream"]),
    ("scheduler", &["garbagecollector", "notifier", "rulesengine", "scheduler", "workflow_engine"]),
    ("runner", &["actionrunner"]),
    ("timers", &["timer_engine"]),
    ("sensors", &["sensorcontainer"]),
];

/// Service → members; empty for a node that knows of no group.
async fn registry(ctx: &Ctx) -> Result<BTreeMap<&'static str, Vec<Value>>, ApiError> {
    let mut groups: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    let Some(cluster) = ctx.gateway.cluster.as_deref() else { return Ok(groups) };
    let status = cluster.status().await?;
    for session in status["sessions"].as_array().into_iter().flatten() {
        let (Some(name), Some(roles)) = (session["node"].as_str(), session["roles"].as_array()) else { continue };
        for (role, services) in SERVICES {
            if roles.iter().all(|other| other != role) {
                continue;
            }
            for service in services {
                groups.entry(service).or_default().push(json!({
                    "group_id": service,
                    "member_id": name,
                    "capabilities": {"hostname": name, "name": service, "type": "active"},
                }));
            }
        }
    }
    Ok(groups)
}

/// `GET /service_registry/groups`.
pub async fn groups(ctx: Ctx) -> Result<Reply, ApiError> {
    let names: Vec<&str> = registry(&ctx).await?.into_keys().collect();
    Reply::json(&json!({"groups": names}))
}

/// `GET /service_registry/groups/{id}/members`.
pub async fn members(ctx: Ctx) -> Result<Reply, ApiError> {
    let group = ctx.params.get("id");
    match registry(&ctx).await?.remove(group) {
        Some(members) => Reply::json(&json!({"members": members})),
        None => Err(ApiError::not_found(format!("Group with ID \"{group}\" not found."))),
    }
}
