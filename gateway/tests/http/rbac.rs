//! RBAC over HTTP: what users with and without roles get, and what they don't.

use std::sync::Arc;
use std::time::Duration;

use auth::Directory;
use gateway::http::route::{Need, Service};
use gateway::{Access, AuthMode};
use model::{Execution, KeyValue, Scope};
use reqwest::Method;
use serde_json::{Value, json};
use store::{Query, StoreExt};

use super::support::{Answer, Server, answer};

/// RBAC is on; `st2admin` is an administrator, `ana` and `bob` may work in the pack `acme`, `eve` has no role.
pub async fn server(isolation: bool) -> Server {
    let server = Server::start_options(move |options| {
        let directory = Arc::new(Directory::new(options.services.store.clone()));
        options.auth.access = Access::rbac(directory, isolation);
    })
    .await;
    auth::rbac::ensure_system_roles(server.services.store.as_ref()).await.unwrap();
    let definitions = serde_json::from_value(json!({
        "roles": [{"name": "acme", "permission_grants": [
            {"resource_uid": "pack:acme", "permission_types":
                ["action_execute", "action_view", "action_create", "action_modify", "rule_all", "pack_view"]},
            {"resource_uid": "webhook:deploy", "permission_types": ["webhook_create", "webhook_send"]},
            {"resource_uid": "key_value_pair:st2kv.system:shared", "permission_types": ["key_value_pair_set"]},
            {"permission_types": ["action_list", "execution_list", "rule_list", "stream_view", "api_key_create",
                "api_key_list", "execution_views_filters_list", "trace_list", "rule_enforcement_list", "inquiry_list",
                "policy_list", "sensor_type_list", "webhook_list"]},
        ]}],
        "assignments": [
            {"username": "st2admin", "roles": ["admin"], "file_path": "assignments/a.yaml"},
            {"username": "ana", "roles": ["acme"], "file_path": "assignments/b.yaml"},
            {"username": "bob", "roles": ["acme"], "file_path": "assignments/c.yaml"},
            {"username": "olga", "roles": ["observer"], "file_path": "assignments/d.yaml"},
        ],
    }))
    .unwrap();
    auth::rbac::apply(server.services.store.as_ref(), &definitions).await.unwrap();
    for user in ["ana", "bob", "eve", "olga"] {
        server.user(user).await;
        server.add_token(&token(user), user, Duration::from_secs(3600)).await;
    }
    for pack in ["acme", "other"] {
        server.action(pack, "noop", "noop", json!({})).await;
    }
    server
}

pub fn token(user: &str) -> String {
    format!("{user:0<32}")
}

pub async fn call(server: &Server, user: &str, method: Method, path: &str, body: Option<Value>) -> Answer {
    let token = if user == "st2admin" { server.token.clone() } else { token(user) };
    let mut request = server.client.request(method, format!("{}{path}", server.api)).header("X-Auth-Token", token);
    if let Some(body) = body {
        request = request.json(&body);
    }
    answer(request.send().await.unwrap()).await
}

async fn get(server: &Server, user: &str, path: &str) -> Answer {
    call(server, user, Method::GET, path, None).await
}

async fn post(server: &Server, user: &str, path: &str, body: Value) -> Answer {
    call(server, user, Method::POST, path, Some(body)).await
}

async fn run(server: &Server, user: &str, action: &str) -> String {
    let made = post(server, user, "/v1/executions", json!({"action": action})).await;
    assert_eq!(made.status, 201, "{}", made.fault());
    made.json()["id"].as_str().unwrap().to_owned()
}

fn rule(pack: &str, action: &str, trigger: Value) -> Value {
    json!({"pack": pack, "name": "r", "trigger": trigger, "action": {"ref": action}, "enabled": false, "criteria": {}})
}

fn webhook(url: &str) -> Value {
    json!({"type": "core.st2.webhook", "parameters": {"url": url}})
}

