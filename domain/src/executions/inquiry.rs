//! Inquiries: executions that wait for somebody's answer (spec/runners.md §16.3, spec/api.md §7.3).

use std::sync::Arc;
use std::time::Duration;

use model::{Execution, Id, Object, ResultValue, Status, Timestamp, Versioned};
use serde_json::{Value, json};
use store::StoreExt;

use super::follow_up;
use super::run::{advance, update};
use crate::{DomainError, Services, view, workflows};

/// Workflows within workflows that are followed upwards.
const MAX_LEVELS: usize = 100;

/// The runner type whose executions are inquiries.
pub const RUNNER: &str = "inquirer";

/// What an inquiry asks, as its execution's result holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct Inquiry {
    /// What an answer has to fit.
    pub schema: Object,
    pub route: String,
    /// Who may answer: one of these roles, and one of these users. An empty list lets everybody.
    pub roles: Vec<String>,
    pub users: Vec<String>,
    /// Minutes; none if it waits for ever.
    pub ttl: Option<u64>,
    shown: Value,
}

impl Inquiry {
    /// Of an execution's result.
    pub fn of(result: &Value) -> Self {
        let texts = |key: &str| {
            let texts = result.get(key).and_then(Value::as_array).into_iter().flatten();
            texts.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        Self {
            schema: result.get("schema").and_then(Value::as_object).cloned().unwrap_or_default(),
            route: result.get("route").and_then(Value::as_str).unwrap_or_default().to_owned(),
            roles: texts("roles"),
            users: texts("users"),
            ttl: result.get("ttl").and_then(Value::as_u64).filter(|ttl| *ttl > 0),
            shown: result.get("ttl").cloned().unwrap_or_default(),
        }
    }

    /// In API shape (spec/model.md §8.27).
    pub fn to_api(&self, id: Id) -> Object {
        Object::from_iter([
            ("id".to_owned(), json!(id)),
            ("route".to_owned(), json!(self.route)),
            ("ttl".to_owned(), self.shown.clone()),
            ("users".to_owned(), json!(self.users)),
            ("roles".to_owned(), json!(self.roles)),
            ("schema".to_owned(), json!(self.schema)),
        ])
    }

    /// Whether it has waited for more whole minutes than it should (spec/scheduling.md §9).
    pub fn is_over(&self, since: Timestamp, now: Timestamp) -> bool {
        self.ttl.is_some_and(|ttl| now.since(since) >= Duration::from_secs(60).saturating_mul(minutes(ttl) + 1))
    }
}

fn minutes(ttl: u64) -> u32 {
    u32::try_from(ttl).unwrap_or(u32::MAX - 1)
}

/// What an inquiry asks; its result may be a blob.
pub async fn read(services: &Services, execution: &Execution) -> Result<Inquiry, DomainError> {
    Ok(Inquiry::of(&view::result(services, execution).await?))
}

/// The claimed execution waits for an answer from now on, and nobody holds it.
///
/// Its workflow is told before that is written: were the node lost in between, the execution would be decided, and the
/// workflow would hear of that. A canceled one ends.
pub async fn pend(
    services: &Services,
    claimed: &Versioned<Execution>,
    result: Value,
) -> Result<Arc<Versioned<Execution>>, DomainError> {
    let (attempt, holder) = (claimed.attempt, claimed.claim.clone());
    let follows = follow_up::needed(services, claimed).await?;
    let size = result.to_string().len() as u64;
    let result = ResultValue::Inline(result);
    if claimed.workflow_execution.is_some() {
        let mut waiting = claimed.clone();
        waiting.doc.status = Status::Pending;
        waiting.doc.result = Some(result.clone());
        workflows::tell(services, &waiting).await?;
    }
    update(services, claimed.id, |execution, now| {
        if execution.attempt != attempt || execution.claim != holder || execution.status.is_completed() {
            return Err(DomainError::Superseded(format!("attempt {attempt} of {} is over", execution.id)));
        }
        if execution.status == Status::Canceling {
            advance(execution, Status::Canceled, now)?;
            execution.postrun_pending = follows;
        } else {
            advance(execution, Status::Pending, now)?;
            execution.claim = None;
            execution.check_at = None;
        }
        execution.result = Some(result.clone());
        execution.result_size = size;
        Ok(true)
    })
    .await
}

/// Ends a waiting inquiry with an answer that was checked. [`DomainError::Superseded`] if it doesn't wait any more:
/// one of an answer and a time-out wins.
pub async fn answer(
    services: &Services,
    inquiry: &Execution,
    response: &Object,
    user: &str,
) -> Result<Arc<Versioned<Execution>>, DomainError> {
    let mut result = view::result(services, inquiry).await?;
    if let Value::Object(result) = &mut result {
        result.insert("response".to_owned(), Value::Object(response.clone()));
    }
    let answered = end(services, inquiry, Status::Succeeded, Some(result)).await?;
    // The answer is stored: who gave it isn't told that only this note failed.
    if let Err(error) = note_resumer(services, inquiry, user).await {
        tracing::warn!(inquiry = %inquiry.id, %error, "who answered isn't noted in the workflow");
    }
    Ok(answered)
}

async fn note_resumer(services: &Services, inquiry: &Execution, user: &str) -> Result<(), DomainError> {
    let Some(root) = root_of(services, inquiry).await? else { return Ok(()) };
    update(services, root, |execution, _| {
        execution.context.insert("resumed_by".to_owned(), user.into());
        Ok(true)
    })
    .await?;
    Ok(())
}

/// The workflow at the root, which goes on by the answer.
async fn root_of(services: &Services, inquiry: &Execution) -> Result<Option<Id>, DomainError> {
    let mut root = inquiry.parent;
    for _ in 0..MAX_LEVELS {
        let Some(id) = root else { return Ok(None) };
        match services.store.read::<Execution>(id).await?.and_then(|execution| execution.parent) {
            Some(parent) => root = Some(parent),
            None => return Ok(Some(id)),
        }
    }
    Ok(None)
}

/// Ends a waiting inquiry that nobody answered, or whose workflow doesn't need it any more.
pub async fn give_up(
    services: &Services,
    inquiry: &Execution,
    status: Status,
) -> Result<Arc<Versioned<Execution>>, DomainError> {
    end(services, inquiry, status, None).await
}

async fn end(
    services: &Services,
    inquiry: &Execution,
    status: Status,
    result: Option<Value>,
) -> Result<Arc<Versioned<Execution>>, DomainError> {
    let follows = follow_up::needed(services, inquiry).await?;
    update(services, inquiry.id, |execution, now| {
        if execution.status != Status::Pending {
            return Err(DomainError::Superseded(format!("{} doesn't wait for an answer", execution.id)));
        }
        advance(execution, status, now)?;
        if let Some(result) = &result {
            execution.result_size = result.to_string().len() as u64;
            execution.result = Some(ResultValue::Inline(result.clone()));
        }
        execution.postrun_pending = follows;
        Ok(true)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_for_whole_minutes() {
        let now = Timestamp::from_micros(1_700_000_000_000_000);
        let two = Inquiry::of(&json!({"ttl": 2}));
        assert!(!two.is_over(now, now.plus(Duration::from_secs(179))));
        assert!(two.is_over(now, now.plus(Duration::from_secs(180))));
        for ttl in [json!(0), json!(-1), json!(u64::MAX), Value::Null] {
            let ever = Inquiry::of(&json!({ "ttl": ttl }));
            assert!(!ever.is_over(now, now.plus(Duration::from_secs(1_000_000))), "{ttl}");
            assert_eq!(ever.to_api(Id::fresh(now))["ttl"], ttl);
        }
    }
}
