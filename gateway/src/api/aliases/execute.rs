//! From a chat command to an execution (spec/api.md §7.9, spec/chatops.md §4).

use domain::aliases::{self, Pattern};
use domain::executions::{self, Request};
use domain::{DomainError, rendering};
use model::{ActionAlias, Execution, Object};
use serde_json::{Value, json};
use store::{Query as Find, StoreExt};

use crate::api::executions::change::{require_action, settle_user};
use crate::api::executions::show;
use crate::context::Ctx;
use crate::http::shape::{Kind, Shape, Take, may, must};
use crate::http::{ApiError, Reply};

pub(crate) const COMMAND: Shape = Shape { fields: &[must("command", Kind::Text)], closed: false };

/// Aliases that are looked through at most.
const MAX_ALIASES: u64 = 10_000;

async fn all(ctx: &Ctx) -> Result<Vec<ActionAlias>, ApiError> {
    let find = Find::all().order(store::Order::Asc("pack")).order(store::Order::Asc("name")).limit(MAX_ALIASES);
    let found = ctx.services().store.search::<ActionAlias>(&find).await?;
    Ok(found.into_iter().map(|row| row.doc).collect())
}

/// Matching is regular expressions of strangers over text of strangers: bounded, but off the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| ApiError::internal(error.to_string()))
}

/// What a command means, owned.
struct Meant {
    alias: ActionAlias,
    display: String,
    representation: String,
    parameters: Vec<Object>,
}

async fn meant(ctx: &Ctx, command: String) -> Result<Meant, ApiError> {
    let aliases = all(ctx).await?;
    let found = blocking(move || {
        aliases::find(&aliases, &command).map(|found| Meant {
            alias: found.alias.clone(),
            display: found.format.display.to_owned(),
            representation: found.format.representation.to_owned(),
            parameters: found.parameters,
        })
    });
    found.await?.map_err(|error| ApiError::bad_request(error.to_string()))
}

/// `POST /actionalias/match`.
pub async fn find(ctx: Ctx) -> Result<Reply, ApiError> {
    let command = ctx.object(&COMMAND)?.take_text("command").unwrap_or_default();
    let found = meant(&ctx, command).await?;
    Reply::json(&json!({
        "actionalias": found.alias.to_api(), "display": found.display, "representation": found.representation,
    }))
}

/// `GET /actionalias/help`: `available` counts what matches, on whatever page.
pub async fn help(ctx: Ctx) -> Result<Reply, ApiError> {
    let page = crate::http::list::Page::parse(&ctx, Some(100), true)?;
    let pack = ctx.query.text("pack").map(str::to_owned);
    let filter = ctx.query.text("filter").map(str::to_owned);
    let aliases = all(&ctx).await?;
    let shown = blocking(move || helpstrings(&aliases, pack.as_deref(), filter.as_deref())).await??;
    let available = shown.len();
    let skip = usize::try_from(page.offset).unwrap_or(usize::MAX);
    let take = page.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let shown: Vec<Value> = shown.into_iter().skip(skip).take(take).collect();
    Reply::json(&json!({"available": available, "helpstrings": shown}))
}

fn helpstrings(aliases: &[ActionAlias], pack: Option<&str>, filter: Option<&str>) -> Result<Vec<Value>, ApiError> {
    let bad = |error: expr::pyregex::RegexError| ApiError::bad_request(format!("Invalid \"filter\": {error}"));
    let flags = expr::pyregex::Flags { ignore_case: true, ..Default::default() };
    let filter = filter.map(|text| expr::pyregex::PyRegex::new(text, flags)).transpose().map_err(bad)?;
    let mut shown = Vec::new();
    for alias in aliases.iter().filter(|alias| alias.enabled && pack.is_none_or(|pack| alias.pack == pack)) {
        for display in aliases::displays(alias) {
            if filter.as_ref().map_or(Ok(true), |filter| filter.search(display)).map_err(bad)? {
                shown.push(json!({"pack": alias.pack, "display": display, "description": alias.description}));
            }
        }
    }
    Ok(shown)
}

