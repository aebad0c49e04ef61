//! Rules and rule types (spec/api.md §7.6, spec/rules.md §6).

use auth::Target;
use content::checks;
use domain::rules::{self, RuleInput};
use model::{Id, Object, Rule, Versioned};
use serde_json::{Value, json};
use store::{Cond, Order};

use crate::context::Ctx;
use crate::http::list::{Attributes, Filter, List, ListSpec, Projection};
use crate::http::{ApiError, Reply};
use crate::webhooks::WEBHOOK_TYPE;

pub(crate) const SPEC: ListSpec = ListSpec {
    default_limit: None,
    filters: &[
        ("name", Filter::Text("name")),
        ("pack", Filter::Text("pack")),
        ("action", Filter::Text("action")),
        ("trigger", Filter::Text("trigger")),
        ("enabled", Filter::Boolean("enabled")),
    ],
    sortable: &[],
    order: &[Order::Asc("pack"), Order::Asc("name")],
    attributes: Attributes::with_ref(
        &[
            "id",
            "uid",
            "ref",
            "pack",
            "name",
            "description",
            "type",
            "trigger",
            "criteria",
            "action",
            "enabled",
            "context",
            "tags",
            "metadata_file",
        ],
        &[],
    ),
    offset: false,
};

/// The rule of a request body; it runs as the caller.
fn input(ctx: &Ctx, default_pack: &str) -> Result<RuleInput, ApiError> {
    let mut input = checks::rule(&ctx.any_object()?, default_pack)?;
    input.context.insert("user".to_owned(), ctx.identity.user.as_str().into());
    Ok(input)
}

/// 403 unless the caller may have this rule, its action and its webhook (spec/auth-rbac.md §8).
fn require(ctx: &Ctx, permission: &str, input: &RuleInput) -> Result<(), ApiError> {
    ctx.require(permission, Target::in_pack("rule", &input.pack, &input.name))?;
    let user = &ctx.identity.user;
    if input.trigger_type == WEBHOOK_TYPE {
        let url = input.trigger_parameters.get("url").and_then(Value::as_str).unwrap_or_default();
        ctx.require("webhook_create", Target::webhook(url)).map_err(|_| {
            ApiError::forbidden(format!(
                "User \"{user}\" doesn't have required permission (webhook_create) to use trigger {WEBHOOK_TYPE}"
            ))
        })?;
    }
    let action = &input.action.reference;
    ctx.require("action_execute", Target::action(action)).map_err(|_| {
        ApiError::forbidden(format!(
            "User \"{user}\" doesn't have required (action_execute) permission to use action {action}"
        ))
    })
}

/// The rules that the caller sees.
fn only_own(ctx: &Ctx, list: &mut List) {
    if let Some(user) = ctx.only_user() {
        list.find.conds.push(Cond::Eq("user", user.into()));
    }
}

/// `GET /rules`.
pub async fn list(ctx: Ctx) -> Result<Reply, ApiError> {
    let mut list = SPEC.parse(&ctx)?;
    only_own(&ctx, &mut list);
    let (rows, total) = list.fetch::<Rule>(&ctx).await?;
    let show_secrets = ctx.show_secrets()?;
    let mut items = Vec::with_capacity(rows.len());
    for rule in &rows {
        items.push(rules::to_api(ctx.services(), rule, show_secrets).await?);
    }
    list.reply(items, total)
}

/// `GET /rules/{ref}`.
pub async fn get(ctx: Ctx) -> Result<Reply, ApiError> {
    let rule = ctx.by_ref::<Rule>(ctx.params.get("ref")).await?;
    let object = rules::to_api(ctx.services(), &rule, ctx.show_secrets()?).await?;
    if !object.contains_key("trigger") {
        return Err(ApiError::not_found(format!("Missing TriggerDB object for rule {}.", rule.reference)));
    }
    let shown = Projection::parse(&ctx, &SPEC.attributes)?.apply(&SPEC.attributes, object);
    Ok(Reply::json(&shown)?.version(rule.rev))
}

/// `POST /rules`.
pub async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    let input = input(&ctx, "default")?;
    require(&ctx, "rule_create", &input)?;
    let rule = rules::create(ctx.services(), input).await?;
    tracing::info!(rule = rule.reference, user = ctx.identity.user, "rule created");
    Reply::created(&rules::to_api(ctx.services(), &rule, true).await?)
}

