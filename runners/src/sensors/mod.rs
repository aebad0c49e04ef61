//! The sensor container: a node's role that runs the sensors that the node owns (spec/sensors.md, DESIGN §4).
//!
//! Who owns a sensor is decided elsewhere (the group's sensor partitions). This role gets the leases of this node in a
//! watch, runs exactly those sensors, and gives up what leaves the watch: SIGTERM, SIGKILL, then the call-back `release`.
//!
//! What keeps a sensor from having two owners whose events count (invariant S1):
//! * a process is killed, or kills itself, before its lease ends by this node's monotonic clock;
//! * events are stored under the fence `sensor:<ref>` with the lease's epoch, which goes up before the process starts:
//!   the store refuses whoever owned the sensor before;
//! * an owner that is refused kills its process and waits for the group's word.
//!
//! | module | holds |
//! |---|---|
//! | [`container`] | the role: a keeper for each lease |
//! | [`keeper`] | one sensor under one epoch: start, watch, restart, stop |
//! | [`respawn`] | when a sensor that ended starts again (pure) |
//! | [`known`] | enabled sensors and their triggers as the store has them, followed |
//! | [`launch`] | starting the process |
//! | [`talk`] | the conversation with it, in lines of [`protocol`] (docs/sensor-protocol.md) |
//! | [`dispatching`] | storing its events |
//! | [`files`] | whether its code changed |
//! | [`output`] | its stdout and stderr, into the log |
//! | [`states`] | how each sensor is |
//! | `report` | tells the store about it |
//! | [`partition`] | which nodes alone may run a sensor, where that is configured |
//! | [`wanted`] | tells the group which sensors there are |

pub mod container;
mod dispatching;
mod files;
mod keeper;
mod known;
mod launch;
mod output;
pub mod partition;
pub mod protocol;
mod report;
pub mod respawn;
pub mod states;
mod talk;
pub mod wanted;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use container::SensorContainer;
pub use partition::Partition;
pub use respawn::RespawnOptions;
pub use states::{SensorState, SensorStates, SensorStatus};
pub use wanted::{follow_wanted, wanted_sensors};

use crate::host::PythonOptions;

/// Sensors that this node may run, and until when.
pub type Owned = Arc<BTreeMap<String, model::Lease>>;

/// Told when a sensor that left the watch has stopped: its ref and the epoch of its lease.
pub type Release = Arc<dyn Fn(String, u64) + Send + Sync>;

/// Settings of a node's sensor container.
#[derive(Debug, Clone)]
pub struct SensorOptions {
    /// As for actions; `sdk_path` is needed.
    pub python: PythonOptions,
    /// The node's name, for reports.
    pub node: String,
    /// The API as sensors reach it, with `/v1`.
    pub api_url: String,
    /// The same as a socket of this machine.
    pub api_socket: Option<PathBuf>,
    /// `auth.service_token_ttl`; sensors get a new token when half of it is over.
    pub token_ttl: Duration,
    /// `api.max_page_size`: what `list_values` asks for.
    pub max_page_size: u64,
    /// Between SIGTERM and SIGKILL.
    pub stop_grace: Duration,
    /// A process is killed this long before its lease ends, so that it is gone then.
    pub kill_margin: Duration,
    pub respawn: RespawnOptions,
    /// Between looks at the store and at the packs' files, beside events.
    pub reconcile: Duration,
    /// A process that answers nothing for this long, while it said that it would, is killed and started anew.
    pub heartbeat_limit: Duration,
    /// Bytes of one message of a sensor.
    pub max_line: usize,
    /// Runs this sensor alone, though it is disabled, and ends when its process does (spec/sensors.md §7).
    pub only: Option<String>,
}

impl Default for SensorOptions {
    fn default() -> Self {
        Self {
            python: PythonOptions::default(),
            node: "localhost".to_owned(),
            api_url: "http://127.0.0.1:9101/v1".to_owned(),
            api_socket: None,
            token_ttl: Duration::from_secs(24 * 3600),
            max_page_size: 100,
            stop_grace: Duration::from_secs(5),
            kill_margin: Duration::from_millis(100),
            respawn: RespawnOptions::default(),
            reconcile: Duration::from_secs(30),
            heartbeat_limit: Duration::from_secs(60),
            max_line: 4 << 20,
            only: None,
        }
    }
}
