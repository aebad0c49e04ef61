//! Chat commands: what a bot asks, and what it gets to say.

use model::{Execution, Object};
use reqwest::Method;
use serde_json::{Value, json};
use store::StoreExt;

use super::support::Server;

async fn with_aliases() -> Server {
    let server = Server::start().await;
    let parameters = json!({"hosts": {"type": "array"}, "env": {"type": "object"}, "who": {"type": "string"}});
    server.action("acme", "run", "noop", parameters).await;
    for (name, formats, more) in [
        (
            "run",
            json!(["run on {{hosts}} {{env=a=1}}"]),
            json!({"immutable_parameters": {"who": "{{ source_channel }}"}}),
        ),
        (
            "issues",
            json!([{
                "display": "AB-1", "representation": [r"(?:\b|^)(?P<who>[A-Z]+-\d+)(?:\b|$)"], "match_multiple": true
            }]),
            json!({}),
        ),
        ("bad", json!(["bad {{who}}"]), json!({"ack": {"format": "{{ nope.nope }}"}})),
        (
            "ack",
            json!(["ack {{who}}"]),
            json!({"ack": {
                "format": "runs {{ execution.parameters.who }}", "extra": {"slack": {"text": "{{ message }}!"}}
            }}),
        ),
    ] {
        let mut alias = json!({"pack": "acme", "name": name, "action_ref": "acme.run", "formats": formats});
        alias.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let made = server.post("/v1/actionalias", alias).await;
        assert_eq!(made.status, 201, "{}", made.text);
    }
    server
}

fn command(name: &str, format: &str, command: &str) -> Value {
    json!({"name": name, "format": format, "command": command, "user": "ana", "source_channel": "#ops"})
}

async fn parameters(server: &Server, answer: &Value) -> Object {
    let id = answer["execution"]["id"].as_str().unwrap().parse().unwrap();
    server.store.read::<Execution>(id).await.unwrap().unwrap().doc.parameters
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_become_executions() {
    let server = with_aliases().await;
    let format = "run on {{hosts}} {{env=a=1}}";
    let made = server.post("/v1/aliasexecution", command("run", format, "run on a,b")).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let made = made.json();
    let wanted = json!({"hosts": ["a", "b"], "env": {"a": "1"}, "who": "#ops"});
    assert_eq!(Value::Object(parameters(&server, &made).await), wanted);
    assert_eq!(made["execution"]["context"]["api_user"], "ana");
    assert!(made.get("message").is_none());

    let refused = server.post("/v1/aliasexecution", command("run", format, "run on a who=me")).await;
    assert_eq!((refused.status, refused.fault().as_str()), (400, "Immutable arguments cannot be overriden: who"));
    let refused = server.post("/v1/aliasexecution", command("run", "other", "run on a")).await;
    assert_eq!(refused.fault(), "Format string \"other\" is not available on the alias \"run\".");
    let refused = server.post("/v1/aliasexecution", command("bad", "bad {{who}}", "bad x")).await;
    let text = refused.fault();
    assert!(
        refused.status == 400 && text.starts_with("Cannot render \"format\" in field \"ack\" for alias. "),
        "{text}"
    );
    let made = server.post("/v1/aliasexecution", command("ack", "ack {{who}}", "ack me")).await.json();
    assert_eq!((&made["message"], &made["extra"]), (&json!("runs me"), &json!({"slack": {"text": "runs me!"}})));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_finds_its_alias() {
    let server = with_aliases().await;
    let found = server.post("/v1/actionalias/match", json!({"command": "ack me"})).await.json();
    assert_eq!((&found["actionalias"]["name"], &found["representation"]), (&json!("ack"), &json!("ack {{who}}")));
    let body = json!({"command": "see AB-1 and CD-2", "user": "ana", "source_channel": "#ops"});
    let made = server.post("/v1/aliasexecution/match_and_execute", body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let made = made.json();
    let results = made["results"].as_array().unwrap();
    assert_eq!(results.len(), 2);
    assert_eq!(parameters(&server, &results[1]).await["who"], "CD-2");
    let help = server.get("/v1/actionalias/help?filter=RUN&limit=1").await.json();
    assert_eq!(help["available"], 1);
    assert_eq!(help["helpstrings"][0]["display"], "run on {{hosts}} {{env=a=1}}");
    assert_eq!(server.get("/v1/actionalias/help?filter=(").await.status, 400);
    let off =
        json!({"pack": "acme", "name": "ack", "action_ref": "acme.run", "formats": ["ack {{who}}"], "enabled": false});
    let id = found["actionalias"]["id"].as_str().unwrap();
    assert_eq!(server.call(Method::PUT, &format!("/v1/actionalias/{id}"), Some(off)).await.status, 200);
    let refused = server.post("/v1/actionalias/match", json!({"command": "ack me"})).await;
    assert_eq!((refused.status, refused.fault().as_str()), (400, "Command 'ack me' matched no patterns"));
}
