//! The one place that lets a request pass: each row of the route table names a permission, and this finds the
//! resource that its path names, and asks the decider ([`auth::Grants`]).
//!
//! Where the body names the resource, the row says [`Need::Checked`](crate::http::route::Need) and its handler asks
//! [`Ctx::require`](crate::context::Ctx::require); a handler that succeeds without having asked fails the request.

use auth::rbac::permissions::{is_global, kind_of};
use auth::{Grants, Target};
use domain::Services;
use model::{
    Action, ActionAlias, ApiKey, Execution, Id, Pack, Policy, Resource, Rule, RuleEnforcement, RunnerType, SensorType,
    Trigger, Versioned,
};
use store::{Order, Query, StoreExt};

use super::Identity;
use crate::http::ApiError;
use crate::http::route::Params;

/// A resource with what decides on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The resource as refusals name it.
    pub uid: String,
    /// What grants name: for executions the action, for enforcements the rule.
    pub target: Target,
    /// Whose it is, where isolation applies.
    pub owner: Option<String>,
}

impl Subject {
    fn plain(uid: impl Into<String>) -> Self {
        let uid = uid.into();
        Self { target: Target::plain(uid.clone()), uid, owner: None }
    }

    fn of(target: Target) -> Self {
        Self { uid: target.uid.clone(), target, owner: None }
    }

    /// An execution: whoever may look at its action may look at it.
    pub fn execution(execution: &Execution) -> Self {
        Self {
            uid: format!("execution:{}", execution.id),
            target: Target::action(&execution.action),
            owner: Some(execution.user().unwrap_or_default().to_owned()),
        }
    }
}

/// "User … doesn't have required permission …".
pub fn refused(user: &str, permission: &str, uid: Option<&str>) -> ApiError {
    let on = uid.filter(|_| !is_global(permission)).map(|uid| format!(" on resource \"{uid}\"")).unwrap_or_default();
    ApiError::forbidden(format!("User \"{user}\" doesn't have required permission \"{permission}\"{on}"))
}

/// 403 unless the caller has a global permission.
pub fn require_global(identity: &Identity, permission: &str) -> Result<(), ApiError> {
    if identity.grants.may(permission) { Ok(()) } else { Err(refused(&identity.user, permission, None)) }
}

/// 403 unless the caller has the permission on this resource, and sees it at all.
pub fn require_on(identity: &Identity, permission: &str, subject: &Subject) -> Result<(), ApiError> {
    if !identity.grants.may_on(permission, &subject.target) {
        return Err(refused(&identity.user, permission, Some(&subject.uid)));
    }
    match &subject.owner {
        Some(owner) if identity.isolated && *owner != identity.user => Err(ApiError::forbidden(format!(
            "User \"{}\" doesn't have access to resource \"{}\" due to resource permission isolation.",
            identity.user, subject.uid
        ))),
        _ => Ok(()),
    }
}

/// Before the handler: 403 unless the caller has the row's permission on what the path names, 404 if that isn't
/// there.
pub async fn check(
    services: &Services,
    identity: &Identity,
    permission: &str,
    params: &Params,
) -> Result<(), ApiError> {
    if identity.grants.is_admin() {
        return Ok(());
    }
    let Some((_, text)) = params.0.first().filter(|_| !is_enough(&identity.grants, permission)) else {
        return require_global(identity, permission);
    };
    let Some(kind) = kind_of(permission) else { return Err(refused(&identity.user, permission, None)) };
    let subject = find(services, identity, kind.name, text).await?;
    require_on(identity, permission, &subject)
}

/// Whether the permission is decided without a resource. Those of inquiries are global and of the workflow's action.
fn is_enough(grants: &Grants, permission: &str) -> bool {
    is_global(permission) && (!permission.starts_with("inquiry_") || grants.may(permission))
}

/// Kinds of resources that a path's first parameter names.
pub const IN_PATHS: [&str; 17] = [
    "action",
    "action_alias",
    "api_key",
    "execution",
    "inquiry",
    "pack",
    "policy",
    "policy_type",
    "rule",
    "rule_enforcement",
    "runner_type",
    "sensor_type",
    "timer",
    "trace",
    "trigger",
    "webhook",
    "stream",
];

