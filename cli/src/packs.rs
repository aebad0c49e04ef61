//! `st2 pack`: the index, installing, removing, registering.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::context::{Context, put, say};
use crate::error::{Error, Result};
use crate::executions::{UPDATED, show};
use crate::form::Form;
use crate::http::{Query, segment};
use crate::output::{Format, execution, value, yaml};
use crate::resources::find;
use crate::tail::task;

const CREATED: &str = "st2.execution__create";
const STATUS_WIDTH: usize = 20;
/// Without news a dot is printed, and the execution looked at.
const ACTIVITY: std::time::Duration = std::time::Duration::from_secs(2);

/// `pack show`.
pub async fn show_index(context: &Context) -> Result<()> {
    let name = context.argument("pack")?;
    let answer =
        context.client.post("/packs/index/search", &json!({ "pack": name })).await.map_err(Error::into_operation)?;
    if answer.body.is_null() {
        say("No matching items found");
    } else {
        context.show(&answer.body, &["name", "description", "author", "keywords"], false);
    }
    Ok(())
}

/// `pack search`.
pub async fn search(context: &Context) -> Result<()> {
    let query = context.argument("query")?;
    let found = context.client.post("/packs/index/search", &json!({ "query": query })).await?.list();
    let columns = ["name", "description", "version", "author"].map(str::to_owned).to_vec();
    let columns = match (context.attributes(), context.matches.all("attr")) {
        (Some(columns), _) => columns,
        (None, [_]) => value::union(&found),
        _ => columns,
    };
    context.show_list(&found, &columns)?;
    Ok(())
}

/// `pack register`.
pub async fn register(context: &Context) -> Result<()> {
    let mut body = json!({ "types": context.matches.all("types") });
    let packs = context.matches.all("pack");
    if !packs.is_empty() {
        body["packs"] = json!(packs);
    }
    let answer = context.client.post("/packs/register", &body).await.map_err(Error::into_operation)?;
    context.show(&answer.body, &[], false);
    Ok(())
}

/// `pack config`: asks for what the pack's configuration schema names, shows the answers and saves them.
pub async fn configure(context: &Context) -> Result<()> {
    let name = context.argument("name")?;
    let schema = match context.client.get(&format!("/config_schemas/{}", segment(name)), &Query::new()).await {
        Ok(answer) => answer.body,
        Err(error) if error.is_not_found() => {
            let text = format!("Pack \"{name}\" doesn't exist or doesn't have a config schema defined.");
            return Err(Error::Operation(text));
        }
        Err(error) => return Err(error.into_operation()),
    };
    let attributes = schema.get("attributes").and_then(Value::as_object).cloned().unwrap_or_default();
    let mut form = Form::terminal();
    let values = Value::Object(form.ask(&attributes)?);
    if form.agrees("---\nDo you want to preview the config before saving? Secrets are shown in plain text.")? {
        say(&yaml::dump(&values, yaml::Layout { indent: 4, ..yaml::DOCUMENT }));
    }
    if !form.agrees("---\nDo you want me to save it?")? {
        return Err(Error::Operation("Interrupted".to_owned()));
    }
    let saved = context.client.put(&format!("/configs/{}", segment(name)), &values).await;
    context.show(&saved.map_err(Error::into_operation)?.body, &[], false);
    Ok(())
}

