//! The verbs of the resource table.

use chrono::Utc;
use serde_json::{Value, json};

use crate::context::{Context, load_file, say};
use crate::error::{Error, Result};
use crate::http::{Query, segment};
use crate::output::{execution, table, value};
use crate::resources::{Resource, Verb};

/// What is shown first of something just made or changed.
pub const CHANGED: &[&str] = &["id", "name", "pack", "description"];

/// Carries out a verb.
pub async fn run(context: &Context, resource: &Resource, verb: Verb) -> Result<()> {
    match verb {
        Verb::List => list(context, resource).await,
        Verb::Get => get(context, resource).await,
        Verb::Create => create(context, resource).await.map_err(Error::into_operation),
        Verb::Update => update(context, resource).await,
        Verb::Delete => delete(context, resource).await,
        Verb::Enable => switch(context, resource, true).await,
        Verb::Disable => switch(context, resource, false).await,
        Verb::Clone => Err(Error::failed(format!("clone '{}' is not implemented.", resource.name))),
    }
}

async fn list(context: &Context, resource: &Resource) -> Result<()> {
    let everything =
        context.matches.all("attr") == ["all"] || (resource.name == "apikey" && context.matches.has("detail"));
    let mut columns: Vec<String> = resource.columns.iter().map(|name| (*name).to_owned()).collect();
    if context.matches.has("iftt") {
        columns = ["ref", "trigger.ref", "action.ref", "enabled"].map(str::to_owned).to_vec();
    }
    if let Some(asked) = context.attributes() {
        columns = asked;
    }
    let mut query = Query::new();
    let included = (resource.include && !everything).then(|| ("include_attributes", columns.join(",")));
    if resource.name != "execution" {
        query.extend(included.clone());
    }
    let limit = context.number("last")?.unwrap_or(50);
    if resource.last {
        query.push(("limit", limit.to_string()));
    }
    filters(context, resource, &mut query)?;
    if resource.name == "execution" {
        query.extend(included);
    }
    let filtered = resource.include || resource.last || !query.is_empty();
    let slash = if resource.slash && filtered { "/" } else { "" };
    let answer = context.client.get(&format!("{}{slash}", resource.path), &query).await?;
    let total = answer.total();
    let mut documents = answer.list();
    let count = documents.len();
    if resource.reversed || (resource.name == "key" && context.style.format != crate::output::Format::Human) {
        documents.reverse();
    }
    if resource.name == "webhook" {
        documents.iter_mut().for_each(name_webhook);
        documents
            .sort_by_key(|document| value::at(document, "url").and_then(Value::as_str).unwrap_or_default().to_owned());
    }
    if everything {
        columns = value::union(&documents);
    }
    if context.style.format == crate::output::Format::Human {
        let now = Utc::now();
        match resource.name {
            "execution" => {
                documents = documents.into_iter().map(|d| execution::for_list(d, &context.style, now)).collect()
            }
            "trace" if count == 1 && context.attributes().is_none() => {
                let text = crate::trace::text(context, &documents[0], None);
                say(&text);
                note(context, resource, total, count, 1, text.lines().last());
                return Ok(());
            }
            _ => {}
        }
    }
    // StackStorm's client prints these lists' heads even above nothing
    let shown = match resource.reversed {
        true => context.show_grid(&documents, &columns)?,
        false => context.show_list(&documents, &columns)?,
    };
    note(context, resource, total, count, limit, shown.as_deref());
    Ok(())
}

/// The remark that there is more.
fn note(context: &Context, resource: &Resource, total: Option<usize>, count: usize, limit: i64, shown: Option<&str>) {
    let Some(shown) = shown.filter(|_| resource.last && context.style.format == crate::output::Format::Human) else {
        return;
    };
    if total.is_none_or(|total| total <= count) || limit < 0 {
        return;
    }
    let what = match limit {
        1 => format!("Only one {} is", resource.nouns[0]),
        many => format!("Only first {many} {} are", resource.nouns[1]),
    };
    eprintln!("{}", table::note(&format!("Note: {what} displayed. Use -n/--last flag for more results."), shown));
}

/// A webhook is known by its URL.
fn name_webhook(document: &mut Value) {
    let url = value::at(document, "parameters.url").cloned();
    if let (Value::Object(map), Some(url)) = (document, url) {
        map.insert("url".to_owned(), url);
    }
}

fn filters(context: &Context, resource: &Resource, query: &mut Query) -> Result<()> {
    let matches = &context.matches;
    for filter in resource.filters {
        let key = filter.arg.key();
        match (matches.one(key), filter.value) {
            (Some(text), _) => query.push((filter.query, text.to_owned())),
            (None, "") => {}
            (None, value) if matches.has(key) => query.push((filter.query, value.to_owned())),
            (None, _) => {}
        }
    }
    match resource.name {
        "execution" => {
            if !matches.has("showall") {
                query.push(("parent", "null".to_owned()));
            }
            sort(context, query)?;
        }
        "trace" => sort(context, query)?,
        "key" => {
            query.push(("decrypt", matches.has("decrypt").to_string()));
            query.push(("scope", matches.one("scope").unwrap_or("all").to_owned()));
        }
        _ => {}
    }
    Ok(())
}