/// Who said something where, and where the answer goes.
struct Chat {
    user: Option<String>,
    source_channel: String,
    source_context: Value,
    notification_channel: Option<String>,
    notification_route: Option<String>,
}

impl Chat {
    fn take(body: &mut Object) -> Self {
        let text = |body: &mut Object, name| body.take_text(name).filter(|text| !text.is_empty());
        Self {
            user: body.take_text("user"),
            source_channel: body.take_text("source_channel").unwrap_or_default(),
            source_context: body.remove("source_context").unwrap_or_default(),
            notification_channel: text(body, "notification_channel"),
            notification_route: text(body, "notification_route"),
        }
    }

    fn notify(&self) -> Value {
        let route = self.notification_route.as_ref().or(self.notification_channel.as_ref());
        let data = json!({
            "user": self.user, "source_channel": self.source_channel, "source_context": self.source_context,
        });
        json!({"on-complete": {"data": data, "routes": [route]}})
    }
}

pub(crate) const EXECUTE: Shape = Shape {
    fields: &[
        must("name", Kind::Text),
        must("format", Kind::Text),
        must("command", Kind::Text),
        may("user", Kind::Text),
        must("source_channel", Kind::Text),
        may("source_context", Kind::Any),
        may("notification_channel", Kind::Text),
        may("notification_route", Kind::Text),
    ],
    closed: true,
};

/// `POST /aliasexecution`: the alias by name, as chat bots know it.
pub async fn execute(ctx: Ctx) -> Result<Reply, ApiError> {
    let mut body = ctx.object(&EXECUTE)?;
    let name = body.take_text("name").unwrap_or_default();
    let format = body.take_text("format").unwrap_or_default();
    let command = body.take_text("command").unwrap_or_default();
    let chat = Chat::take(&mut body);
    let find = Find::eq("name", name.as_str()).order(store::Order::Asc("pack"));
    let Some(alias) = ctx.services().store.first::<ActionAlias>(&find).await? else {
        let repr = model::python::repr(&Value::from(name));
        return Err(ApiError::not_found(format!("Unable to find the ActionAliasDB instance. {{'name': {repr}}}")));
    };
    require_action(&ctx, &alias.action_ref).await?;
    if !alias.enabled {
        return Err(ApiError::bad_request(format!("Action alias with name \"{name}\" is disabled.")));
    }
    if !aliases::formats(&alias).iter().any(|known| known.representation == format) {
        let fault = format!("Format string \"{format}\" is not available on the alias \"{name}\".");
        return Err(ApiError::bad_request(fault));
    }
    let parameters = blocking(move || Pattern::new(&format)?.extract(&command)).await?;
    let parameters = parameters.map_err(|error| ApiError::bad_request(error.to_string()))?;
    Reply::created(&run(&ctx, &alias, parameters, &chat).await?)
}

pub(crate) const MATCH_AND_EXECUTE: Shape = Shape {
    fields: &[
        must("command", Kind::Text),
        must("source_channel", Kind::Text),
        must("user", Kind::Text),
        may("source_context", Kind::Any),
        may("notification_channel", Kind::Text),
        may("notification_route", Kind::Text),
    ],
    closed: true,
};

/// `POST /aliasexecution/match_and_execute`: one execution for each place of the command that matches.
pub async fn match_and_execute(ctx: Ctx) -> Result<Reply, ApiError> {
    let mut body = ctx.object(&MATCH_AND_EXECUTE)?;
    let command = body.take_text("command").unwrap_or_default();
    let chat = Chat::take(&mut body);
    let found = meant(&ctx, command).await?;
    require_action(&ctx, &found.alias.action_ref).await?;
    let mut results = Vec::with_capacity(found.parameters.len());
    for parameters in found.parameters {
        results.push(run(&ctx, &found.alias, parameters, &chat).await?);
    }
    Reply::created(&json!({"results": results}))
}

