//! `st2 action-alias`: what a chat message would do, doing it, and how the answer would look in a chat.

use serde_json::{Value, json};

use crate::context::{Context, say};
use crate::error::{Error, Result};
use crate::executions;
use crate::output::value;

/// `action-alias match`.
pub async fn matching(context: &Context) -> Result<()> {
    let found = context.client.post("/actionalias/match", &json!({"command": context.argument("command")?})).await?;
    let found: Vec<Value> =
        found.list().into_iter().map(|item| item.get("actionalias").cloned().unwrap_or(item)).collect();
    let columns = context.attributes().unwrap_or_else(|| ["name", "description"].map(str::to_owned).to_vec());
    context.show_list(&found, &columns)?;
    Ok(())
}

/// `action-alias execute`.
pub async fn execute(context: &Context) -> Result<()> {
    for result in start(context).await? {
        let text = |path: &str| value::at(&result, path).and_then(Value::as_str).unwrap_or_default().to_owned();
        say(&format!("Matching Action-alias: '{}'", text("actionalias.ref")));
        say(&format!("To get the results, execute:\n st2 execution get {}", text("execution.id")));
    }
    Ok(())
}

/// Runs what the message asks for; an alias may answer with several executions.
async fn start(context: &Context) -> Result<Vec<Value>> {
    let body = json!({
        "command": context.argument("command")?,
        "user": context.matches.one("user").unwrap_or_default(),
        "source_channel": "cli",
    });
    let answer = context.client.post("/aliasexecution/match_and_execute", &body).await?.body;
    Ok(answer.get("results").and_then(Value::as_array).cloned().unwrap_or_default())
}

/// `action-alias test`: runs the alias and shows what a chat would show.
pub async fn test(context: &Context) -> Result<()> {
    say("Triggering execution via action alias\n");
    let started = start(context).await?.into_iter().next();
    let Some(execution) = started.and_then(|mut result| result.get_mut("execution").map(Value::take)) else {
        return Err(Error::failed("the alias started nothing"));
    };
    let id = finished(context, execution).await?.get("id").cloned().unwrap_or_default();
    let id = id.as_str().unwrap_or_default();
    say(&format!("\nExecution ({id}) has finished, rendering result...\n"));
    let body = json!({
        "action": "chatops.format_execution_result",
        "parameters": {"execution_id": id},
        "user": context.matches.one("user").unwrap_or_default(),
    });
    let rendered = finished(context, context.client.post("/executions", &body).await?.body).await?;
    let message = value::at(&rendered, "result.result.message").and_then(Value::as_str).map(str::to_owned);
    let Some(message) = message else {
        executions::show(context, &rendered, crate::output::execution::RUN, "").await?;
        return Err(Error::Exit(1));
    };
    let line = "=".repeat(80);
    say(&format!("\nFormatted ChatOps result message\n\n{line}\n{message}\n{line}\n"));
    Ok(())
}

async fn finished(context: &Context, execution: Value) -> Result<Value> {
    let id = execution.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
    say(&format!("Execution ({id}) has been started, waiting for it to finish...\n"));
    executions::await_end(context, execution, &id).await
}
