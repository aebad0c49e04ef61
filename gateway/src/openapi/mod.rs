//! The description of the API: OpenAPI 3.1, made from the route table, the lists' and the bodies' tables.
//!
//! `GET /openapi.json` answers it, `GET /docs` shows it. [`describe`] says of each route what its table row can't: what
//! it is for, what its query takes and what it answers.

mod describe;
mod page;
mod schemas;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use bytes::Bytes;
use http::Method;
use model::Object;
use serde_json::{Map, Value, json};

use crate::context::Ctx;
use crate::http::list::{Filter, ListSpec};
use crate::http::route::{Need, Route, Service};
use crate::http::{ApiError, Reply};
use crate::table;

use describe::{Answer, Body, Doc, Kind};

pub(crate) use page::page;

/// `GET /openapi.json`.
pub async fn get(_: Ctx) -> Result<Reply, ApiError> {
    static TEXT: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(document().to_string()));
    Ok(Reply::raw("application/json", TEXT.clone()))
}

/// The whole document.
pub fn document() -> Value {
    let mut paths: BTreeMap<String, Object> = BTreeMap::new();
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for route in table::routes() {
        // Some methods of one path have other names for the same segment; a path has one.
        let path = names.entry(shape_of(&route)).or_insert_with(|| path_of(&route)).clone();
        let operation = operation(&route, &path);
        paths.entry(path).or_default().insert(route.method.as_str().to_lowercase(), operation);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Squall",
            "description": "StackStorm's REST API. Paths are those of the port that serves all services.",
            "version": env!("CARGO_PKG_VERSION"),
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}, {"api_key": []}],
        "paths": paths,
        "components": {
            "schemas": schemas::all(),
            "securitySchemes": {
                "token": {"type": "apiKey", "in": "header", "name": "X-Auth-Token"},
                "api_key": {"type": "apiKey", "in": "header", "name": "St2-Api-Key"},
                "password": {"type": "http", "scheme": "basic"},
            },
        },
    })
}

fn prefix(service: Service) -> &'static str {
    match service {
        Service::Api => "/api/v1",
        Service::Auth => "/auth/v1",
        Service::Stream => "/stream/v1",
    }
}

fn path_of(route: &Route) -> String {
    format!("{}{}", prefix(route.service), route.pattern.replace("...}", "}"))
}

/// The path without the names of its parameters.
fn shape_of(route: &Route) -> String {
    let part = |part: &str| if part.starts_with('{') { "{}".to_owned() } else { part.to_owned() };
    let parts: Vec<String> = route.pattern.split('/').map(part).collect();
    format!("{}{}", prefix(route.service), parts.join("/"))
}

fn operation(route: &Route, path: &str) -> Value {
    let doc = describe::doc(route);
    let tag = route.pattern.split('/').nth(1).filter(|tag| !tag.is_empty()).unwrap_or("root");
    let mut operation = Map::new();
    operation.insert("operationId".to_owned(), operation_id(route).into());
    operation.insert("tags".to_owned(), json!([tag]));
    operation.insert("summary".to_owned(), doc.summary.into());
    let (needs, security) = match route.need {
        Need::Open if route.pattern == "/tokens" => ("A password.".to_owned(), json!([{"password": []}])),
        Need::Open => ("Open to everybody.".to_owned(), json!([])),
        Need::Login => ("A login.".to_owned(), Value::Null),
        Need::Admin => ("An administrator's login.".to_owned(), Value::Null),
        Need::Permission(name) | Need::Checked(name) => (format!("The permission `{name}`."), Value::Null),
    };
    operation.insert("description".to_owned(), format!("Needs: {needs}").into());
    if !security.is_null() {
        operation.insert("security".to_owned(), security);
    }
    let parameters = parameters(route, path, &doc);
    if !parameters.is_empty() {
        operation.insert("parameters".to_owned(), parameters.into());
    }
    if let Some(body) = body(&doc) {
        operation.insert("requestBody".to_owned(), body);
    }
    operation.insert("responses".to_owned(), responses(route, &doc));
    Value::Object(operation)
}

fn operation_id(route: &Route) -> String {
    let words = route.pattern.split(['/', '{', '}', '.']).filter(|word| !word.is_empty());
    let mut id = route.method.as_str().to_lowercase();
    if route.service != Service::Api {
        id.push_str(prefix(route.service).split('/').nth(1).map(|name| format!("_{name}")).as_deref().unwrap_or(""));
    }
    for word in words {
        id.push('_');
        id.push_str(word);
    }
    id
}

