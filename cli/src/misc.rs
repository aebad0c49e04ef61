//! Commands that are neither verbs of the table nor large enough for a file of their own.

use serde_json::{Value, json};

use crate::context::{Context, load_file, put, say};
use crate::error::{Error, Result};
use crate::form::Form;
use crate::http::{Query, segment};
use crate::output::{Format, value, yaml};
use crate::resources::find;
use crate::verbs;

/// `action clone`.
pub async fn clone_action(context: &Context) -> Result<()> {
    let Some(resource) = find("action") else { return Ok(()) };
    let source = context.argument("source-ref-or-id")?;
    let pack = context.argument("dest-pack-name")?;
    let name = context.argument("dest-action-name")?;
    let found = |reference: String| async move {
        match context.client.get(&format!("/actions/{}", segment(&reference)), &Query::new()).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    };
    if !found(source.to_owned()).await? {
        verbs::say_not_found(resource, source);
        return Err(Error::failed(format!("Resource {source} not found.")));
    }
    let exists = found(format!("{pack}.{name}")).await?;
    let mut overwrite = context.matches.has("force");
    if exists && !overwrite {
        put("The destination action already exists. Do you want to overwrite? (y/n): ");
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).map_err(|error| Error::failed(error.to_string()))?;
        overwrite = ["y", "yes"].contains(&answer.trim().to_lowercase().as_str());
        if !overwrite {
            say("Action is not cloned.");
            return Ok(());
        }
    }
    let body = json!({"dest_pack": pack, "dest_action": name, "overwrite": overwrite});
    let answer = context.client.post(&format!("/actions/{}/clone", segment(source)), &body).await;
    context.show(&answer.map_err(Error::into_operation)?.body, verbs::CHANGED, false);
    Ok(())
}

/// `apikey create`.
pub async fn create_api_key(context: &Context) -> Result<()> {
    let metadata = match context.matches.one("metadata") {
        None => json!({}),
        Some(text) => {
            serde_json::from_str(text).map_err(|error| Error::Operation(format!("--metadata isn't JSON: {error}")))?
        }
    };
    let mut body = json!({ "metadata": metadata });
    if let Some(user) = context.matches.one("user") {
        body["user"] = json!(user);
    }
    let answer = context.client.post("/apikeys", &body).await.map_err(Error::into_operation)?.body;
    if context.matches.has("only-key") {
        say(answer.get("key").and_then(Value::as_str).unwrap_or_default());
    } else {
        context.show(&answer, verbs::CHANGED, false);
    }
    Ok(())
}

/// `apikey load`: updates keys that are there, makes the others.
pub async fn load_api_keys(context: &Context) -> Result<()> {
    let items = match load_file(context.argument("file")?)? {
        Value::Array(items) => items,
        item => vec![item],
    };
    let mut loaded = Vec::new();
    for mut item in items {
        if let Value::Object(map) = &mut item {
            map.entry("enabled").or_insert(json!(false));
        }
        let id = item.get("id").and_then(Value::as_str).map(str::to_owned);
        let updated = match &id {
            Some(id) => context.client.put(&format!("/apikeys/{}", segment(id)), &item).await.map(Some),
            None => Ok(None),
        };
        let answer = match updated {
            Ok(Some(answer)) => answer,
            Ok(None) => context.client.post("/apikeys", &item).await?,
            Err(error) if error.is_not_found() => context.client.post("/apikeys", &item).await?,
            Err(error) => return Err(error),
        };
        loaded.push(answer.body);
    }
    context.show_list(&loaded, &["id", "user", "metadata"].map(str::to_owned))?;
    Ok(())
}

/// `inquiry respond`.
pub async fn respond(context: &Context) -> Result<()> {
    let id = context.argument("id")?;
    let inquiry = match context.client.get(&format!("/inquiries/{}", segment(id)), &Query::new()).await {
        Ok(answer) => answer.body,
        Err(error) if error.is_not_found() => {
            return Err(Error::failed(format!("Resource with id \"{id}\" doesn't exist.")));
        }
        Err(error) => return Err(error),
    };
    let response = match context.matches.one("response") {
        Some(text) => {
            serde_json::from_str(text).map_err(|error| Error::failed(format!("--response isn't JSON: {error}")))?
        }
        None => {
            let properties = inquiry.pointer("/schema/properties").and_then(Value::as_object);
            Value::Object(Form::terminal().ask(properties.unwrap_or(&serde_json::Map::new()))?)
        }
    };
    let body = json!({"id": id, "response": response});
    context.client.put(&format!("/inquiries/{}", segment(id)), &body).await?;
    say(&format!("\nResponse accepted for inquiry {id}."));
    Ok(())
}

