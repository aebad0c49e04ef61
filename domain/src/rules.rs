//! Rules and the triggers they use, changed together (spec/rules.md §3, §6).

use model::{Id, Invocation, Object, Rule, Tag};

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

/// Stores a new rule; its trigger is made or its count raised in the same commit.
pub async fn create(services: &Services, input: RuleInput) -> Result<Rule, DomainError> {
    let _ = (services, input);
    Err(DomainError::Invalid(String::new()))
}

/// Replaces the rule with this id, moving it from its old trigger to its new one in the same commit.
pub async fn replace(services: &Services, id: Id, input: RuleInput) -> Result<Rule, DomainError> {
    let _ = (services, id, input);
    Err(DomainError::Invalid(String::new()))
}

/// Deletes the rule, and its trigger if that has parameters and no other rule.
pub async fn delete(services: &Services, id: Id) -> Result<(), DomainError> {
    let _ = (services, id);
    Ok(())
}

/// The rule as the API shows it: with `trigger: {type, parameters, ref}`; secret parameters of its action masked.
pub async fn to_api(services: &Services, rule: &Rule, show_secrets: bool) -> Result<Object, DomainError> {
    let _ = (services, show_secrets);
    Ok(model::resource::to_object(rule))
}
