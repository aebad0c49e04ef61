//! The recordings as they are written.

use model::resource::Object;
use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Deserialize)]
pub struct Case {
    pub name: String,
    /// `inspect`, `run` or `trace`.
    pub kind: String,
    pub definition: String,
    #[serde(default)]
    pub app_ctx: Vec<String>,
    #[serde(default)]
    pub context: Object,
    #[serde(default)]
    pub inputs: Object,
    #[serde(default)]
    pub kv: Object,
    #[serde(default)]
    pub run_despite_inspection: bool,
    #[serde(default)]
    pub show_ctx: bool,
    #[serde(default)]
    pub pick: Option<String>,
    #[serde(default)]
    pub mocks: Vec<Mock>,
    #[serde(default)]
    pub events: Vec<Request>,
    #[serde(default)]
    pub completion_order: Vec<String>,
    #[serde(default)]
    pub ops: Vec<Value>,
    pub expected: Expected,
}

/// What an action gives.
#[derive(Debug, Deserialize)]
pub struct Mock {
    pub task: String,
    pub route: Option<u32>,
    pub item: Option<u32>,
    pub attempt: Option<u32>,
    pub status: String,
    #[serde(default)]
    pub result: Value,
}

/// What is asked of a workflow, and when.
#[derive(Debug, Deserialize)]
pub struct Request {
    /// A number of completions, or `idle`.
    pub after: Value,
    pub op: String,
    #[serde(default)]
    pub when: Option<String>,
    #[serde(default)]
    pub task: Option<String>,
    #[serde(default)]
    pub route: Option<u32>,
    #[serde(default)]
    pub tasks: Option<Vec<Value>>,
}

#[derive(Debug, Deserialize)]
pub struct Expected {
    pub inspection_errors: Option<Value>,
    pub load_error: Option<String>,
    #[serde(default)]
    pub events: Vec<Value>,
    #[serde(default)]
    pub steps: Vec<Value>,
    pub raises: Option<String>,
    #[serde(rename = "final")]
    pub last: Option<Value>,
}