/// Requests the execution and says what the bot is to say.
async fn run(ctx: &Ctx, alias: &ActionAlias, parameters: Object, chat: &Chat) -> Result<Value, ApiError> {
    let services = ctx.services();
    let user = ctx.identity.user.clone();
    let mut context = Object::new();
    context.insert("action_alias_ref".to_owned(), json!({"id": alias.id, "name": alias.name}));
    context.insert("api_user".to_owned(), json!(chat.user));
    context.insert("user".to_owned(), user.as_str().into());
    context.insert("source_channel".to_owned(), chat.source_channel.as_str().into());
    let parameters = with_immutable(ctx, alias, parameters, &context).await?;
    settle_user(ctx, &user, &mut context).await?;
    let parameters = match services.catalog.action(&alias.action_ref).await? {
        Some(action) => aliases::typed(&action.parameters, parameters),
        None => parameters,
    };
    let request = Request {
        action: alias.action_ref.clone(),
        parameters,
        context,
        notify: Some(chat.notify()),
        ..Request::default()
    };
    let execution = executions::request(services, request).await?;
    tracing::debug!(execution = %execution.id, alias = alias.reference, "requested by chat");
    answer(ctx, alias, &execution).await
}

/// Parameters that the alias fixes; 400 where the command names them too.
async fn with_immutable(
    ctx: &Ctx,
    alias: &ActionAlias,
    mut given: Object,
    context: &Object,
) -> Result<Object, ApiError> {
    if alias.immutable_parameters.is_empty() {
        return Ok(given);
    }
    let both: Vec<&str> =
        alias.immutable_parameters.keys().filter(|name| given.contains_key(*name)).map(String::as_str).collect();
    if !both.is_empty() {
        let fault = format!("Immutable arguments cannot be overriden: {}", both.join(","));
        return Err(ApiError::bad_request(fault));
    }
    let template = Value::Object(alias.immutable_parameters.clone());
    match render(ctx, &template, context).await? {
        Ok(Value::Object(fixed)) => given.extend(fixed),
        Ok(_) => {}
        Err(error) => return Err(ApiError::bad_request(error)),
    }
    Ok(given)
}

/// Renders with the caller's datastore keys. The inner error is the template's.
async fn render(ctx: &Ctx, template: &Value, vars: &Object) -> Result<Result<Value, String>, DomainError> {
    let rendered =
        rendering::with_keys(ctx.services(), &ctx.identity.user, vars, |context| expr::render(template, context));
    Ok(rendered.await?.map_err(|error| error.to_string()))
}

/// `{execution, actionalias, message?, extra?}`.
async fn answer(ctx: &Ctx, alias: &ActionAlias, execution: &Execution) -> Result<Value, ApiError> {
    let mut answer = Object::new();
    answer.insert("execution".to_owned(), Value::Object(show(ctx, execution, true).await?));
    answer.insert("actionalias".to_owned(), Value::Object(alias.to_api()));
    let bad = |field: &str, error: String| {
        let fault = format!("Cannot render \"{field}\" in field \"ack\" for alias. {error}");
        ApiError::bad_request(fault)
    };
    if let Some(format) = alias.ack.get("format").and_then(Value::as_str) {
        let rendered = rendering::with_keys(ctx.services(), &ctx.identity.user, &answer, |context| {
            expr::render_text(format, context)
        });
        let message = rendered.await?.map_err(|error| bad("format", error.to_string()))?;
        answer.insert("message".to_owned(), message.into());
    }
    if let Some(extra) = alias.ack.get("extra").filter(|extra| !extra.is_null()) {
        let rendered = render(ctx, extra, &answer).await?.map_err(|error| bad("extra", error))?;
        answer.insert("extra".to_owned(), rendered);
    }
    Ok(Value::Object(answer))
}
