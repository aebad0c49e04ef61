//! Messages between container and sensor: one JSON object per line (docs/sensor-protocol.md).

use std::path::PathBuf;

use model::{Id, Object};
use serde::Deserialize;
use serde_json::{Value, json};

/// The version that `start` names.
pub const VERSION: u64 = 1;

/// What a sensor says.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Said {
    /// It is set up.
    Ready {
        /// It answers every `ping` with a `pong`.
        #[serde(default)]
        heartbeat: bool,
        /// Files that it consists of: it is started anew when one changes.
        #[serde(default)]
        files: Vec<PathBuf>,
    },
    Files {
        files: Vec<PathBuf>,
    },
    Dispatch(Call),
    Log {
        #[serde(default)]
        level: String,
        #[serde(default)]
        logger: String,
        message: String,
    },
    Pong,
    /// Of a later version.
    #[serde(other)]
    Unknown,
}

/// An event to store.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Call {
    /// Of the sensor's choice; the acknowledgement has it.
    pub id: u64,
    /// A ref, or an object with `ref`, or with `type` and `parameters`.
    pub trigger: Value,
    #[serde(default)]
    pub payload: Value,
    #[serde(default)]
    pub trace_context: Option<Object>,
}

/// The event is stored.
pub fn stored(call: u64, instance: Id) -> Value {
    json!({"type": "ack", "id": call, "instance": instance})
}

/// The event will never be stored.
pub fn refused(call: u64, error: &str) -> Value {
    json!({"type": "ack", "id": call, "error": error})
}

pub fn trigger(change: &str, trigger: &Object) -> Value {
    json!({"type": "trigger", "change": change, "trigger": trigger})
}

/// `until` in seconds of CLOCK_MONOTONIC.
pub fn lease(until: f64) -> Value {
    json!({"type": "lease", "until": until})
}

pub fn token(token: &str) -> Value {
    json!({"type": "token", "token": token})
}

pub fn ping() -> Value {
    json!({"type": "ping"})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_whatever_they_leave_out() {
        let read = |text: &str| serde_json::from_str::<Said>(text);
        assert_eq!(read(r#"{"type":"ready"}"#).unwrap(), Said::Ready { heartbeat: false, files: vec![] });
        assert_eq!(read(r#"{"type":"pong","x":1}"#).unwrap(), Said::Pong);
        assert_eq!(read(r#"{"type":"later","x":1}"#).unwrap(), Said::Unknown);
        let Said::Dispatch(call) = read(r#"{"type":"dispatch","id":7,"trigger":"a.b"}"#).unwrap() else { panic!() };
        assert_eq!((call.id, call.trigger, call.payload), (7, json!("a.b"), Value::Null));
        assert!(read(r#"{"type":"dispatch","trigger":"a.b"}"#).is_err());
    }
}
