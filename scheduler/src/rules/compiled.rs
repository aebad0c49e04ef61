//! Rules in the form in which they are matched, kept by trigger.

use std::collections::HashMap;
use std::sync::Arc;

use domain::{DomainError, Services};
use expr::criteria::CompiledCriteria;
use model::{Rule, Snapshot, Trigger, TriggerType};
use parking_lot::Mutex;
use serde_json::Value;

/// The enabled rules of a trigger, and the snapshots that their executions refer to.
#[derive(Debug)]
pub(super) struct RulesOfTrigger {
    source: Arc<Vec<Arc<Rule>>>,
    trigger: Arc<Trigger>,
    trigger_type: Option<Arc<TriggerType>>,
    pub trigger_name: String,
    pub trigger_type_name: String,
    pub trigger_snapshot: Arc<Snapshot>,
    pub trigger_type_snapshot: Arc<Snapshot>,
    /// In the order of enforcement.
    pub rules: Vec<CompiledRule>,
}

#[derive(Debug)]
pub(super) struct CompiledRule {
    pub rule: Arc<Rule>,
    pub criteria: CompiledCriteria,
    /// Considered only if no other rule matched.
    pub is_backstop: bool,
    pub snapshot: Arc<Snapshot>,
}

/// Compiled rules by trigger ref. An entry is good as long as the catalog gives the very documents that it was made
/// of; the catalog drops them when they change.
#[derive(Debug)]
pub(super) struct CompiledRules {
    bound: usize,
    entries: Mutex<HashMap<String, Arc<RulesOfTrigger>>>,
}

impl CompiledRules {
    pub(super) fn new(bound: usize) -> Self {
        Self { bound, entries: Mutex::default() }
    }

    /// `None`: no enabled rule, or the trigger is gone.
    pub(super) async fn of(
        &self,
        services: &Services,
        trigger_ref: &str,
    ) -> Result<Option<Arc<RulesOfTrigger>>, DomainError> {
        let source = services.catalog.rules_of(trigger_ref).await?;
        if source.is_empty() {
            return Ok(None);
        }
        let Some(trigger) = services.catalog.trigger(trigger_ref).await? else { return Ok(None) };
        let trigger_type = services.catalog.trigger_type(&trigger.type_ref).await?;
        if let Some(known) = self.entries.lock().get(trigger_ref)
            && known.is_made_of(&source, &trigger, trigger_type.as_ref())
        {
            return Ok(Some(known.clone()));
        }
        let compiled = Arc::new(RulesOfTrigger::compile(services, source, trigger, trigger_type).await?);
        let mut entries = self.entries.lock();
        if entries.len() >= self.bound {
            entries.clear();
        }
        entries.insert(trigger_ref.to_owned(), compiled.clone());
        Ok(Some(compiled))
    }
}

impl RulesOfTrigger {
    fn is_made_of(
        &self,
        source: &Arc<Vec<Arc<Rule>>>,
        trigger: &Arc<Trigger>,
        trigger_type: Option<&Arc<TriggerType>>,
    ) -> bool {
        let same_type = match (&self.trigger_type, trigger_type) {
            (Some(known), Some(given)) => Arc::ptr_eq(known, given),
            (None, None) => true,
            _ => false,
        };
        same_type && Arc::ptr_eq(&self.source, source) && Arc::ptr_eq(&self.trigger, trigger)
    }

    async fn compile(
        services: &Services,
        source: Arc<Vec<Arc<Rule>>>,
        trigger: Arc<Trigger>,
        trigger_type: Option<Arc<TriggerType>>,
    ) -> Result<Self, DomainError> {
        let mut rules = Vec::with_capacity(source.len());
        for rule in source.iter() {
            let shown = domain::rules::to_api(services, rule, false).await?;
            rules.push(CompiledRule {
                criteria: CompiledCriteria::load(&rule.criteria),
                is_backstop: rule.rule_type.reference == "backstop",
                snapshot: Arc::new(Snapshot::of(Value::Object(shown))),
                rule: rule.clone(),
            });
        }
        let type_body = trigger_type.as_ref().map_or(Value::Null, |found| Value::Object(found.to_api()));
        Ok(Self {
            trigger_name: trigger.name.clone(),
            trigger_type_name: trigger_type
                .as_ref()
                .map_or_else(|| trigger.type_ref.clone(), |found| found.name.clone()),
            trigger_snapshot: Arc::new(Snapshot::of(Value::Object(trigger.to_api()))),
            trigger_type_snapshot: Arc::new(Snapshot::of(type_body)),
            source,
            trigger,
            trigger_type,
            rules,
        })
    }
}