fn parameters(route: &Route, path: &str, doc: &Doc) -> Vec<Value> {
    let mut all = Vec::new();
    for part in path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
        all.push(json!({
            "name": part, "in": "path", "required": true, "schema": {"type": "string", "minLength": 1},
        }));
    }
    let mut query = |name: &str, kind: Kind, text: &str| {
        if all.iter().any(|known: &Value| known["name"] == name && known["in"] == "query") {
            return;
        }
        let schema = match kind {
            Kind::Text | Kind::List => json!({"type": "string"}),
            Kind::Integer => json!({"type": "integer"}),
            Kind::Flag => json!({"type": "boolean"}),
        };
        let mut parameter = json!({"name": name, "in": "query", "required": false, "schema": schema});
        if !text.is_empty() {
            parameter["description"] = text.into();
        }
        all.push(parameter);
    };
    for (name, kind) in doc.query {
        query(name, *kind, if *kind == Kind::List { "A list, divided by commas." } else { "" });
    }
    if let Some(list) = doc.list {
        list_parameters(list, &mut query);
    }
    if route.method == Method::POST && route.need != Need::Open {
        all.push(json!({
            "name": "Idempotency-Key", "in": "header", "required": false,
            "description": "Names the request: one that is repeated is done once.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255},
        }));
    }
    all
}

fn list_parameters(list: &ListSpec, query: &mut impl FnMut(&str, Kind, &str)) {
    query("limit", Kind::Integer, "Size of the page; -1 for everything.");
    if list.offset {
        query("offset", Kind::Integer, "How many to skip.");
    }
    query("include_attributes", Kind::List, "Only these attributes, divided by commas.");
    query("exclude_attributes", Kind::List, "Not these attributes, divided by commas.");
    query("id", Kind::List, "At most 100 ids, divided by commas.");
    if !list.sortable.is_empty() {
        let names: Vec<&str> = list.sortable.iter().map(|(name, _)| *name).collect();
        query("sort", Kind::List, &format!("By {}; - before a name for the other way.", names.join(", ")));
    }
    for (name, filter) in list.filters {
        let text = match filter {
            Filter::Text(_) => "Equal; null for those without.",
            Filter::Texts(_) => "One of a list, divided by commas.",
            Filter::Boolean(_) => "1, true, True, 0, false or False.",
            Filter::Time(_) => "At that time, or FROM..TO.",
            Filter::After(_) => "After that time.",
            Filter::Before(_) => "Before that time.",
        };
        query(name, Kind::Text, text);
    }
}

fn body(doc: &Doc) -> Option<Value> {
    let schema = match doc.body {
        Body::None => return None,
        Body::Shape(shape) => schemas::of_shape(shape),
        Body::Object => json!({"type": "object"}),
        Body::Any => json!({}),
        Body::Text => {
            return Some(json!({"required": true, "content": {"text/plain": {"schema": {"type": "string"}}}}));
        }
    };
    Some(json!({"required": false, "content": {"application/json": {"schema": schema}}}))
}

/// What any request may be answered.
const FAULTS: [(&str, &str); 12] = [
    ("400", "The request is wrong."),
    ("401", "No valid login."),
    ("403", "Not allowed."),
    ("404", "There is no such thing."),
    ("408", "The body didn't come in time."),
    ("409", "Something else is in the way."),
    ("412", "Another version than `If-Match` names."),
    ("413", "Too large."),
    ("422", "The idempotency key was used for another request."),
    ("429", "Too many requests: see `Retry-After`."),
    ("503", "Something that the node needs is away: see `Retry-After`."),
    ("507", "No space is left."),
];

fn responses(route: &Route, doc: &Doc) -> Value {
    let mut all = Map::new();
    let described =
        |text: &str, kind: &str, schema: Value| json!({"description": text, "content": {kind: {"schema": schema}}});
    let reference = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
    let answer = match &doc.answer {
        Answer::One(name) => described("It.", "application/json", reference(name)),
        Answer::Many(name) => {
            described("A page of them.", "application/json", json!({"type": "array", "items": reference(name)}))
        }
        Answer::Object => described("An object.", "application/json", json!({"type": "object"})),
        Answer::Array => described("A list.", "application/json", json!({"type": "array"})),
        Answer::Json => described("A value.", "application/json", json!({})),
        Answer::Text => json!({"description": "Text.", "content": {"*/*": {"schema": {}}}}),
        Answer::Events => described("Server-sent events.", "text/event-stream", json!({"type": "string"})),
        Answer::Nothing => json!({"description": "Done."}),
    };
    all.insert(doc.status.to_string(), answer);
    if route.method == Method::GET {
        all.insert("304".to_owned(), json!({"description": "As `If-None-Match` knows it."}));
    }
    for (status, text) in FAULTS {
        all.entry(status).or_insert_with(|| described(text, "application/json", reference("Error")));
    }
    Value::Object(all)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_is_described_once() {
        let document = document();
        let operations: Vec<&Value> = document["paths"]
            .as_object()
            .unwrap()
            .values()
            .flat_map(|path| path.as_object().unwrap().values())
            .collect();
        assert_eq!(operations.len(), table::routes().len());
        let ids: BTreeSet<&str> = operations.iter().map(|one| one["operationId"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), operations.len(), "operation ids are unique");
    }

    #[test]
    fn references_lead_somewhere() {
        let document = document();
        let text = document.to_string();
        for part in text.split("#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(document["components"]["schemas"].get(name).is_some(), "no schema {name}");
        }
    }
}