/// Bodies with which handlers come as far as asking for the permission.
pub fn body(pattern: &str) -> Value {
    match pattern {
        "/actions" => json!({"name": "new", "pack": "acme", "runner_type": "noop", "entry_point": ""}),
        "/actions/{ref}/clone" => json!({"dest_pack": "acme", "dest_action": "copy"}),
        "/rules" => rule("acme", "acme.noop", webhook("x")),
        "/executions" => json!({"action": "acme.noop"}),
        "/aliasexecution" => json!({"name": "x", "format": "x", "command": "x", "source_channel": "c"}),
        "/aliasexecution/match_and_execute" => json!({"command": "x", "source_channel": "c", "user": "u"}),
        "/actionalias/match" => json!({"command": "x"}),
        "/actionalias" => json!({"pack": "acme", "name": "y", "action_ref": "acme.noop", "formats": ["x"]}),
        "/keys/{name}" => json!({"name": "k", "value": "v"}),
        _ => json!({}),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_role_gets_nothing() {
    let server = server(false).await;
    let id = run(&server, "ana", "acme.noop").await;
    std::fs::create_dir_all(server.dir.path().join("packs/acme/actions")).unwrap();
    let alias = json!({"pack": "acme", "name": "x", "action_ref": "acme.noop", "formats": ["x"]});
    assert_eq!(post(&server, "st2admin", "/v1/actionalias", alias).await.status, 201);
    let mut walked = 0;
    for route in gateway::table::routes() {
        if matches!(route.need, Need::Open | Need::Login) || (route.pattern == "/keys" && route.method == Method::GET) {
            continue;
        }
        let mut path = route.pattern.to_owned();
        let first = path.split('/').nth(1).unwrap_or_default().to_owned();
        let value = match first.as_str() {
            "executions" | "inquiries" => id.as_str(),
            "runnertypes" => "noop",
            "packs" | "configs" | "config_schemas" => "acme",
            _ => "acme.noop",
        };
        while let (Some(from), Some(to)) = (path.find('{'), path.find('}')) {
            path.replace_range(from..=to, value);
        }
        let base = match route.service {
            Service::Auth => &server.auth,
            Service::Api => &server.api,
            Service::Stream => &server.stream,
        };
        let request = server.client.request(route.method.clone(), format!("{base}/v1{path}"));
        let request = request.header("X-Auth-Token", token("eve"));
        let request = if route.method == Method::GET { request } else { request.json(&body(route.pattern)) };
        let got = answer(request.send().await.unwrap()).await;
        let shown = format!("{} {path}: {} {}", route.method, got.status, got.fault());
        // What isn't there is 404, whoever asks.
        let is_missing = got.status == 404 && got.fault().contains("not found")
            || got.fault().contains("Unable to identify")
            || got.fault().contains("no such API key");
        assert!(matches!(got.status, 401 | 403) || is_missing, "{shown}");
        walked += usize::from(matches!(got.status, 401 | 403));
    }
    assert!(walked > 50, "only {walked} routes refused");
    let keys = get(&server, "eve", "/v1/keys?scope=all").await;
    assert_eq!((keys.status, keys.json()), (200, json!([])));
    let own = get(&server, "eve", "/v1/user").await.json();
    assert_eq!(own["rbac"], json!({"enabled": true, "roles": [], "is_admin": false}));
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_reach_as_far_as_they_say() {
    let server = server(false).await;
    let id = run(&server, "ana", "acme.noop").await;
    assert_eq!(get(&server, "ana", &format!("/v1/executions/{id}")).await.status, 200);
    let refused = post(&server, "ana", "/v1/executions", json!({"action": "other.noop"})).await;
    let fault = "User \"ana\" doesn't have required permission \"action_execute\" on resource \"action:other:noop\"";
    assert_eq!((refused.status, refused.fault()), (403, fault.to_owned()));
    assert_eq!(post(&server, "ana", "/v1/executions", json!({"action": "no.where"})).await.status, 400);
    let other = run(&server, "st2admin", "other.noop").await;
    let refused = get(&server, "ana", &format!("/v1/executions/{other}")).await;
    let fault =
        format!("User \"ana\" doesn't have required permission \"execution_view\" on resource \"execution:{other}\"");
    assert_eq!((refused.status, refused.fault()), (403, fault));
    assert_eq!(post(&server, "ana", &format!("/v1/executions/{other}/re_run"), json!({})).await.status, 403);
    assert_eq!(call(&server, "ana", Method::DELETE, &format!("/v1/executions/{other}"), None).await.status, 403);
    assert_eq!(get(&server, "ana", "/v1/packs/other").await.status, 403);
    let refused = get(&server, "ana", "/v1/packs").await;
    assert_eq!(refused.fault(), "User \"ana\" doesn't have required permission \"pack_list\"");
    // an observer looks and does nothing
    assert_eq!(get(&server, "olga", &format!("/v1/executions/{other}")).await.status, 200);
    assert_eq!(post(&server, "olga", "/v1/executions", json!({"action": "acme.noop"})).await.status, 403);
    // page sizes and secrets are administrators'
    assert_eq!(get(&server, "ana", "/v1/actions?limit=101").await.status, 403);
    assert_eq!(get(&server, "ana", "/v1/actions?limit=-1").await.status, 403);
    assert_eq!(get(&server, "st2admin", "/v1/actions?limit=-1").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_need_their_action_and_their_webhook() {
    let server = server(false).await;
    for (body, fault) in [
        (rule("other", "acme.noop", webhook("deploy")), "\"rule_create\" on resource \"rule:other:r\""),
        (
            rule("acme", "other.noop", webhook("deploy")),
            "required (action_execute) permission to use action other.noop",
        ),
        (rule("acme", "acme.noop", webhook("elsewhere")), "(webhook_create) to use trigger core.st2.webhook"),
    ] {
        let refused = post(&server, "ana", "/v1/rules", body).await;
        assert_eq!(refused.status, 403);
        assert!(refused.fault().contains(fault), "{}", refused.fault());
    }
    for trigger_type in content::builtin::trigger_types(server.now()) {
        server.insert(&trigger_type).await;
    }
    let made = post(&server, "ana", "/v1/rules", rule("acme", "acme.noop", webhook("deploy/"))).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let path = format!("/v1/rules/{}", made.json()["id"].as_str().unwrap());
    // what it becomes counts, and what it was
    let moved = rule("other", "acme.noop", webhook("deploy"));
    assert_eq!(call(&server, "ana", Method::PUT, &path, Some(moved.clone())).await.status, 403);
    assert_eq!(call(&server, "st2admin", Method::PUT, &path, Some(moved)).await.status, 200);
    let back = rule("acme", "acme.noop", webhook("deploy"));
    assert_eq!(call(&server, "ana", Method::PUT, &path, Some(back)).await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_becomes_another() {
    let server = server(false).await;
    // an execution's user
    let named = post(&server, "ana", "/v1/executions", json!({"action": "acme.noop", "user": "bob"})).await;
    assert_eq!((named.status, named.fault()), (403, "\"user\" attribute can only be provided by admins".to_owned()));
    let url = format!("{}/v1/executions", server.api);
    let body = json!({"action": "acme.noop", "context": {"user": "st2admin", "parent": {"user": "st2admin"}}});
    let request = server.client.post(url).header("X-Auth-Token", token("ana")).json(&body);
    let made = answer(request.header("St2-Context", r#"{"user": "st2admin"}"#).send().await.unwrap()).await;
    assert_eq!(made.status, 201);
    let stored = server.services.store.first::<Execution>(&Query::eq("user", "ana")).await.unwrap().unwrap();
    assert_eq!(stored.context["rbac"], json!({"user": "ana", "roles": ["acme"]}));
    assert!(server.services.store.first::<Execution>(&Query::eq("user", "st2admin")).await.unwrap().is_none());
    // an API key's user
    let key = post(&server, "ana", "/v1/apikeys", json!({"user": "st2admin"})).await;
    assert_eq!(key.status, 403);
    let key = post(&server, "ana", "/v1/apikeys", json!({})).await.json();
    let id = key["id"].as_str().unwrap();
    assert_eq!(call(&server, "bob", Method::PUT, &format!("/v1/apikeys/{id}"), Some(json!({}))).await.status, 403);
    // the operator's token is made with the node's secret alone
    let operator = server.action_tokens.issue_operator(server.now(), Duration::from_secs(60));
    let url = format!("{}/v1/rbac/roles", server.api);
    let request = server.client.get(url.clone()).header("X-Auth-Token", operator);
    assert_eq!(answer(request.send().await.unwrap()).await.status, 200);
    let action =
        server.action_tokens.issue(model::Id::fresh(server.now()), "operator", server.now(), Duration::from_secs(60));
    let request = server.client.get(url).header("X-Auth-Token", action);
    assert_eq!(answer(request.send().await.unwrap()).await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_their_users_or_granted() {
    let server = server(false).await;
    let put = async |user: &str, name: &str, scope: &str, more: &str| {
        let body = json!({"name": name, "value": "v", "scope": scope});
        call(&server, user, Method::PUT, &format!("/v1/keys/{name}{more}"), Some(body)).await.status
    };
    assert_eq!(put("ana", "mine", "user", "").await, 200);
    assert_eq!(put("ana", "shared", "system", "").await, 200);
    assert_eq!(put("ana", "secret", "system", "").await, 403);
    assert_eq!(put("st2admin", "secret", "system", "").await, 200);
    assert_eq!(put("ana", "x", "user", "?user=bob").await, 403);
    assert_eq!(put("olga", "x", "user", "?user=bob").await, 403);
    let names = async |user: &str, query: &str| -> Vec<String> {
        let keys = get(&server, user, &format!("/v1/keys{query}")).await.json();
        keys.as_array().unwrap().iter().map(|key| key["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("ana", "?scope=all").await, ["shared", "mine"]);
    assert_eq!(names("eve", "?scope=all").await, Vec::<String>::new());
    assert_eq!(names("st2admin", "?scope=system").await, ["secret", "shared"]);
    assert_eq!(names("st2admin", "?scope=user&user=ana").await, ["mine"]);
    assert_eq!(names("olga", "?scope=user&user=ana").await, ["mine"]);
    assert_eq!(get(&server, "bob", "/v1/keys/mine?scope=user&user=ana").await.status, 403);
    assert_eq!(get(&server, "ana", "/v1/keys/shared").await.status, 200);
    let refused = get(&server, "ana", "/v1/keys/secret").await;
    assert!(refused.fault().contains(&KeyValue::uid_of(Scope::System, "secret")), "{}", refused.fault());
    assert_eq!(call(&server, "ana", Method::DELETE, "/v1/keys/shared", None).await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn isolated_users_see_their_own() {
    let server = server(true).await;
    let (hers, his) = (run(&server, "ana", "acme.noop").await, run(&server, "bob", "acme.noop").await);
    let list = get(&server, "ana", "/v1/executions").await;
    assert_eq!(list.header("x-total-count"), Some("1"));
    assert_eq!(list.json()[0]["id"], hers.as_str());
    let refused = get(&server, "ana", &format!("/v1/executions/{his}")).await;
    let fault = format!(
        "User \"ana\" doesn't have access to resource \"execution:{his}\" due to resource permission isolation."
    );
    assert_eq!((refused.status, refused.fault()), (403, fault));
    for path in ["output", "result", "attribute/status", "children"] {
        assert_eq!(get(&server, "ana", &format!("/v1/executions/{his}/{path}")).await.status, 403, "{path}");
    }
    let url = format!("{}/v1/executions/{his}/output", server.stream);
    let request = server.client.get(url).header("X-Auth-Token", token("ana"));
    assert_eq!(answer(request.send().await.unwrap()).await.status, 403);
    // The newest is his; hers is the newest that she sees.
    assert_eq!(get(&server, "ana", "/v1/executions/last").await.json()["id"], hers.as_str());
    assert_eq!(get(&server, "ana", "/v1/executions/views/filters?types=user").await.json()["user"], json!(["ana"]));
    assert_eq!(get(&server, "st2admin", "/v1/executions").await.json().as_array().unwrap().len(), 2);
    assert_eq!(post(&server, "bob", "/v1/apikeys", json!({})).await.status, 201);
    assert_eq!(get(&server, "ana", "/v1/apikeys").await.json(), json!([]));
    assert_eq!(get(&server, "bob", "/v1/apikeys").await.json().as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_are_shown_and_applied() {
    let server = server(false).await;
    let roles = get(&server, "st2admin", "/v1/rbac/roles").await.json();
    let names: Vec<&str> = roles.as_array().unwrap().iter().map(|role| role["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["acme", "admin", "observer", "system_admin"]);
    let system = get(&server, "st2admin", "/v1/rbac/roles?system=true").await;
    assert_eq!(system.header("x-total-count"), Some("3"));
    assert_eq!(
        get(&server, "st2admin", "/v1/rbac/roles/acme").await.json()["permission_grants"].as_array().unwrap().len(),
        4
    );
    let refused = get(&server, "ana", "/v1/rbac/roles").await;
    assert_eq!((refused.status, refused.fault()), (403, "Administrator access required".to_owned()));
    let own = get(&server, "ana", "/v1/rbac/role_assignments").await.json();
    assert_eq!((own.as_array().unwrap().len(), own[0]["user"].as_str()), (1, Some("ana")));
    let all = get(&server, "st2admin", "/v1/rbac/role_assignments?user=bob").await.json();
    let his = all[0]["id"].as_str().unwrap();
    assert_eq!(get(&server, "ana", &format!("/v1/rbac/role_assignments/{his}")).await.status, 404);
    let types = get(&server, "st2admin", "/v1/rbac/permission_types").await.json();
    assert_eq!(types.as_object().unwrap().len(), 18);

    let bad = json!({"roles": [{"name": "x", "permission_grants": [{"permission_types": ["action_view"]}]}]});
    assert_eq!(call(&server, "st2admin", Method::PUT, "/v1/rbac/definitions", Some(bad)).await.status, 400);
    assert_eq!(get(&server, "ana", "/v1/actions").await.status, 200);
    let less =
        json!({"assignments": [{"username": "st2admin", "roles": ["admin"], "file_path": "assignments/a.yaml"}]});
    let applied = call(&server, "st2admin", Method::PUT, "/v1/rbac/definitions", Some(less.clone())).await.json();
    assert_eq!((applied["roles_removed"].as_u64(), applied["assignments_removed"].as_u64()), (Some(1), Some(3)));
    // at once
    assert_eq!(get(&server, "ana", "/v1/actions").await.status, 403);
    let again = call(&server, "st2admin", Method::PUT, "/v1/rbac/definitions", Some(less)).await.json();
    assert!(again.as_object().unwrap().values().all(|count| count == 0), "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_trusted_front_ends_tell_who_it_is() {
    for (trusted, status) in [("127.0.0.1", 201), ("192.0.2.1", 401)] {
        let server = Server::start_options(move |options| {
            options.auth.mode = AuthMode::Proxy { trusted: vec![trusted.parse().unwrap()] };
        })
        .await;
        let request = server.client.post(format!("{}/tokens", server.auth)).header("X-Forwarded-User", "ana");
        assert_eq!(answer(request.send().await.unwrap()).await.status, status, "{trusted}");
        let request = server.client.post(format!("{}/tokens", server.auth)).header("X-Forwarded-User", "a:b");
        assert_eq!(answer(request.send().await.unwrap()).await.status, 401);
    }
}