fn sort(context: &Context, query: &mut Query) -> Result<()> {
    let order = match context.matches.one("sort").unwrap_or("descending") {
        "asc" | "ascending" => "sort_asc",
        "desc" | "descending" => "sort_desc",
        other => return Err(Error::failed(format!("unknown sort order \"{other}\": use asc or desc"))),
    };
    query.push((order, "True".to_owned()));
    Ok(())
}

/// Tells that something isn't there.
pub fn say_not_found(resource: &Resource, id: &str) {
    say(&format!("{} \"{id}\" is not found.\n", resource.title));
}

async fn get(context: &Context, resource: &Resource) -> Result<()> {
    each(context, resource, resource.id, &Query::new(), |document| {
        let mut document = document;
        if resource.name == "webhook" {
            name_webhook(&mut document);
        }
        context.show(&document, resource.order, resource.exact);
        Ok(())
    })
    .await
}

/// Fetches each named resource and shows it. A missing one is told and passed over, unless it was the only one.
pub async fn each(
    context: &Context,
    resource: &Resource,
    argument: &str,
    query: &Query,
    mut show: impl FnMut(Value) -> Result<()>,
) -> Result<()> {
    let ids = context.matches.all(argument);
    let mut found = Vec::new();
    for id in ids {
        match context.client.get(&format!("{}/{}", resource.path, segment(id)), query).await {
            Ok(answer) => found.push(answer.body),
            Err(error) if error.is_not_found() => {
                say_not_found(resource, id);
                if ids.len() == 1 {
                    return Err(Error::failed(format!("Resource {id} not found.")));
                }
            }
            Err(error) => return Err(error),
        }
    }
    found.into_iter().try_for_each(&mut show)
}

async fn create(context: &Context, resource: &Resource) -> Result<()> {
    let body = load_file(context.argument("file")?)?;
    let answer = context.client.post(resource.path, &body).await?;
    context.show(&answer.body, CHANGED, false);
    Ok(())
}

/// Fetches what is to be changed.
pub async fn existing(context: &Context, resource: &Resource, id: &str) -> Result<Value> {
    match context.client.get(&format!("{}/{}", resource.path, segment(id)), &Query::new()).await {
        Ok(answer) => Ok(answer.body),
        Err(error) if error.is_not_found() => {
            let names = if resource.name == "action-alias" { "name" } else { "reference" };
            Err(Error::failed(format!("Resource with id or {names} \"{id}\" doesn't exist.")))
        }
        Err(error) => Err(error),
    }
}

/// The id by which the server takes changes.
fn key(document: &Value, given: &str) -> String {
    document.get("id").and_then(Value::as_str).unwrap_or(given).to_owned()
}

async fn update(context: &Context, resource: &Resource) -> Result<()> {
    let id = context.argument(resource.id)?;
    let document = existing(context, resource, id).await?;
    let mut body = load_file(context.argument("file")?)?;
    let key = key(&document, id);
    if let Value::Object(map) = &mut body {
        map.insert("id".to_owned(), json!(key));
    }
    let answer = context.client.put(&format!("{}/{}", resource.path, segment(&key)), &body).await?;
    context.show(&answer.body, CHANGED, false);
    Ok(())
}

async fn switch(context: &Context, resource: &Resource, enabled: bool) -> Result<()> {
    let id = context.argument(resource.id)?;
    let mut document = existing(context, resource, id).await?;
    let key = key(&document, id);
    if let Value::Object(map) = &mut document {
        map.insert("enabled".to_owned(), json!(enabled));
        map.shift_remove("ref");
    }
    let answer = context.client.put(&format!("{}/{}", resource.path, segment(&key)), &document).await?;
    context.show(&answer.body, CHANGED, false);
    Ok(())
}

async fn delete(context: &Context, resource: &Resource) -> Result<()> {
    let id = context.argument(resource.id)?;
    let path = format!("{}/{}", resource.path, segment(id));
    let document = match context.client.get(&path, &Query::new()).await {
        Ok(answer) => answer.body,
        Err(error) if error.is_not_found() => {
            say_not_found(resource, id);
            return Err(Error::Exit(2));
        }
        Err(error) => return Err(error),
    };
    let body = context.matches.has("remove-files").then(|| json!({"remove_files": true}));
    let path = format!("{}/{}", resource.path, segment(&key(&document, id)));
    match context.client.delete(&path, &Query::new(), body.as_ref()).await {
        // gone in the meantime is as good as deleted
        Err(error) if !error.is_not_found() => return Err(error),
        _ => {}
    }
    say(&format!("Resource with id \"{id}\" has been successfully deleted."));
    Ok(())
}