/// `PUT /rules/{id}`: replaces the rule; takes only the id.
pub async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    let text = ctx.params.get("id");
    let old: Versioned<Rule> = ctx.unchanged(ctx.by_ref(text).await?)?;
    if text.parse::<Id>().is_err() {
        return Err(ApiError::bad_request(format!("ValidationError (RuleDB:{text}) (Invalid ObjectID: ['id'])")));
    }
    let input = input(&ctx, &old.pack)?;
    // The stored rule was looked at by its path; what it becomes has to be the caller's to change as well.
    require(&ctx, "rule_modify", &input)?;
    let rule = rules::replace_version(ctx.services(), old.id, ctx.expected(&old), input).await?;
    tracing::info!(rule = rule.reference, user = ctx.identity.user, "rule changed");
    Reply::json(&rules::to_api(ctx.services(), &rule, true).await?)
}

/// `DELETE /rules/{ref}`.
pub async fn delete(ctx: Ctx) -> Result<Reply, ApiError> {
    let rule = ctx.unchanged(ctx.by_ref::<Rule>(ctx.params.get("ref")).await?)?;
    rules::delete_version(ctx.services(), rule.id, ctx.expected(&rule)).await?;
    tracing::info!(rule = rule.reference, user = ctx.identity.user, "rule deleted");
    Ok(Reply::no_content())
}

/// A rule with the descriptions of its trigger and action.
async fn view(ctx: &Ctx, rule: &Rule) -> Result<Object, ApiError> {
    let services = ctx.services();
    let mut object = rules::to_api(services, rule, ctx.show_secrets()?).await?;
    let trigger_type = object.get("trigger").and_then(|trigger| trigger.get("type")).and_then(Value::as_str);
    let trigger_type = match trigger_type {
        Some(reference) => services.catalog.trigger_type(reference).await?,
        None => None,
    };
    let action = services.catalog.action(&rule.action.reference).await?;
    let descriptions = [
        ("trigger", trigger_type.and_then(|found| found.description.clone())),
        ("action", action.and_then(|found| found.description.clone())),
    ];
    for (name, description) in descriptions {
        if let (Some(Value::Object(part)), Some(text)) = (object.get_mut(name), description) {
            part.insert("description".to_owned(), text.into());
        }
    }
    Ok(object)
}

/// `GET /rules/views`.
pub async fn views(ctx: Ctx) -> Result<Reply, ApiError> {
    let mut list = SPEC.parse(&ctx)?;
    only_own(&ctx, &mut list);
    let (rows, total) = list.fetch::<Rule>(&ctx).await?;
    let mut items = Vec::with_capacity(rows.len());
    for rule in &rows {
        items.push(view(&ctx, rule).await?);
    }
    list.reply(items, total)
}

/// `GET /rules/views/{ref}`.
pub async fn view_one(ctx: Ctx) -> Result<Reply, ApiError> {
    let rule = ctx.by_ref::<Rule>(ctx.params.get("ref")).await?;
    Reply::json(&view(&ctx, &rule).await?)
}

/// The two rule types, which nobody changes; their ids are derived from their names.
fn rule_types() -> Vec<Value> {
    [
        ("standard", "standard rule that is always applicable."),
        ("backstop", "Rule that applies when no other rule has matched for a specific Trigger."),
    ]
    .into_iter()
    .map(|(name, description)| {
        let id = Id::of_content(format!("rule_type:{name}").as_bytes());
        json!({"id": id, "name": name, "description": description, "enabled": true, "parameters": {}})
    })
    .collect()
}

/// `GET /ruletypes`.
pub async fn types(_: Ctx) -> Result<Reply, ApiError> {
    Reply::json(&rule_types())
}

/// `GET /ruletypes/{id}`.
pub async fn one_type(ctx: Ctx) -> Result<Reply, ApiError> {
    let text = ctx.params.get("id");
    let found = rule_types().into_iter().find(|rule_type| rule_type["id"] == text || rule_type["name"] == text);
    Reply::json(&found.ok_or_else(|| ApiError::unknown_id(text))?)
}
