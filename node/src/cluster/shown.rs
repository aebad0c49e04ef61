//! The group's status as JSON: what the API and the command line answer.

use raft::Status;
use serde_json::{Map, Value, json};

/// `leader`, `is_leader` (this node, and it has committed), `term`, `members`, `sessions`, `duties`, `partitions`, `lag`, `state_hash` with `applied`, and more.
///
/// `lag` has the entries that each member lacks, by name: known to the leader alone.
pub fn shown(status: &Status) -> Value {
    let lag: Map<String, Value> =
        status.members.iter().filter_map(|member| Some((member.name.clone(), member.lag?.into()))).collect();
    json!({
        "cluster": status.cluster_id,
        "node": status.node_name,
        "node_id": status.node_id,
        "leader": status.leader,
        "is_leader": status.is_leader,
        "term": status.term,
        "last_index": status.last_index,
        "committed": status.committed,
        "applied": status.applied,
        "snapshot": status.snapshot,
        "state_hash": status.state_hash,
        "past_hashes": status.past_hashes,
        "version": status.version,
        "members": status.members,
        "sessions": status.sessions,
        "duties": status.duties,
        "partitions": status.sensors,
        "lag": lag,
        "content": status.content,
        "agreed": status.agreed,
        "permit_keys": status.permit_keys,
        "trouble": status.trouble,
    })
}
