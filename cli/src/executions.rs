//! Running actions and looking at executions (`spec/cli.md` §8, §9).

use std::time::Duration;

use chrono::Utc;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::context::{Context, put, say};
use crate::error::{Error, Result};
use crate::http::{Query, segment};
use crate::output::{Format, execution, python, schema, value, yaml};
use crate::params::{self, Schemas};
use crate::resources::find;
use crate::{tail, verbs};

/// The event that tells of an execution's new status.
pub const UPDATED: &str = "st2.execution__update";

/// `run` and `action execute`.
pub async fn run(context: &Context) -> Result<()> {
    let matches = &context.matches;
    let Some(reference) = matches.one("ref-or-id") else {
        return Err(Error::Operation("Missing action reference or id".to_owned()));
    };
    let words = matches.all("parameters");
    let mut target = reference.to_owned();
    let mut schemas = Schemas::default();
    if params::need_types(words) || !reference.contains('.') {
        let action = action(context, reference).await?.ok_or_else(|| no_action(reference))?;
        schemas = types(context, &action, words).await?;
        target = value::at(&action, "ref").and_then(Value::as_str).unwrap_or(reference).to_owned();
    }
    let mut parameters = Map::new();
    if matches.has("inherit-env") {
        parameters.insert("env".to_owned(), Value::Object(params::environment()));
    }
    parameters.extend(params::parse(words, &schemas, matches.has("auto-dict"), target == "core.http")?);
    let mut body = json!({"action": target, "parameters": parameters, "user": matches.one("user")});
    if let Some(delay) = context.number("delay")? {
        body["delay"] = json!(delay);
    }
    if let Some(id) = matches.one("trace-id") {
        body["context"] = json!({"trace_context": {"id_": id}});
    } else if let Some(tag) = matches.one("trace-tag") {
        body["context"] = json!({"trace_context": {"trace_tag": tag}});
    }
    match context.client.post("/executions", &body).await {
        Ok(answer) => follow(context, answer.body).await,
        // an unknown action is a bad request; say so as when it is looked up first
        Err(error @ Error::Http { status: 400, .. }) => match action(context, reference).await {
            Ok(None) => Err(no_action(reference)),
            _ => Err(error),
        },
        Err(error) => Err(error),
    }
}

fn no_action(reference: &str) -> Error {
    Error::failed(format!("Resource with id or reference \"{reference}\" doesn't exist."))
}

