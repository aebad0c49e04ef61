//! The bundle of ports, settings and caches that roles share.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use bus::Bus;
use coordinator::Coordinator;
use model::Clock;
use store::Store;

use crate::catalog::Catalog;
use crate::crypto::Crypto;
use crate::nodes::Nodes;
use crate::observer::Observer;
use crate::overflow::Overflow;
use crate::permits::Releases;
use crate::workflows::Workflows;

/// Settings that the domain's behaviour depends on; the node fills them from its configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// User of executions that rules fire.
    pub system_user: String,
    /// `https://<fqdn>` by default; executions' `web_url` begins with it.
    pub webui_base_url: String,
    /// StackStorm's `system.base_path`: configs/, overrides/ and virtualenvs/ lie below it.
    pub base_path: PathBuf,
    /// Directories that hold packs, in order of look-up: the system packs' first.
    pub pack_dirs: Vec<PathBuf>,
    /// Indexes of packs: addresses or files, of which the first that knows a pack counts.
    pub index_urls: Vec<String>,
    /// The group that installed packs belong to; the node's own if none is given.
    pub pack_group: Option<String>,
    /// `log.mask_secrets` and `api.mask_secrets`.
    pub mask_secrets: bool,
    /// Whether chunks of output are stored while an action runs.
    pub stream_output: bool,
    /// Results up to this many bytes of JSON lie in the execution; larger ones become blobs.
    pub inline_result_limit: usize,
    /// Larger results end the execution as failed, with a text that names this limit.
    pub max_result_size: usize,
    /// `system.validate_trigger_payload`.
    pub validate_trigger_payload: bool,
    /// `system.validate_trigger_parameters`.
    pub validate_trigger_parameters: bool,
    /// `system.validate_output_schema`.
    pub validate_output_schema: bool,
    /// After this long without a step, recovery looks at an execution or trigger instance that should move.
    pub redrive_after: std::time::Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            system_user: "stanley".to_owned(),
            webui_base_url: "https://localhost".to_owned(),
            base_path: PathBuf::from("/opt/stackstorm"),
            pack_dirs: Vec::new(),
            index_urls: vec!["https://index.stackstorm.org/v1/index.json".to_owned()],
            pack_group: None,
            mask_secrets: true,
            stream_output: true,
            inline_result_limit: 64 * 1024,
            max_result_size: 256 * 1024 * 1024,
            validate_trigger_payload: true,
            validate_trigger_parameters: true,
            validate_output_schema: false,
            redrive_after: std::time::Duration::from_secs(5),
        }
    }
}

/// What a role needs to work on resources.
#[derive(Debug)]
pub struct Services {
    pub store: Arc<dyn Store>,
    pub bus: Arc<dyn Bus>,
    /// Gives out the permits of concurrency policies.
    pub coordinator: Arc<dyn Coordinator>,
    pub clock: Arc<dyn Clock>,
    pub settings: Settings,
    pub catalog: Catalog,
    /// Queues that refused a job of this node.
    pub overflow: Overflow,
    /// Permits that ended, on their way back to the coordinator.
    pub releases: Releases,
    /// Absent when no key is configured: secrets can't be stored then.
    pub crypto: Option<Crypto>,
    /// Who takes in completions of workflows' executions; set once, before roles start.
    pub workflows: OnceLock<Arc<dyn Workflows>>,
    /// Who measures what happens; set once, before roles start.
    pub observer: OnceLock<Arc<dyn Observer>>,
    /// The group of nodes; set once, before roles start. Absent: there is this node alone, without a name.
    pub nodes: OnceLock<Arc<dyn Nodes>>,
}

impl Services {
    pub fn new(
        store: Arc<dyn Store>,
        bus: Arc<dyn Bus>,
        coordinator: Arc<dyn Coordinator>,
        clock: Arc<dyn Clock>,
        settings: Settings,
        crypto: Option<Crypto>,
    ) -> Arc<Self> {
        Arc::new(Self {
            catalog: Catalog::new(store.clone()),
            overflow: Overflow::default(),
            releases: Releases::new(coordinator.clone()),
            store,
            bus,
            coordinator,
            clock,
            settings,
            crypto,
            workflows: OnceLock::new(),
            observer: OnceLock::new(),
            nodes: OnceLock::new(),
        })
    }

    pub fn now(&self) -> model::Timestamp {
        self.clock.now()
    }
}
