//! The group's status as JSON: what the API and the command line answer. Docs: docs/operating-a-cluster.md.

use raft::Status;
use serde_json::{Map, Value, json};

/// `leader`, `term`, `members`, `sessions`, `duties`, `partitions`, `lag`, `state_hash` with `applied`, and more.
pub fn shown(status: &Status) -> Value {
    let members: Vec<Value> = status.voters.iter().map(|name| json!({"name": name, "voter": true})).collect();
    json!({
        "cluster": status.cluster_id,
        "node": status.node_name,
        "leader": status.leader,
        "term": status.term,
        "last_index": status.last_index,
        "committed": status.committed,
        "applied": status.applied,
        "state_hash": status.state_hash,
        "version": status.version,
        "members": members,
        "sessions": status.sessions,
        "duties": status.duties,
        "partitions": status.sensors,
        "lag": Map::new(),
        "content": status.content,
        "permit_keys": status.permit_keys,
        "trouble": status.trouble,
    })
}
