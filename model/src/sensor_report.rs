//! How each sensor is, as the node that runs it last said: for the API and the command line.

use serde::{Deserialize, Serialize};

use crate::id::Id;
use crate::resource::{Collection, KeyKind, Keys, Object, Resource, index, to_object};
use crate::time::Timestamp;

/// One sensor's report. Its node writes it when it changes; reports of older epochs don't replace newer ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SensorReport {
    /// Derived from the ref.
    pub id: Id,
    #[serde(rename = "ref")]
    pub reference: String,
    pub node: String,
    /// Of the lease under which it runs.
    pub epoch: u64,
    /// idle, starting, running, backing-off, exited, stopping, deposed; stopped once the node has given it up.
    pub state: String,
    /// Since when it is in this state.
    pub since: Timestamp,
    pub pid: Option<i32>,
    /// Starts after the first one, under this epoch.
    pub restarts: u64,
    pub last_error: Option<String>,
}

impl SensorReport {
    /// The id of a sensor's report.
    pub fn id_of(reference: &str) -> Id {
        Id::of_content(format!("sensor report {reference}").as_bytes())
    }

    /// As the API shows it.
    pub fn to_api(&self) -> Object {
        let mut shown = to_object(self);
        shown.remove("id");
        shown
    }
}

impl Resource for SensorReport {
    const COLLECTION: &'static Collection =
        &Collection { name: "sensor_reports", fields: &[("ref", KeyKind::Text)], indexes: &[index(&["ref"])] };

    fn id(&self) -> Id {
        self.id
    }

    fn keys(&self) -> Keys {
        vec![("ref", self.reference.clone().into())]
    }
}
