//! Faults within expressions.

use serde_json::Value;

use super::super::spec::{Assignment, Definition};
use super::places::{self, Place};
use super::{Analyzer, Fault};

pub fn faults(definition: &Definition, analyzer: &dyn Analyzer) -> Vec<Fault> {
    let mut found = Vec::new();
    let mut look = |place: &Place, value: &Value| {
        strings(value, &mut |text| {
            for fault in analyzer.faults(text) {
                found.push(Fault {
                    language: Some(fault.language),
                    expression: Some(fault.expression),
                    message: fault.message,
                    spec_path: Some(place.spec.clone()),
                    schema_path: Some(place.schema.clone()),
                });
            }
        });
    };
    let sections: [(&str, &[Assignment]); 3] =
        [("input", &definition.inputs), ("vars", &definition.vars), ("output", &definition.output)];
    for (name, entries) in sections {
        for entry in entries {
            look(&places::section(name), &entry.value);
        }
    }
    for (name, task) in &definition.tasks {
        each_property(name, task, &mut look);
        for (at, transition) in task.next.iter().enumerate() {
            if let Some(when) = &transition.when {
                look(&places::transition(name, at, "when"), &Value::String(when.clone()));
            }
            for publication in &transition.publish {
                look(&places::transition(name, at, "publish"), &publication.value);
            }
        }
        if let Some(retry) = &task.retry {
            if let Some(when) = &retry.when {
                look(&places::property(name, "retry.when"), &Value::String(when.clone()));
            }
            look(&places::property(name, "retry.count"), &retry.count);
            if let Some(delay) = &retry.delay {
                look(&places::property(name, "retry.delay"), delay);
            }
        }
    }
    found
}

/// What is evaluated before a task runs.
pub fn each_property(name: &str, task: &super::super::spec::Task, look: &mut impl FnMut(&Place, &Value)) {
    if let Some(delay) = &task.delay {
        look(&places::property(name, "delay"), delay);
    }
    if let Some(with) = &task.with {
        look(&places::property(name, "with.items"), &Value::String(with.items.clone()));
        if let Some(concurrency) = &with.concurrency {
            look(&places::property(name, "with.concurrency"), concurrency);
        }
    }
    if let Some(action) = &task.action {
        look(&places::property(name, "action"), &Value::String(action.clone()));
    }
    look(&places::property(name, "input"), &task.input);
}

/// All strings of a value, keys too.
pub fn strings<'a>(value: &'a Value, look: &mut impl FnMut(&'a str)) {
    match value {
        Value::String(text) => look(text),
        Value::Array(items) => items.iter().for_each(|item| strings(item, look)),
        Value::Object(map) => {
            for (key, value) in map {
                look(key);
                strings(value, look);
            }
        }
        _ => {}
    }
}
