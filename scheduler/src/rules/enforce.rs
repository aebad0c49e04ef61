//! What a match makes: an execution and a record, or a record of why there is none (spec/rules.md §13).

use domain::executions::{Prepared, Request, prepare};
use domain::{DomainError, Services};
use model::{Cause, EnforcedRule, Id, InstanceStatus, Object, Rule, RuleEnforcement, TriggerInstance};
use serde_json::{Value, json};

use super::compiled::{CompiledRule, RulesOfTrigger};

/// What one rule comes to.
#[derive(Debug)]
pub(super) struct Enforced {
    pub record: RuleEnforcement,
    /// Also set when the execution is stored as failed; the record then doesn't name it.
    pub execution: Option<Prepared>,
}

/// What all executions of one instance have in common.
#[derive(Debug)]
pub(super) struct Origin {
    instance: Value,
    trace_context: Value,
}

impl Origin {
    pub(super) fn of(instance: &TriggerInstance) -> Self {
        let mut shown = instance.clone();
        shown.status = InstanceStatus::Processing;
        Self { instance: Value::Object(shown.to_api()), trace_context: trace_context(instance) }
    }
}

/// The trace of the instance: the one it was sent with, else its own.
fn trace_context(instance: &TriggerInstance) -> Value {
    json!({"id_": instance.trace(), "trace_tag": instance.trace_tag()})
}

/// Prepares the execution of a rule that matched. Errors are the store's; everything else becomes the record.
pub(super) async fn enforce(
    services: &Services,
    of: &RulesOfTrigger,
    matched: &CompiledRule,
    instance: &TriggerInstance,
    cause: &Origin,
) -> Result<Enforced, DomainError> {
    let rule = &matched.rule;
    if services.catalog.action(&rule.action.reference).await?.is_none() {
        let reason = format!("Action \"{}\" doesn't exist", rule.action.reference);
        return Ok(Enforced { record: record(services, rule, instance, Err(reason)), execution: None });
    }
    match prepare(services, request(services, of, matched, instance, cause)).await {
        Ok(execution) => {
            let outcome = execution.failure.clone().map_or(Ok(execution.execution.id), Err);
            Ok(Enforced { record: record(services, rule, instance, outcome), execution: Some(execution) })
        }
        Err(error @ DomainError::Store(_)) => Err(error),
        Err(error) => {
            Ok(Enforced { record: record(services, rule, instance, Err(error.to_string())), execution: None })
        }
    }
}

fn request(
    services: &Services,
    of: &RulesOfTrigger,
    matched: &CompiledRule,
    instance: &TriggerInstance,
    cause: &Origin,
) -> Request {
    let rule = &matched.rule;
    let mut context = Object::new();
    context.insert("trigger_instance".to_owned(), json!({"id": instance.id, "name": null}));
    context.insert("rule".to_owned(), json!({"id": rule.id, "name": rule.name}));
    // Not the rule's owner.
    context.insert("user".to_owned(), services.settings.system_user.as_str().into());
    context.insert("trace_context".to_owned(), cause.trace_context.clone());
    let mut vars = Object::new();
    vars.insert("trigger".to_owned(), instance.payload.clone());
    let id = Id::derive("rule-execution", instance.occurrence_time, &[&rule.id.to_string(), &instance.id.to_string()]);
    Request {
        action: rule.action.reference.clone(),
        parameters: rule.action.parameters.clone(),
        context,
        cause: Some(Box::new(Cause {
            rule_ref: rule.reference.clone(),
            rule_name: rule.name.clone(),
            trigger_name: of.trigger_name.clone(),
            trigger_type_name: of.trigger_type_name.clone(),
            trigger_instance_id: instance.id,
            rule: matched.snapshot.id,
            trigger: of.trigger_snapshot.id,
            trigger_type: of.trigger_type_snapshot.id,
            trigger_instance: cause.instance.clone(),
        })),
        id: Some(id),
        snapshots: vec![matched.snapshot.clone(), of.trigger_snapshot.clone(), of.trigger_type_snapshot.clone()],
        strict: true,
        vars,
        ..Request::default()
    }
}

fn record(
    services: &Services,
    rule: &Rule,
    instance: &TriggerInstance,
    outcome: Result<Id, String>,
) -> RuleEnforcement {
    let parts = [rule.id.to_string(), instance.id.to_string()];
    let id = Id::derive("rule-enforcement", instance.occurrence_time, &[&parts[0], &parts[1]]);
    record_of(services, id, rule, instance, outcome)
}

/// The record of a criterion that raised; the rule may raise several times.
pub(super) fn failure(
    services: &Services,
    rule: &Rule,
    instance: &TriggerInstance,
    nth: usize,
    reason: String,
) -> RuleEnforcement {
    let parts = [rule.id.to_string(), instance.id.to_string(), nth.to_string()];
    let id = Id::derive("rule-failure", instance.occurrence_time, &[&parts[0], &parts[1], &parts[2]]);
    record_of(services, id, rule, instance, Err(reason))
}

fn record_of(
    services: &Services,
    id: Id,
    rule: &Rule,
    instance: &TriggerInstance,
    outcome: Result<Id, String>,
) -> RuleEnforcement {
    let (execution_id, failure_reason) = match outcome {
        Ok(execution) => (Some(execution), None),
        Err(reason) => (None, Some(reason)),
    };
    RuleEnforcement {
        id,
        trigger_instance_id: instance.id,
        execution_id,
        status: if failure_reason.is_some() { "failed" } else { "succeeded" }.to_owned(),
        failure_reason,
        rule: EnforcedRule { reference: rule.reference.clone(), id: rule.id, uid: rule.uid.clone() },
        enforced_at: services.now(),
    }
}
