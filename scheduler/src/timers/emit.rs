//! Ticks as trigger instances.

use std::sync::Arc;

use domain::Services;
use model::{Id, Object, Timestamp, TriggerInstance};
use serde_json::json;

use super::decider::Tick;
use crate::instances;

/// The instance of a tick. Its id and time are the slot's, so that repeating it changes nothing and a late one shows
/// when it was meant.
pub(super) fn instance(services: &Services, tick: &Tick, now: Timestamp) -> TriggerInstance {
    let id = Id::derive("timer-tick", tick.at, &[&tick.trigger.to_string(), &tick.at.micros().to_string()]);
    let mut trace = Object::new();
    trace.insert("trace_tag".to_owned(), tick.trace_tag.as_ref().into());
    // `schedule` is always null: StackStorm reads it from a parameter that the schema forbids (spec/rules.md §2.4).
    let payload = json!({"executed_at": python_text(now), "schedule": null});
    instances::pending(services, id, &tick.reference, payload, tick.at, Some(trace))
}

/// As Python prints an aware datetime.
fn python_text(at: Timestamp) -> String {
    let at = at.datetime();
    let format =
        if at.timestamp_subsec_micros() == 0 { "%Y-%m-%d %H:%M:%S+00:00" } else { "%Y-%m-%d %H:%M:%S%.6f+00:00" };
    at.format(format).to_string()
}

/// What one commit carries.
#[derive(Debug, Clone)]
pub(super) struct Ticks(pub Arc<Vec<Tick>>);

impl Ticks {
    /// The earliest slot in it.
    pub(super) fn first(&self) -> Option<Timestamp> {
        self.0.iter().map(|tick| tick.at).min()
    }
}