/// `pack install`.
pub async fn install(context: &Context) -> Result<()> {
    let packs = context.matches.all("pack");
    if context.style.format == Format::Human {
        for pack in packs {
            announce(context, pack).await;
        }
    }
    let body = json!({
        "packs": packs,
        "force": context.matches.has("force"),
        "skip_dependencies": context.matches.has("skip-dependencies"),
    });
    let done = follow(context, "/packs/install", &body).await?;
    let names: Vec<String> = match value::at(&done, "result.output.packs_list").and_then(Value::as_array) {
        Some(names) => names.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        None => packs.to_vec(),
    };
    let Some(resource) = find("pack") else { return Ok(()) };
    let mut installed = Vec::new();
    for name in &names {
        match context.client.get(&format!("/packs/{}", segment(name)), &Query::new()).await {
            Ok(answer) => installed.push(answer.body),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    let columns: Vec<String> = resource.columns.iter().map(|name| (*name).to_owned()).collect();
    match &installed[..] {
        [one] => context.show(one, resource.columns, true),
        many => {
            context.show_list(many, &columns)?;
        }
    }
    let warnings = value::at(&done, "result.output.warning_list").and_then(Value::as_array);
    for warning in warnings.into_iter().flatten().filter_map(Value::as_str) {
        say(warning);
    }
    Ok(())
}

/// Says what a pack of the index brings; a pack that isn't in the index is installed without.
async fn announce(context: &Context, pack: &str) {
    let Ok(answer) = context.client.post("/packs/index/search", &json!({ "pack": pack })).await else { return };
    let Some(content) = answer.body.get("content").and_then(Value::as_object) else { return };
    say(&format!("\nFor the \"{pack}\" pack, the following content will be registered:\n"));
    for (kind, part) in content {
        let count = part.get("count").and_then(Value::as_u64).unwrap_or_default();
        say(&format!("{kind:<10} |  {count}"));
    }
    say("\nInstallation may take a while for packs with many items.");
}

/// `pack remove`.
pub async fn remove(context: &Context) -> Result<()> {
    let packs = context.matches.all("pack");
    let Some(resource) = find("pack") else { return Ok(()) };
    // afterwards there is nothing left to show
    let mut gone = Vec::new();
    for pack in packs {
        if let Ok(answer) = context.client.get(&format!("/packs/{}", segment(pack)), &Query::new()).await {
            gone.push(answer.body);
        }
    }
    follow(context, "/packs/uninstall", &json!({ "packs": packs })).await?;
    let columns: Vec<String> = resource.columns.iter().map(|name| (*name).to_owned()).collect();
    match &gone[..] {
        [one] => context.show(one, resource.columns, true),
        many => {
            context.show_list(many, &columns)?;
        }
    }
    Ok(())
}

/// Starts a change of packs and tells how its tasks fare. A failed one is shown and ends with 1.
async fn follow(context: &Context, path: &str, body: &Value) -> Result<Value> {
    let started = context.client.post(path, body).await?.body;
    let id = started.get("execution_id").and_then(Value::as_str).unwrap_or_default().to_owned();
    let query = vec![
        ("end_event", UPDATED.to_owned()),
        ("end_execution_id", id.clone()),
        ("events", format!("{CREATED},{UPDATED}")),
    ];
    let mut stream = context.client.events("/stream", &query).await.ok();
    let path = format!("/executions/{}", segment(&id));
    let mut current = context.client.get(&path, &Query::new()).await?.body;
    let mut seen: HashMap<String, String> = HashMap::new();
    while !execution::is_completed(execution::status(&current)) {
        let event = match &mut stream {
            Some(events) => tokio::time::timeout(ACTIVITY, events.next()).await.ok(),
            None => {
                tokio::time::sleep(std::time::Duration::from_millis(500)).await;
                None
            }
        };
        match event {
            Some(Ok(Some(event))) => {
                let body: Value = serde_json::from_str(&event.data).unwrap_or_default();
                if body.get("parent").and_then(Value::as_str) == Some(&id) {
                    progress(context, &mut seen, &body);
                }
                if body.get("id").and_then(Value::as_str) != Some(&id) {
                    continue;
                }
            }
            Some(_) => stream = None,
            // a sign of life while nothing happens
            None if context.style.format == Format::Human && stream.is_some() => put("."),
            None => {}
        }
        current = context.client.get(&path, &Query::new()).await?.body;
    }
    if context.style.format == Format::Human && !seen.is_empty() {
        say("\n");
    }
    if execution::status(&current) != "succeeded" {
        show(context, &current, execution::RUN, "").await?;
        return Err(Error::Exit(1));
    }
    Ok(current)
}

/// A line per task, rewritten while its status changes.
fn progress(context: &Context, seen: &mut HashMap<String, String>, body: &Value) {
    if context.style.format != Format::Human {
        return;
    }
    let id = body.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
    let status = execution::status(body).to_owned();
    let lead = match seen.insert(id, status.clone()) {
        Some(old) if old == status => return,
        Some(_) => "\r",
        None if seen.len() > 1 => "\n",
        None => "",
    };
    let gap = STATUS_WIDTH.saturating_sub(status.len());
    let (left, right) = (" ".repeat(gap / 2), " ".repeat(gap - gap / 2));
    put(&format!("{lead}\t[{left}{}{right}] {}", context.style.status(&status), task(body)));
}