async fn action(context: &Context, reference: &str) -> Result<Option<Value>> {
    match context.client.get(&format!("/actions/{}", segment(reference)), &Query::new()).await {
        Ok(answer) => Ok(Some(answer.body)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The schemas of the parameters that the words name: the runner is asked only about what the action doesn't say.
async fn types(context: &Context, action: &Value, words: &[String]) -> Result<Schemas> {
    let own = value::at(action, "parameters").and_then(Value::as_object).cloned().unwrap_or_default();
    let known = |word: &String| {
        let name = word.split_once('=').map(|(name, _)| name);
        name.is_none_or(|name| own.get(name).is_some_and(|schema| schema.get("type").is_some()))
    };
    let runner = if words.iter().all(known) { Map::new() } else { runner_parameters(context, action).await? };
    Ok(Schemas { runner, action: own })
}

async fn runner_parameters(context: &Context, action: &Value) -> Result<Map<String, Value>> {
    let name = value::at(action, "runner_type").and_then(Value::as_str).unwrap_or_default();
    let answer = context.client.get("/runnertypes/", &vec![("name", name.to_owned())]).await?;
    let parameters =
        answer.list().into_iter().next().and_then(|mut runner| runner.get_mut("runner_parameters").map(Value::take));
    Ok(parameters.and_then(|parameters| parameters.as_object().cloned()).unwrap_or_default())
}

/// `execution re-run`.
pub async fn re_run(context: &Context) -> Result<()> {
    let matches = &context.matches;
    let id = matches.one("id").unwrap_or("None");
    let missing = || Error::failed(format!("Action execution with id \"{id}\" cannot be found."));
    let old = match context.client.get(&format!("/executions/{}", segment(id)), &Query::new()).await {
        Ok(answer) => answer.body,
        Err(error) if error.is_not_found() => return Err(missing()),
        Err(error) => return Err(error),
    };
    let words = matches.all("parameters");
    let reference = value::at(&old, "action.ref").and_then(Value::as_str).unwrap_or_default();
    let mut schemas = Schemas::default();
    if params::need_types(words) {
        let action = action(context, reference).await?.ok_or_else(|| no_action(reference))?;
        schemas = types(context, &action, words).await?;
    }
    let mut parameters = params::parse(words, &schemas, matches.has("auto-dict"), reference == "core.http")?;
    if matches.has("inherit-env") {
        parameters.entry("env").or_insert_with(|| Value::Object(params::environment()));
    }
    let mut body = json!({ "parameters": parameters });
    let tasks = matches.all("tasks");
    let keep = matches.all("no-reset");
    if !tasks.is_empty() {
        if let Some(stray) = keep.iter().find(|name| !tasks.contains(name)) {
            return Err(Error::failed(format!("--no-reset names task \"{stray}\", which isn't one of --tasks")));
        }
        body["tasks"] = json!(tasks);
        body["reset"] = json!(tasks.iter().filter(|name| !keep.contains(name)).collect::<Vec<_>>());
    }
    if let Some(delay) = context.number("delay")? {
        body["delay"] = json!(delay);
    }
    let answer = context.client.post(&format!("/executions/{}/re_run", segment(id)), &body).await?;
    follow(context, answer.body).await
}

/// What comes after the start: nothing, the output, or the end.
async fn follow(context: &Context, started: Value) -> Result<()> {
    let id = started.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
    if context.matches.has("async") {
        // whatever the format: StackStorm's client does so, and scripts look for the id in this text
        say(&format!("To get the results, execute:\n st2 execution get {id}\n"));
        say(&format!("To view output in real-time, execute:\n st2 execution tail {id}"));
        return Ok(());
    }
    let done = if context.matches.has("tail") {
        say(&format!("Tailing execution \"{id}\""));
        tail::follow(context, &id).await?;
        say("");
        fetch(context, &id, &Query::new()).await?
    } else {
        await_end(context, started, &id).await?
    };
    show(context, &done, execution::RUN, "").await?;
    if execution::status(&done) == "failed" { Err(Error::Exit(1)) } else { Ok(()) }
}

async fn fetch(context: &Context, id: &str, query: &Query) -> Result<Value> {
    Ok(context.client.get(&format!("/executions/{}", segment(id)), query).await?.body)
}

const DOT_EVERY: Duration = Duration::from_secs(2);
/// How soon to look again without a stream; grows to the longest pause.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// With a stream a look is only a safeguard.
const SAFEGUARD_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
const STREAM_DEADLINE: Duration = Duration::from_secs(1);

/// Whether to go on waiting: statuses that pass by themselves.
fn passes(status: &str) -> bool {
    execution::is_awaited(status) || ["delayed", "pausing", "resuming"].contains(&status)
}

/// Waits until an execution rests. Its events tell at once when that is; should there be no stream, it is polled.
pub async fn await_end(context: &Context, started: Value, id: &str) -> Result<Value> {
    let dots = context.style.format == Format::Human;
    if dots {
        put(".");
    }
    let mut current = started;
    if passes(execution::status(&current)) {
        let query = vec![("events", UPDATED.to_owned()), ("execution_ids", id.to_owned())];
        // subscribe first, look second: no end can fall between the two
        let opened = tokio::time::timeout(STREAM_DEADLINE, context.client.events("/stream", &query)).await;
        let mut stream = opened.ok().and_then(Result::ok);
        let mut pause = if stream.is_some() { SAFEGUARD_PAUSE } else { FIRST_PAUSE };
        let mut next_dot = Instant::now() + DOT_EVERY;
        loop {
            current = fetch(context, id, &Query::new()).await?;
            if !passes(execution::status(&current)) {
                break;
            }
            let look = Instant::now() + pause;
            pause = (pause * 3 / 2).min(LONGEST_PAUSE);
            loop {
                tokio::select! {
                    rests = rests(&mut stream, id) => if rests { break },
                    () = tokio::time::sleep_until(look) => break,
                    () = tokio::time::sleep_until(next_dot) => {
                        next_dot += DOT_EVERY;
                        if dots {
                            put(".");
                        }
                    }
                }
            }
        }
    }
    say("");
    Ok(current)
}

/// Waits for the next event; true if it says that the execution rests. Never ends without a stream.
async fn rests(stream: &mut Option<crate::http::Events>, id: &str) -> bool {
    let Some(events) = stream else { return std::future::pending().await };
    let Ok(Some(event)) = events.next().await else {
        *stream = None;
        return false;
    };
    let body: Value = serde_json::from_str(&event.data).unwrap_or_default();
    event.name == UPDATED && body.get("id").and_then(Value::as_str) == Some(id) && !passes(execution::status(&body))
}

/// `execution get`.
pub async fn get(context: &Context) -> Result<()> {
    let Some(resource) = find("execution") else { return Ok(()) };
    let ids = context.matches.all("id");
    let attributes = context.attributes().unwrap_or_else(|| execution::GET.iter().map(|n| (*n).to_owned()).collect());
    let query = if context.matches.has("exclude-result") {
        vec![("exclude_attributes", "result".to_owned())]
    } else if context.matches.all("attr") == ["all"] {
        Query::new()
    } else {
        let needed = ["action.ref", "action.runner_type", "start_timestamp", "end_timestamp", "log"];
        let names: Vec<&str> = needed.into_iter().chain(attributes.iter().map(String::as_str)).collect();
        vec![("include_attributes", names.join(","))]
    };
    for id in ids {
        match fetch(context, id, &query).await {
            Ok(document) => {
                let elapsed = execution::elapsed(&document, Utc::now());
                show(context, &document, execution::GET, &elapsed).await?;
            }
            Err(error) if error.is_not_found() => {
                verbs::say_not_found(resource, id);
                if ids.len() == 1 {
                    return Err(Error::failed(format!("Resource {id} not found.")));
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Prints an execution the way the options ask for.
pub async fn show(context: &Context, document: &Value, defaults: &[&str], elapsed: &str) -> Result<()> {
    let matches = &context.matches;
    let style = &context.style;
    if let Some(key) = matches.one("key") {
        let whole = value::pick(document, &[format!("result.{key}")]);
        say(&match style.format {
            Format::Human => match &execution::result_key(document, key) {
                Value::String(text) => text.clone(),
                other => python::repr(other).replace("\\n", "\n").replace("\\r", "\r"),
            },
            Format::Json => python::json(&whole, true),
            Format::Yaml => yaml::dump(&whole, yaml::DOCUMENT),
        });
        return Ok(());
    }
    let workflow = execution::is_workflow(document);
    if matches.has("show-tasks") && !workflow {
        return Err(Error::failed("--show-tasks option can only be used with workflow actions"));
    }
    let asked = context.attributes();
    if workflow && !matches.has("raw") && !matches.has("detail") {
        say(&execution::workflow_text(document, asked.as_deref(), style, elapsed));
        return show_tasks(context, document).await;
    }
    let names = match (&asked, matches.all("attr") == ["all"]) {
        (Some(names), _) => names.clone(),
        (None, true) => value::ordered(document, defaults),
        (None, false) => defaults.iter().map(|name| (*name).to_owned()).collect(),
    };
    say(&match style.format {
        Format::Json => python::json(&value::pick(document, &names), true),
        Format::Yaml => yaml::dump(&value::pick(document, &names), yaml::DOCUMENT),
        Format::Human if matches.has("detail") => execution::detail(document, &names, style, elapsed),
        Format::Human => execution::listing(document, &names, style, elapsed),
    });
    if matches.has("with-schema") {
        say(&format!("\n{}", schema::suggestion(document.get("result").unwrap_or(&Value::Null))));
    }
    Ok(())
}

async fn show_tasks(context: &Context, document: &Value) -> Result<()> {
    let id = document.get("id").and_then(Value::as_str).unwrap_or_default();
    let depth = context.number("depth")?.unwrap_or(-1);
    let path = format!("/executions/{}/children/", segment(id));
    let children = context.client.get(&path, &vec![("depth", depth.to_string())]).await?.list();
    if !children.is_empty() {
        say(&execution::tasks(&children, id, &context.widths()?, &context.style, Utc::now()));
    }
    Ok(())
}

/// `execution cancel`.
pub async fn cancel(context: &Context) -> Result<()> {
    for id in context.matches.all("ids") {
        let text = match context.client.delete(&format!("/executions/{}", segment(id)), &Query::new(), None).await {
            Ok(answer) if answer.body.is_null() => format!("Cannot cancel action execution with id {id}."),
            Ok(answer) => match answer.body.get("faultstring").and_then(Value::as_str) {
                Some(fault) => fault.to_owned(),
                None => format!("action execution with id {id} canceled."),
            },
            Err(Error::Http { text, .. }) => {
                let fault = text.split_once("\nMESSAGE: ").map_or(text.as_str(), |(_, fault)| fault);
                fault.rsplit_once(" for url: ").map_or(fault, |(fault, _)| fault).to_owned()
            }
            Err(error) => return Err(error),
        };
        say(&text);
    }
    Ok(())
}

/// `execution pause` and `resume`: asks for the status, shows what came of it.
pub async fn put_status(context: &Context, status: &str) -> Result<()> {
    for id in context.matches.all("ids") {
        let answer = context.client.put(&format!("/executions/{}", segment(id)), &json!({ "status": status })).await?;
        show(context, &answer.body, execution::RUN, "").await?;
    }
    Ok(())
}

/// `run REF -h`: the action's parameters.
pub async fn action_help(context: &Context, reference: &str) -> Result<()> {
    let Some(action) = action(context, reference).await? else {
        say(&format!(
            "Action \"{reference}\" is not found. Use \"st2 action list\" to see the list of available actions."
        ));
        return Ok(());
    };
    let runner = runner_parameters(context, &action).await?;
    say(&crate::output::help::action(&action, &runner));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_goes_on_until_the_execution_rests() {
        for status in ["requested", "scheduled", "delayed", "running", "canceling", "pausing", "resuming"] {
            assert!(passes(status), "{status}");
        }
        for status in ["succeeded", "failed", "timeout", "canceled", "abandoned", "paused", "pending"] {
            assert!(!passes(status), "{status}");
        }
    }
}