/// The resource that a path names.
async fn find(services: &Services, identity: &Identity, kind: &str, text: &str) -> Result<Subject, ApiError> {
    let lost = || ApiError::unknown_ref(text);
    match kind {
        "action" => {
            let action = by_ref::<Action>(services, text).await?.ok_or_else(lost)?;
            Ok(Subject::of(Target::in_pack("action", &action.pack, &action.name)))
        }
        "action_alias" => {
            let alias = by_ref::<ActionAlias>(services, text).await?.ok_or_else(lost)?;
            Ok(Subject::of(Target::in_pack("action_alias", &alias.pack, &alias.name)))
        }
        "sensor_type" => {
            let sensor = by_ref::<SensorType>(services, text).await?.ok_or_else(lost)?;
            Ok(Subject::of(Target::in_pack("sensor_type", &sensor.pack, &sensor.name)))
        }
        "policy" => {
            let policy = by_ref::<Policy>(services, text).await?.ok_or_else(lost)?;
            Ok(Subject::of(Target::in_pack("policy", &policy.pack, &policy.name)))
        }
        "rule" => {
            let rule = by_ref::<Rule>(services, text).await?.ok_or_else(lost)?;
            let owner = rule.context.get("user").and_then(|user| user.as_str()).unwrap_or_default();
            let target = Target::in_pack("rule", &rule.pack, &rule.name);
            Ok(Subject { owner: Some(owner.to_owned()), ..Subject::of(target) })
        }
        "execution" => Ok(Subject::execution(&execution(services, identity, text).await?.doc)),
        "inquiry" => inquiry(services, identity, text).await,
        "rule_enforcement" => {
            let row = by_id::<RuleEnforcement>(services, text).await?;
            let row = row.ok_or_else(|| ApiError::unknown_id(text))?;
            let (pack, name) = row.rule.reference.split_once('.').unwrap_or_default();
            Ok(Subject {
                uid: format!("rule_enforcement:{}", row.id),
                ..Subject::of(Target::in_pack("rule", pack, name))
            })
        }
        "runner_type" => {
            let name = match by_id::<RunnerType>(services, text).await? {
                Some(runner) => runner.doc.name,
                None => text.to_owned(),
            };
            Ok(Subject::plain(format!("runner_type:{name}")))
        }
        "pack" => {
            let reference = match by_id::<Pack>(services, text).await? {
                Some(pack) => pack.doc.reference,
                None => text.to_owned(),
            };
            Ok(Subject::of(Target::pack(&reference)))
        }
        "timer" | "trigger" => {
            let trigger = by_ref::<Trigger>(services, text).await?.ok_or_else(lost)?;
            Ok(Subject::plain(match kind {
                "timer" => format!("timer:{}:{}", trigger.pack, trigger.name),
                _ => trigger.doc.uid,
            }))
        }
        "api_key" => api_key(services, text).await,
        "policy_type" => Ok(Subject::plain(format!("policy_type:{}", text.replacen('.', ":", 1)))),
        "webhook" => Ok(Subject::of(Target::webhook(text))),
        "trace" => Ok(Subject::plain(text.parse().map_or_else(|_| "trace:".to_owned(), model::trace::uid_of))),
        // Kinds whose resources are named by what the path holds.
        _ => Ok(Subject::plain(format!("{kind}:{text}"))),
    }
}

/// Responding is for whoever may run the workflow that asks.
async fn inquiry(services: &Services, identity: &Identity, text: &str) -> Result<Subject, ApiError> {
    let asks = execution(services, identity, text).await?;
    let parent = match asks.parent {
        Some(parent) => services.store.read::<Execution>(parent).await?,
        None => None,
    };
    let target = parent.map_or_else(|| Target::plain("inquiry"), |parent| Target::action(&parent.action));
    Ok(Subject { uid: "inquiry".to_owned(), target, owner: None })
}

async fn execution(services: &Services, identity: &Identity, text: &str) -> Result<Versioned<Execution>, ApiError> {
    let found = if text == "last" {
        services.store.first::<Execution>(&newest(identity)).await?
    } else {
        by_id::<Execution>(services, text).await?
    };
    found.ok_or_else(|| ApiError::unknown_id(text))
}

/// What `last` means: the newest execution, under isolation the caller's newest.
pub fn newest(identity: &Identity) -> Query {
    let visible = if identity.isolated { Query::eq("user", identity.user.as_str()) } else { Query::all() };
    visible.order(Order::Desc("start_timestamp"))
}

/// By id or by the key itself, which no answer repeats.
async fn api_key(services: &Services, text: &str) -> Result<Subject, ApiError> {
    let found = match by_id::<ApiKey>(services, text).await? {
        Some(key) => Some(key),
        None => services.store.first::<ApiKey>(&Query::eq("key_hash", ApiKey::hash_of(text))).await?,
    };
    let key = found.ok_or_else(|| ApiError::not_found("There is no such API key."))?;
    Ok(Subject { owner: Some(key.user.clone()), ..Subject::plain(key.uid.clone()) })
}

async fn by_ref<T: Resource>(services: &Services, text: &str) -> Result<Option<Versioned<T>>, ApiError> {
    if text.contains('.') {
        return Ok(services.store.first::<T>(&Query::eq("ref", text)).await?);
    }
    by_id(services, text).await
}

async fn by_id<T: Resource>(services: &Services, text: &str) -> Result<Option<Versioned<T>>, ApiError> {
    match text.parse::<Id>() {
        Ok(id) => Ok(services.store.read::<T>(id).await?),
        Err(_) => Ok(None),
    }
}
