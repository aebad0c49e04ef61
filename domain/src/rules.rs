//! Rules and the triggers they use, changed together (spec/rules.md §3, §6).
//!
//! Rule row, trigger row and its count change in one commit; a trigger with parameters exists exactly as long as a
//! rule, enabled or not, uses it. Changes of the count alone are not announced: timers would restart.

use bus::Change;
use expr::criteria::CompiledCriteria;
use model::schema::{MASK, mask};
use model::trigger::parameters_hash;
use model::{Action, Id, Invocation, Object, Rule, Tag, Trigger, TriggerType, Versioned};
use serde_json::{Value, json};
use store::{Batch, Query, StoreError, StoreExt};

use crate::races::Races;
use crate::triggers::{announce, check_parameters, find_trigger};
use crate::{DomainError, Services};

/// A rule as the API or a pack gives it.
#[derive(Debug, Clone)]
pub struct RuleInput {
    pub name: String,
    pub pack: String,
    pub description: Option<String>,
    pub rule_type: Invocation,
    /// Trigger type ref and parameters.
    pub trigger_type: String,
    pub trigger_parameters: Object,
    pub criteria: Object,
    pub action: Invocation,
    pub enabled: bool,
    pub context: Object,
    pub tags: Vec<Tag>,
    pub metadata_file: String,
}

/// The trigger that a rule will use, and whether the commit has to make it.
struct Target {
    trigger: Versioned<Trigger>,
    is_new: bool,
}

impl Target {
    fn counts(&self) -> bool {
        !self.trigger.parameters.is_empty()
    }
}

