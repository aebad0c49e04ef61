//! The group of nodes, and what a node that isn't whole answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use gateway::{Cluster, ClusterError, Dependency, Readiness};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::support::{Server, answer};

#[derive(Debug, Default)]
struct Group(Mutex<Vec<String>>);

#[async_trait]
impl Cluster for Group {
    async fn status(&self) -> Result<Value, ClusterError> {
        Ok(json!({"leader": "n1", "sessions": [
            {"node": "n1", "roles": ["api", "raft"]}, {"node": "n2", "roles": ["api", "runner"]},
        ]}))
    }

    async fn remove(&self, member: &str) -> Result<(), ClusterError> {
        match member {
            "n2" => {
                self.0.lock().push(member.to_owned());
                Ok(())
            }
            "n1" => Err(ClusterError::Refused("it leads".to_owned())),
            _ => Err(ClusterError::NotFound("no such member".to_owned())),
        }
    }

    async fn transfer(&self, to: Option<&str>) -> Result<String, ClusterError> {
        to.map(str::to_owned).ok_or_else(|| ClusterError::Unavailable("no leader".to_owned()))
    }
}

#[tokio::test]
async fn the_group_is_shown_and_changed_by_those_who_may() {
    let group = Arc::new(Group::default());
    let server = Server::start_options(|options| options.cluster = Some(group.clone())).await;
    let call = async |method: &str, path: &str, body: Option<Value>, token: &str| {
        let request = server.client.request(method.parse().unwrap(), format!("{}/v1{path}", server.api));
        let request = request.header("X-Auth-Token", token);
        let request = body.iter().fold(request, |request, body| request.json(body));
        answer(request.send().await.unwrap()).await
    };
    let token = server.token.as_str();
    assert_eq!(call("GET", "/cluster/status", None, "").await.status, 401);
    assert_eq!(call("GET", "/cluster/status", None, token).await.json()["leader"], "n1");
    let groups = call("GET", "/service_registry/groups", None, token).await.json();
    assert_eq!(groups, json!({"groups": ["actionrunner", "api", "auth", "stream"]}));
    let members = call("GET", "/service_registry/groups/actionrunner/members", None, token).await.json();
    let capabilities = json!({"hostname": "n2", "name": "actionrunner", "type": "active"});
    let member = json!({"group_id": "actionrunner", "member_id": "n2", "capabilities": capabilities});
    assert_eq!(members, json!({"members": [member]}));
    let unknown = call("GET", "/service_registry/groups/nope/members", None, token).await;
    assert_eq!((unknown.status, unknown.fault().as_str()), (404, "Group with ID \"nope\" not found."));
    assert_eq!(call("DELETE", "/cluster/members/n2", None, token).await.status, 204);
    assert_eq!(call("DELETE", "/cluster/members/n1", None, token).await.status, 409);
    assert_eq!(call("DELETE", "/cluster/members/n9", None, token).await.status, 404);
    assert_eq!(*group.0.lock(), ["n2"]);
    let moved = call("POST", "/cluster/transfer", Some(json!({"to": "n3"})), token).await;
    assert_eq!((moved.status, moved.text.as_str()), (200, r#"{"leader":"n3"}"#));
    assert_eq!(call("POST", "/cluster/transfer", Some(json!({"to": 3})), token).await.status, 400);
    let leaderless = call("POST", "/cluster/transfer", None, token).await;
    assert_eq!((leaderless.status, leaderless.header("retry-after")), (503, Some("2")));
}

#[tokio::test]
async fn a_node_on_its_own_has_no_such_paths() {
    let server = Server::start().await;
    let request = server.client.get(format!("{}/v1/cluster/status", server.api));
    let answered = request.header("X-Auth-Token", &server.token).send().await.unwrap();
    assert_eq!(answered.status(), 404);
}

#[derive(Debug, Default)]
struct Switch {
    away: AtomicBool,
    stopping: AtomicBool,
}

#[async_trait]
impl Readiness for Switch {
    async fn check(&self) -> Vec<Dependency> {
        let ready = !self.away.load(Ordering::Relaxed);
        vec![Dependency { name: "store".to_owned(), ready, detail: String::new() }]
    }

    fn refusal(&self) -> Option<String> {
        self.away.load(Ordering::Relaxed).then(|| "store".to_owned())
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn a_lost_dependency_is_a_503_at_once_and_heals() {
    let switch = Arc::new(Switch::default());
    let server = Server::start_options(|options| options.readiness = switch.clone()).await;
    let get = async |path: &str| {
        let request = server.client.get(format!("{}{path}", server.combined));
        answer(request.header("X-Auth-Token", &server.token).send().await.unwrap()).await
    };
    assert_eq!(get("/api/v1/actions").await.status, 200);
    switch.away.store(true, Ordering::Relaxed);
    for path in ["/api/v1/actions", "/auth/v1/sso", "/stream/v1/stream", "/healthz/ready"] {
        let answered = get(path).await;
        assert_eq!((answered.status, answered.header("retry-after")), (503, Some("2")), "{path}");
    }
    assert!(get("/api/v1/actions").await.text.contains("store is away"));
    assert_eq!(get("/healthz/live").await.status, 200);
    switch.away.store(false, Ordering::Relaxed);
    let served = get("/api/v1/actions").await;
    assert_eq!((served.status, served.header("connection")), (200, None));
    switch.stopping.store(true, Ordering::Relaxed);
    let last = get("/api/v1/actions").await;
    assert_eq!((last.status, last.header("connection")), (200, Some("close")));
}
