//! `st2 key`: the datastore.

use serde_json::{Map, Value, json};

use crate::context::{Context, load_file, say};
use crate::error::{Error, Result};
use crate::http::{Query, segment};
use crate::output::python;
use crate::resources::find;
use crate::verbs;

/// `key get`.
pub async fn get(context: &Context) -> Result<()> {
    let Some(resource) = find("key") else { return Ok(()) };
    let scope = context.matches.one("scope").unwrap_or("system");
    let query = vec![("decrypt", context.matches.has("decrypt").to_string()), ("scope", scope.to_owned())];
    verbs::each(context, resource, "name", &query, |document| {
        context.show(&document, resource.order, true);
        Ok(())
    })
    .await
}

/// `key set`.
pub async fn set(context: &Context) -> Result<()> {
    let matches = &context.matches;
    let name = context.argument("name")?;
    let value = match matches.one("value") {
        Some(value) => value.to_owned(),
        None => ask_value()?,
    };
    let mut body = json!({
        "name": name,
        "scope": matches.one("scope").unwrap_or("system"),
        "user": matches.one("user"),
        "value": value,
    });
    if matches.has("encrypt") {
        body["secret"] = json!(true);
    }
    if matches.has("encrypted") {
        body["encrypted"] = json!(true);
    }
    if let Some(ttl) = context.number("ttl")? {
        body["ttl"] = json!(ttl);
    }
    let answer = context.client.put(&format!("/keys/{}", segment(name)), &body).await?;
    context.show(&answer.body, &["name", "value", "scope", "expire_timestamp"], true);
    Ok(())
}

fn ask_value() -> Result<String> {
    crate::context::put("Please insert value for key: ");
    let mut line = String::new();
    match std::io::stdin().read_line(&mut line) {
        Ok(0) => Err(Error::failed("EOF when reading a line")),
        Ok(_) => Ok(line.trim_end_matches(['\n', '\r']).to_owned()),
        Err(error) => Err(Error::failed(error.to_string())),
    }
}

/// `key delete`.
pub async fn delete(context: &Context) -> Result<()> {
    let Some(resource) = find("key") else { return Ok(()) };
    let name = context.argument("name")?;
    let mut query: Query = vec![("scope", context.matches.one("scope").unwrap_or("system").to_owned())];
    if let Some(user) = context.matches.one("user") {
        query.push(("user", user.to_owned()));
    }
    match context.client.delete(&format!("/keys/{}", segment(name)), &query, None).await {
        Ok(_) => {
            say(&format!("Resource with id \"{name}\" has been successfully deleted."));
            Ok(())
        }
        Err(error) if error.is_not_found() => {
            verbs::say_not_found(resource, name);
            Err(Error::Exit(2))
        }
        Err(error) => Err(error),
    }
}

/// `key delete_by_prefix`.
pub async fn delete_by_prefix(context: &Context) -> Result<()> {
    let Some(prefix) = context.matches.one("prefix").filter(|prefix| !prefix.is_empty()) else {
        return Err(Error::Operation("the following arguments are required: -p/--prefix".to_owned()));
    };
    let found = context.client.get("/keys", &vec![("prefix", prefix.to_owned())]).await?.list();
    let mut deleted = Vec::new();
    for key in &found {
        let Some(name) = key.get("name").and_then(Value::as_str) else { continue };
        match context.client.delete(&format!("/keys/{}", segment(name)), &Query::new(), None).await {
            Ok(_) => deleted.push(name),
            // gone in the meantime is as good as deleted
            Err(Error::Http { status: 404, .. }) => deleted.push(name),
            Err(Error::Http { text, .. }) => say(&format!("Failed to delete key \"{name}\": {text}")),
            Err(error) => return Err(error),
        }
    }
    say(&format!("Deleted {} keys", deleted.len()));
    say(&format!("Deleted key ids: {}", deleted.join(", ")));
    Ok(())
}

/// `key load`.
pub async fn load(context: &Context) -> Result<()> {
    let loaded = load_file(context.argument("file")?)?;
    let items = match loaded {
        Value::Array(items) => items,
        item => vec![item],
    };
    let mut bodies = Vec::new();
    for item in &items {
        bodies.push(body(item, context.matches.has("convert"))?);
    }
    for body in &bodies {
        let name = body.get("name").and_then(Value::as_str).unwrap_or_default();
        context.client.put(&format!("/keys/{}", segment(name)), &Value::Object(body.clone())).await?;
    }
    let columns = ["name", "value", "secret", "scope", "user", "ttl"].map(str::to_owned);
    let shown: Vec<Value> = bodies.into_iter().map(Value::Object).collect();
    context.show_list(&shown, &columns)?;
    Ok(())
}

/// One entry of a file as the server takes it; every entry is checked before the first is sent.
fn body(item: &Value, convert: bool) -> Result<Map<String, Value>> {
    let Some(name) = item.get("name").and_then(Value::as_str) else {
        return Err(Error::failed("every key in the file needs a \"name\""));
    };
    let value = match item.get("value") {
        Some(Value::String(text)) => text.clone(),
        Some(other) if convert => match other {
            Value::Array(_) | Value::Object(_) => compact(other),
            other => other.to_string(),
        },
        Some(_) => {
            return Err(Error::failed(format!(
                "Item \"{name}\" has a value that isn't a text; use -c/--convert to turn it into JSON"
            )));
        }
        None => return Err(Error::failed(format!("key \"{name}\" has no \"value\""))),
    };
    let mut body = Map::new();
    body.insert("name".to_owned(), json!(name));
    body.insert("value".to_owned(), json!(value));
    body.insert("scope".to_owned(), item.get("scope").cloned().unwrap_or_else(|| json!("system")));
    for key in ["user", "secret", "encrypted", "ttl"] {
        if let Some(value) = item.get(key).filter(|value| !python::is_falsy(value)) {
            body.insert(key.to_owned(), value.clone());
        }
    }
    Ok(body)
}

/// JSON on one line with a blank behind commas and colons.
fn compact(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(compact).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let entries: Vec<_> =
                map.iter().map(|(key, value)| format!("{}: {}", json!(key), compact(value))).collect();
            format!("{{{}}}", entries.join(", "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_checked_and_converted() {
        let item = json!({"name": "k", "value": {"a": [1, "b"]}, "secret": true, "ttl": 5});
        assert!(body(&item, false).unwrap_err().to_string().contains("\"k\""));
        let sent = Value::Object(body(&item, true).unwrap());
        assert_eq!(
            sent,
            json!({"name": "k", "value": "{\"a\": [1, \"b\"]}", "scope": "system", "secret": true, "ttl": 5})
        );
        assert!(body(&json!({"value": "x"}), true).is_err());
    }
}