/// Stores a new rule; its trigger is made or its count raised in the same commit.
pub async fn create(services: &Services, input: RuleInput) -> Result<Rule, DomainError> {
    check(services, &input).await?;
    let mut races = Races::default();
    loop {
        let target = target(services, &input).await?;
        let rule = rule_of(&input, Id::fresh(services.now()), &target.trigger);
        let mut batch = Batch::new();
        use_trigger(&mut batch, &target, 1);
        batch.insert(&rule);
        match services.store.commit(batch).await {
            Ok(_) => {
                made(services, &target);
                announce::<Rule>(services, Change::Create, rule.id, &rule.reference);
                return Ok(rule);
            }
            Err(error) if lost_race(&error) => races.lost(error)?,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Replaces the rule with this id, moving it from its old trigger to its new one in the same commit.
pub async fn replace(services: &Services, id: Id, input: RuleInput) -> Result<Rule, DomainError> {
    replace_version(services, id, None, input).await
}

/// As [`replace`]; [`DomainError::Superseded`] if the rule has another revision than the expected one.
pub async fn replace_version(
    services: &Services,
    id: Id,
    expected: Option<u64>,
    input: RuleInput,
) -> Result<Rule, DomainError> {
    check(services, &input).await?;
    let mut races = Races::default();
    loop {
        let Some(old) = services.store.read::<Rule>(id).await? else {
            return Err(not_found(id));
        };
        require_version(&old, expected)?;
        let target = target(services, &input).await?;
        let rule = rule_of(&input, id, &target.trigger);
        if rule == old.doc {
            return Ok(rule);
        }
        let mut batch = Batch::new();
        let mut dropped = None;
        if old.trigger != rule.trigger {
            use_trigger(&mut batch, &target, 1);
            dropped = leave_trigger(services, &mut batch, &old.trigger).await?;
        }
        batch.update(&Versioned { rev: old.rev, doc: rule.clone() });
        match services.store.commit(batch).await {
            Ok(_) => {
                made(services, &target);
                if let Some(trigger) = dropped {
                    announce::<Trigger>(services, Change::Delete, trigger.id, &trigger.reference);
                }
                announce::<Rule>(services, Change::Update, rule.id, &rule.reference);
                return Ok(rule);
            }
            Err(error) if lost_race(&error) => races.lost(error)?,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Deletes the rule, and its trigger if that has parameters and no other rule.
pub async fn delete(services: &Services, id: Id) -> Result<(), DomainError> {
    delete_version(services, id, None).await
}

/// As [`delete`]; [`DomainError::Superseded`] if the rule has another revision than the expected one.
pub async fn delete_version(services: &Services, id: Id, expected: Option<u64>) -> Result<(), DomainError> {
    let mut races = Races::default();
    loop {
        let Some(old) = services.store.read::<Rule>(id).await? else {
            return Err(not_found(id));
        };
        require_version(&old, expected)?;
        let mut batch = Batch::new();
        let dropped = leave_trigger(services, &mut batch, &old.trigger).await?;
        batch.delete::<Rule>(id, Some(old.rev));
        match services.store.commit(batch).await {
            Ok(_) => {
                if let Some(trigger) = dropped {
                    announce::<Trigger>(services, Change::Delete, trigger.id, &trigger.reference);
                }
                announce::<Rule>(services, Change::Delete, id, &old.reference);
                return Ok(());
            }
            Err(error) if lost_race(&error) => races.lost(error)?,
            Err(error) => return Err(error.into()),
        }
    }
}

fn require_version(rule: &Versioned<Rule>, expected: Option<u64>) -> Result<(), DomainError> {
    match expected {
        Some(expected) if expected != rule.rev => {
            Err(DomainError::Superseded("The rule was changed by another request at the same time.".to_owned()))
        }
        _ => Ok(()),
    }
}

fn not_found(id: Id) -> DomainError {
    DomainError::NotFound(format!("Unable to identify resource with id \"{id}\"."))
}

/// Another change of the rule or of a trigger came first; a duplicate trigger was made by another rule meanwhile.
/// A duplicate rule is the caller's to hear of.
fn lost_race(error: &StoreError) -> bool {
    let trigger = <Trigger as model::Resource>::COLLECTION.name;
    error.is_stale() || matches!(error, StoreError::Duplicate { collection, .. } if *collection == trigger)
}

async fn check(services: &Services, input: &RuleInput) -> Result<(), DomainError> {
    CompiledCriteria::compile(&input.criteria).map_err(|error| DomainError::Invalid(error.0))?;
    if let Some(trigger_type) = services.catalog.trigger_type(&input.trigger_type).await? {
        check_parameters(services, &trigger_type, &input.trigger_parameters)?;
    }
    Ok(())
}

async fn target(services: &Services, input: &RuleInput) -> Result<Target, DomainError> {
    if let Some(trigger) = find_trigger(services, &input.trigger_type, &input.trigger_parameters).await? {
        return Ok(Target { trigger, is_new: false });
    }
    let trigger_type = services.catalog.trigger_type(&input.trigger_type).await?;
    match trigger_type {
        Some(trigger_type) if !input.trigger_parameters.is_empty() => {
            let doc = trigger_for(&trigger_type, input.trigger_parameters.clone(), services.now());
            Ok(Target { trigger: Versioned { rev: 0, doc }, is_new: true })
        }
        _ => Err(DomainError::Invalid(format!(
            "Trigger \"{}\" defined in the rule does not exist in system or it's missing required \"parameters\" \
             attribute",
            input.trigger_type
        ))),
    }
}

/// A trigger with parameters: named by a UUID, in its type's pack.
fn trigger_for(trigger_type: &TriggerType, parameters: Object, now: model::Timestamp) -> Trigger {
    let name = uuid::Uuid::new_v4().to_string();
    let pack = trigger_type.pack.clone();
    Trigger {
        id: Id::fresh(now),
        uid: format!("trigger:{pack}:{name}:{}", parameters_hash(&parameters)),
        reference: format!("{pack}.{name}"),
        pack,
        name,
        description: None,
        type_ref: trigger_type.reference.clone(),
        parameters,
        ref_count: 0,
        created_at: now,
    }
}

fn use_trigger(batch: &mut Batch, target: &Target, by: i64) {
    let mut trigger = target.trigger.clone();
    trigger.doc.ref_count += by;
    if target.is_new {
        batch.insert(&trigger.doc);
    } else if target.counts() {
        batch.update(&trigger);
    }
}

/// One rule less: the trigger's count goes down, or the trigger goes.
async fn leave_trigger(
    services: &Services,
    batch: &mut Batch,
    trigger_ref: &str,
) -> Result<Option<Trigger>, DomainError> {
    let Some(mut trigger) = services.store.first::<Trigger>(&Query::eq("ref", trigger_ref)).await? else {
        return Ok(None);
    };
    if trigger.parameters.is_empty() {
        return Ok(None);
    }
    trigger.doc.ref_count -= 1;
    if trigger.ref_count > 0 {
        batch.update(&trigger);
        return Ok(None);
    }
    batch.delete::<Trigger>(trigger.id, Some(trigger.rev));
    Ok(Some(trigger.doc))
}

fn made(services: &Services, target: &Target) {
    if target.is_new {
        announce::<Trigger>(services, Change::Create, target.trigger.id, &target.trigger.reference);
    }
}

fn rule_of(input: &RuleInput, id: Id, trigger: &Trigger) -> Rule {
    Rule {
        id,
        uid: format!("rule:{}:{}", input.pack, input.name),
        reference: format!("{}.{}", input.pack, input.name),
        pack: input.pack.clone(),
        name: input.name.clone(),
        description: input.description.clone(),
        rule_type: input.rule_type.clone(),
        trigger: trigger.reference.clone(),
        criteria: input.criteria.clone(),
        action: input.action.clone(),
        enabled: input.enabled,
        context: input.context.clone(),
        tags: input.tags.clone(),
        metadata_file: input.metadata_file.clone(),
    }
}

/// The rule as the API shows it: with `trigger: {type, parameters, ref}`; secret parameters of its action masked.
pub async fn to_api(services: &Services, rule: &Rule, show_secrets: bool) -> Result<Object, DomainError> {
    let mut object = model::resource::to_object(rule);
    match services.catalog.trigger(&rule.trigger).await? {
        Some(trigger) => {
            let shown = json!({"type": trigger.type_ref, "parameters": trigger.parameters, "ref": trigger.reference});
            object.insert("trigger".to_owned(), shown);
        }
        None => {
            object.remove("trigger");
        }
    }
    if !show_secrets
        && services.settings.mask_secrets
        && let Some(action) = services.catalog.action(&rule.action.reference).await?
        && let Some(Value::Object(invocation)) = object.get_mut("action")
        && let Some(parameters) = invocation.get("parameters").cloned()
    {
        invocation.insert("parameters".to_owned(), mask_parameters(&action, parameters));
    }
    Ok(object)
}

fn mask_parameters(action: &Action, parameters: Value) -> Value {
    // A parameter named `secret` makes StackStorm mask all of them; clients are used to it.
    if action.parameters.contains_key("secret") {
        return MASK.into();
    }
    mask(&json!({"type": "object", "properties": action.parameters}), &parameters)
}
