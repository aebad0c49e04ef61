//! Questions to people: alone, in workflows and chains, answered, timed out, given up.

use std::time::Duration;

use anyhow::{Context, Result};
use e2e::{Api, Node, NodeOptions, eventually};
use reqwest::Method;
use serde_json::{Value, json};

const LONG: Duration = Duration::from_secs(60);

async fn becomes(api: &Api, id: &str, status: &str) -> Value {
    eventually(&format!("execution {id} becomes {status}"), LONG, || async {
        let found = api.get(&format!("/v1/executions/{id}")).await.ok()?;
        Some(found).filter(|found| found["status"] == status)
    })
    .await
}

/// The questions that wait, once there are so many.
async fn waiting(api: &Api, count: usize) -> Vec<Value> {
    eventually(&format!("{count} inquiries wait"), LONG, || async {
        let list = api.get("/v1/inquiries").await.ok()?;
        list.as_array().filter(|list| list.len() == count).cloned()
    })
    .await
}

async fn answer(api: &Api, inquiry: &Value, response: Value) -> Result<(u16, Value)> {
    let id = inquiry["id"].as_str().context("an id")?;
    let body = json!({"id": id, "response": response, "inquiry": "other keys are tolerated"});
    let reply = api.call(Method::PUT, &format!("/v1/inquiries/{id}"), Some(&body)).await?;
    Ok((reply.status, reply.json))
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_alone() -> Result<()> {
    let node = Node::start().await?;
    let api = node.admin().await?;
    let schema = json!({
        "type": "object", "additionalProperties": false,
        "properties": {
            "approved": {"type": "boolean", "required": true},
            "code": {"type": "string", "secret": true},
        },
    });
    let id = api.run("core.ask", json!({"schema": schema, "route": "developers", "ttl": 60})).await?;
    let asked = becomes(&api, &id, "pending").await;
    assert_eq!(asked["result"], json!({"schema": schema, "roles": [], "users": [], "route": "developers", "ttl": 60}));
    let found = waiting(&api, 1).await.remove(0);
    let expected = json!({"id": id, "route": "developers", "ttl": 60, "users": [], "roles": [], "schema": schema});
    assert_eq!(found, expected);
    assert_eq!(api.get(&format!("/v1/inquiries/{id}")).await?, expected);
    let fired = api.get("/v1/triggerinstances?trigger=core.st2.generic.inquiry").await?;
    assert_eq!(fired[0]["payload"], json!({"id": id, "route": "developers"}));

    let (status, refused) = answer(&api, &found, json!({"approved": "maybe"})).await?;
    let text = refused["faultstring"].as_str().unwrap_or_default();
    assert!(
        status == 400 && text.contains("did not pass schema validation. 'maybe' is not of type 'boolean'"),
        "{text}"
    );
    assert_eq!(answer(&api, &found, json!({"approved": true, "zzz": 1})).await?.0, 400);
    let canceled = api.call(Method::DELETE, &format!("/v1/executions/{id}"), None).await?;
    assert_eq!(canceled.json["faultstring"], "Action cannot be canceled. State = pending.");

    let (status, accepted) = answer(&api, &found, json!({"approved": true, "code": "abc"})).await?;
    assert_eq!((status, &accepted["response"]["code"]), (200, &json!("abc")), "{accepted}");
    let ended = becomes(&api, &id, "succeeded").await;
    assert_eq!(ended["result"]["response"], json!({"approved": true, "code": "********"}));
    let (status, again) = answer(&api, &found, json!({"approved": true})).await?;
    let text = format!("Inquiry \"{id}\" has already been responded to.");
    assert_eq!((status, again["faultstring"].as_str()), (400, Some(text.as_str())));

    let other = api.run("core.ask", json!({"users": ["ana"]})).await?;
    becomes(&api, &other, "pending").await;
    let (status, refused) = answer(&api, &json!({"id": other}), json!({"continue": true})).await?;
    assert_eq!(status, 403, "{refused}");
    let plain = api.run("core.noop", json!({})).await?;
    api.finished(&plain, LONG).await;
    let not = api.get_raw(&format!("/v1/inquiries/{plain}")).await?;
    assert_eq!(
        (not.status, not.json["faultstring"].as_str().is_some_and(|t| t.ends_with("is not an inquiry."))),
        (400, true)
    );
    assert_eq!(api.get_raw("/v1/inquiries/000000000000000000000000").await?.status, 404);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn workflows_wait_for_answers() -> Result<()> {
    let node = Node::start().await?;
    let api = node.admin().await?;
    let yes = json!({"continue": true});

    let id = api.run("examples.orquesta-ask-basic", json!({})).await?;
    let paused = becomes(&api, &id, "paused").await;
    assert_eq!(paused["result"], json!({"output": null}));
    let asked = waiting(&api, 1).await;
    assert_eq!(answer(&api, &asked[0], json!({"approve": false})).await?.0, 200);
    assert_eq!(becomes(&api, &id, "succeeded").await["result"]["output"], json!({"approved": false}));

    let id = api.run("examples.orquesta-ask-consecutive", json!({})).await?;
    for _ in 0..2 {
        becomes(&api, &id, "paused").await;
        let asked = waiting(&api, 1).await;
        assert_eq!(answer(&api, &asked[0], yes.clone()).await?.0, 200);
    }
    becomes(&api, &id, "succeeded").await;

    let id = api.run("examples.orquesta-ask-parallel", json!({})).await?;
    let asked = waiting(&api, 2).await;
    becomes(&api, &id, "paused").await;
    assert_eq!(answer(&api, &asked[0], yes.clone()).await?.0, 200);
    becomes(&api, &id, "paused").await;
    assert_eq!(answer(&api, &asked[1], yes.clone()).await?.0, 200);
    becomes(&api, &id, "succeeded").await;

    // What asks is a workflow below: both pause, and both go on.
    let id = api.run("examples.orquesta-ask-nested", json!({})).await?;
    becomes(&api, &id, "paused").await;
    let asked = waiting(&api, 1).await;
    assert_eq!(answer(&api, &asked[0], json!({"approve": true})).await?.0, 200);
    assert_eq!(becomes(&api, &id, "succeeded").await["result"]["output"], json!({"approved": true}));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn chains_wait_for_answers() -> Result<()> {
    let node = Node::start().await?;
    let api = node.admin().await?;
    for action in ["examples.chain-test-inquiry", "examples.chain-test-inquiry-parent"] {
        let id = api.run(action, json!({})).await?;
        becomes(&api, &id, "paused").await;
        let asked = waiting(&api, 1).await;
        assert_eq!(answer(&api, &asked[0], json!({"continue": true})).await?.0, 200);
        let ended = becomes(&api, &id, "succeeded").await;
        assert_eq!(ended["result"]["tasks"].as_array().map(Vec::len), Some(2), "{ended:#}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_are_given_up() -> Result<()> {
    let mut node = Node::start_with(NodeOptions {
        env: vec![("SQUALL_GARBAGE_COLLECTOR__PURGE_INQUIRIES".to_owned(), "true".to_owned())],
    })
    .await?;
    let api = node.admin().await?;
    // With its workflow.
    let id = api.run("examples.orquesta-ask-nested", json!({})).await?;
    becomes(&api, &id, "paused").await;
    let asked = waiting(&api, 1).await;
    let reply = api.call(Method::DELETE, &format!("/v1/executions/{id}"), None).await?;
    assert_eq!(reply.status, 200, "{}", reply.text);
    becomes(&api, &id, "canceled").await;
    becomes(&api, asked[0]["id"].as_str().context("an id")?, "canceled").await;
    assert_eq!(answer(&api, &asked[0], json!({"approve": true})).await?.0, 400);

    // It waits while its node is away.
    let id = api.run("examples.orquesta-ask-basic", json!({})).await?;
    becomes(&api, &id, "paused").await;
    waiting(&api, 1).await;
    node.kill();
    node.restart().await?;
    let api = node.admin().await?;
    let asked = waiting(&api, 1).await;
    assert_eq!(answer(&api, &asked[0], json!({"approve": true})).await?.0, 200);
    becomes(&api, &id, "succeeded").await;
    Ok(())
}
