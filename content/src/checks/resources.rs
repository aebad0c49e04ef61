//! Actions, trigger types, rules, aliases, policies, sensors.

use std::path::{Component, Path};

use domain::rules::RuleInput;
use model::schema::{check_overrides, check_parameter_schemas, validate, validate_parameters};
use model::{Action, ActionAlias, Id, Invocation, Object, Policy, RunnerType, SensorType, Tag, Timestamp, TriggerType};
use serde_json::Value;

use super::{flag, object, schemas, text};
use crate::builtin;
use crate::error::ContentError;

fn invalid(text: impl Into<String>) -> ContentError {
    ContentError::Invalid(text.into())
}

fn check(schema: &Value, source: &Object) -> Result<(), ContentError> {
    Ok(validate(schema, &Value::Object(source.clone()))?)
}

fn tags(source: &Object) -> Vec<Tag> {
    let items = source.get("tags").and_then(Value::as_array);
    let tag = |item: &Value| {
        let part = |field| Some(item.get(field)?.as_str()?.to_owned());
        Some(Tag { name: part("name")?, value: part("value")? })
    };
    items.into_iter().flatten().filter_map(tag).collect()
}

/// Without a slash at its begin or `..` anywhere: it stays below the directory that it is relative to.
fn stays_below(path: &str) -> bool {
    Path::new(path).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

/// What clients forget is a text of its own when the name is missing.
fn name_of(source: &Object) -> String {
    text(source, "name").unwrap_or_default()
}

/// An action of `pack` (the body's own pack wins where `pack` is only a default). `runner` finds its runner type.
pub fn action(
    source: &Object,
    default_pack: &str,
    runner: &dyn Fn(&str) -> Option<RunnerType>,
    now: Timestamp,
) -> Result<Action, ContentError> {
    check(&schemas::ACTION, source)?;
    let (name, pack) = (name_of(source), text(source, "pack").unwrap_or_else(|| default_pack.to_owned()));
    let runner_type = text(source, "runner_type").unwrap_or_default();
    let Some(found) = runner(&runner_type) else {
        return Err(invalid(format!(
            "RunnerType {runner_type} is not found. If you are using old and deprecated runner name, you need to \
             switch to a new one. For more information, please see \
             https://docs.stackstorm.com/upgrade_notes.html#st2-v0-9"
        )));
    };
    let reference = format!("{pack}.{name}");
    let parameters = object(source, "parameters");
    check_parameter_schemas(&parameters)?;
    check_overrides(&reference, &found.runner_parameters, &parameters, true)?;
    let entry_point = text(source, "entry_point").unwrap_or_default();
    if !entry_point.is_empty() && !stays_below(&entry_point) && !Path::new(&entry_point).is_absolute() {
        return Err(invalid(format!("entry_point \"{entry_point}\" of action {reference} leads outside of its pack")));
    }
    Ok(Action {
        id: Id::fresh(now),
        uid: Action::uid_of(&pack, &name),
        reference,
        pack,
        name,
        description: text(source, "description"),
        enabled: flag(source, "enabled", true),
        runner_type,
        entry_point,
        parameters,
        output_schema: object(source, "output_schema"),
        tags: tags(source),
        notify: notify(source),
        metadata_file: text(source, "metadata_file").unwrap_or_default(),
    })
}

/// Sections that say something; `channels` is the old name of `routes`.
fn notify(source: &Object) -> Object {
    let mut kept = Object::new();
    for (section, settings) in object(source, "notify") {
        let Value::Object(mut settings) = settings else { continue };
        if settings.is_empty() {
            continue;
        }
        if let Some(channels) = settings.remove("channels") {
            settings.entry("routes").or_insert(channels);
        }
        kept.insert(section, Value::Object(settings));
    }
    kept
}

pub fn trigger_type(source: &Object, default_pack: &str, now: Timestamp) -> Result<TriggerType, ContentError> {
    if text(source, "name").is_none() {
        let pack = text(source, "pack").unwrap_or_else(|| "None".to_owned());
        return Err(invalid(format!("Both pack and name needed for building ref. pack={pack}, name=None")));
    }
    check(&schemas::TRIGGER_TYPE, source)?;
    let (name, pack) = (name_of(source), text(source, "pack").unwrap_or_else(|| default_pack.to_owned()));
    Ok(TriggerType {
        id: Id::fresh(now),
        uid: format!("trigger_type:{pack}:{name}"),
        reference: format!("{pack}.{name}"),
        pack,
        name,
        description: text(source, "description"),
        payload_schema: object(source, "payload_schema"),
        parameters_schema: object(source, "parameters_schema"),
        tags: tags(source),
        metadata_file: text(source, "metadata_file").unwrap_or_default(),
    })
}

/// The rule's trigger and criteria are checked by `domain::rules`.
pub fn rule(source: &Object, default_pack: &str) -> Result<RuleInput, ContentError> {
    check(&schemas::RULE, source)?;
    let invocation = |value: &Object| Invocation {
        reference: text(value, "ref").unwrap_or_default(),
        parameters: object(value, "parameters"),
    };
    let trigger = object(source, "trigger");
    let rule_type = source.get("type").and_then(Value::as_object).map(invocation);
    Ok(RuleInput {
        name: name_of(source),
        pack: text(source, "pack").unwrap_or_else(|| default_pack.to_owned()),
        description: text(source, "description"),
        rule_type: rule_type
            .unwrap_or_else(|| Invocation { reference: "standard".to_owned(), parameters: Object::new() }),
        trigger_type: text(&trigger, "type").unwrap_or_default(),
        trigger_parameters: object(&trigger, "parameters"),
        criteria: object(source, "criteria"),
        action: invocation(&object(source, "action")),
        enabled: flag(source, "enabled", false),
        context: object(source, "context"),
        tags: tags(source),
        metadata_file: text(source, "metadata_file").unwrap_or_default(),
    })
}

pub fn alias(source: &Object, now: Timestamp) -> Result<ActionAlias, ContentError> {
    check(&schemas::ALIAS, source)?;
    let (name, pack) = (name_of(source), text(source, "pack").unwrap_or_default());
    Ok(ActionAlias {
        id: Id::fresh(now),
        uid: format!("action_alias:{pack}:{name}"),
        reference: format!("{pack}.{name}"),
        pack,
        name,
        description: text(source, "description"),
        enabled: flag(source, "enabled", true),
        action_ref: text(source, "action_ref").unwrap_or_default(),
        formats: source.get("formats").and_then(Value::as_array).cloned().unwrap_or_default(),
        ack: object(source, "ack"),
        result: object(source, "result"),
        extra: object(source, "extra"),
        immutable_parameters: object(source, "immutable_parameters"),
        metadata_file: text(source, "metadata_file").unwrap_or_default(),
    })
}

/// Parameters are checked against the policy type, and stored with its defaults.
pub fn policy(source: &Object, default_pack: &str, now: Timestamp) -> Result<Policy, ContentError> {
    check(&schemas::POLICY, source)?;
    let (name, pack) = (name_of(source), text(source, "pack").unwrap_or_else(|| default_pack.to_owned()));
    let policy_type = text(source, "policy_type").unwrap_or_default();
    let Some(schema) = builtin::policy_type_parameters(&policy_type) else {
        return Err(invalid(format!("Referenced policy_type \"{policy_type}\" doesnt exist")));
    };
    let parameters = validate_parameters(&schema, &object(source, "parameters"), false)?;
    Ok(Policy {
        id: Id::fresh(now),
        uid: format!("policy:{pack}:{name}"),
        reference: format!("{pack}.{name}"),
        pack,
        name,
        description: text(source, "description"),
        enabled: flag(source, "enabled", true),
        resource_ref: text(source, "resource_ref").unwrap_or_default(),
        policy_type,
        parameters,
        metadata_file: text(source, "metadata_file").unwrap_or_default(),
    })
}

/// A sensor's metadata file, with the trigger types that it brings (spec/sensors.md §1).
pub fn sensor(
    source: &Object,
    pack: &str,
    pack_path: &Path,
    now: Timestamp,
) -> Result<(SensorType, Vec<TriggerType>), ContentError> {
    check(&schemas::SENSOR, source)?;
    let name = text(source, "class_name").unwrap_or_default();
    let file = text(source, "entry_point").unwrap_or_default();
    if !stays_below(&file) {
        return Err(invalid(format!("entry_point \"{file}\" of sensor {pack}.{name} leads outside of its pack")));
    }
    let poll_interval = source.get("poll_interval").and_then(Value::as_f64);
    if poll_interval.is_some_and(|seconds| seconds < 4.0) {
        return Err(invalid("Minimum possible poll_interval is 4 seconds"));
    }
    let mut types = Vec::new();
    for entry in source.get("trigger_types").and_then(Value::as_array).into_iter().flatten() {
        let Value::Object(entry) = entry else {
            return Err(invalid(format!("trigger_types of sensor {pack}.{name}: {entry} is not of type 'object'")));
        };
        let mut entry = entry.clone();
        entry.insert("pack".to_owned(), pack.into());
        entry.insert("metadata_file".to_owned(), text(source, "metadata_file").unwrap_or_default().into());
        types.push(trigger_type(&entry, pack, now)?);
    }
    let module = Path::new(&file).with_extension("").to_string_lossy().replace('/', ".");
    let sensor = SensorType {
        id: Id::fresh(now),
        uid: format!("sensor_type:{pack}:{name}"),
        reference: format!("{pack}.{name}"),
        pack: pack.to_owned(),
        description: text(source, "description"),
        artifact_uri: format!("file://{}", pack_path.join("sensors").join(&file).display()),
        entry_point: format!("sensors.{module}.{name}"),
        enabled: flag(source, "enabled", true),
        trigger_types: types.iter().map(|trigger_type| trigger_type.reference.clone()).collect(),
        poll_interval: poll_interval.map(|seconds| seconds as u64),
        metadata_file: text(source, "metadata_file").unwrap_or_default(),
        name,
    };
    Ok((sensor, types))
}