/// `trigger-instance re-emit`.
pub async fn re_emit(context: &Context) -> Result<()> {
    let id = context.argument("id")?;
    let path = format!("/triggerinstances/{}/re_emit", segment(id));
    let answer = context.client.post(&path, &Value::Null).await?.body;
    say(answer.get("message").and_then(Value::as_str).unwrap_or_default());
    Ok(())
}

/// `sensor state`: of one sensor everything, of all of them a table.
pub async fn sensor_state(context: &Context) -> Result<()> {
    if let Some(reference) = context.matches.one("ref") {
        let path = format!("/sensortypes/{}/state", segment(reference));
        let found = context.client.get(&path, &Query::new()).await?.body;
        context.show(&found, &["ref", "state", "node", "since", "pid", "restarts", "last_error"], false);
        return Ok(());
    }
    let found = context.client.get("/sensor_states", &Query::new()).await?.list();
    let columns = ["ref", "state", "node", "since", "restarts", "last_error"].map(str::to_owned).to_vec();
    context.show_list(&found, &context.attributes().unwrap_or(columns))?;
    Ok(())
}

/// `trigger getspecs`.
pub async fn trigger_specs(context: &Context) -> Result<()> {
    let mut query = Query::new();
    if let Some(reference) = context.matches.one("ref") {
        query.push(("type", reference.to_owned()));
    }
    let found = context.client.get("/triggers/", &query).await?.list();
    let first = ["id", "name", "pack"];
    let mut columns = first.map(str::to_owned).to_vec();
    columns.extend(value::union(&found).into_iter().filter(|name| !first.contains(&name.as_str())));
    context.show_unnamed_list(&found, &columns)?;
    Ok(())
}

/// `workflow inspect`.
pub async fn inspect(context: &Context) -> Result<()> {
    let definition = match (context.matches.one("file"), context.matches.one("action")) {
        (Some(path), None) => read(path)?,
        (None, Some(reference)) => {
            let action = match context.client.get(&format!("/actions/{}", segment(reference)), &Query::new()).await {
                Ok(answer) => answer.body,
                Err(error) if error.is_not_found() => {
                    return Err(Error::failed(format!("Unable to identify action \"{reference}\".")));
                }
                Err(error) => return Err(error),
            };
            let text = |path: &str| value::at(&action, path).and_then(Value::as_str).unwrap_or_default().to_owned();
            let path = format!("actions/{}", text("entry_point"));
            let url = format!("/packs/views/file/{}/{path}", segment(&text("pack")));
            match context.client.get(&url, &Query::new()).await?.body {
                Value::String(definition) => definition,
                other => other.to_string(),
            }
        }
        _ => return Err(Error::failed("give either --file or --action")),
    };
    let errors = context.client.post("/workflows/inspect", &Value::String(definition)).await?.list();
    match errors.is_empty() {
        true => say("No errors found in workflow definition."),
        false => say(&yaml::dump(&Value::Array(errors), yaml::Layout { indent: 2, ..yaml::DOCUMENT })),
    }
    Ok(())
}

fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(path).map_err(|_| Error::failed(format!("File \"{path}\" does not exist on local system.")))
}

/// `service-registry group list`.
pub async fn registry_groups(context: &Context) -> Result<()> {
    let groups = context.client.get("/service_registry/groups", &Query::new()).await?.body;
    let groups: Vec<Value> = names(&groups).into_iter().map(|name| json!({ "group_id": name })).collect();
    context.show_list(&groups, &["group_id".to_owned()])?;
    Ok(())
}

fn names(groups: &Value) -> Vec<String> {
    let groups = groups.get("groups").and_then(Value::as_array).cloned().unwrap_or_default();
    groups.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// `service-registry member list`.
pub async fn registry_members(context: &Context) -> Result<()> {
    let groups = match context.matches.one("group-id") {
        Some(group) => vec![group.to_owned()],
        None => names(&context.client.get("/service_registry/groups", &Query::new()).await?.body),
    };
    let mut members = Vec::new();
    for group in groups {
        let path = format!("/service_registry/groups/{}/members", segment(&group));
        let answer = context.client.get(&path, &Query::new()).await?.body;
        members.extend(answer.get("members").and_then(Value::as_array).cloned().unwrap_or_default());
    }
    let columns = ["group_id", "member_id", "capabilities"].map(str::to_owned).to_vec();
    let columns = context.attributes().unwrap_or(columns);
    if context.style.format == Format::Human && members.is_empty() {
        say("No matching items found");
        return Ok(());
    }
    context.show_list(&members, &columns)?;
    Ok(())
}
