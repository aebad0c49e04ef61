//! What a node tells monitoring systems.
//!
//! * [`Registry`] keeps the process's metrics and prints them for Prometheus. Any crate records with the macros of
//!   `metrics`; [`names::METRICS`] lists every name with its meaning and is what `docs/metrics.md` shows.
//! * [`Watcher`] is told of each step of executions and trigger instances ([`domain::Observer`]); it counts them,
//!   measures their stages and makes the spans of their traces.
//! * [`Exporter`] sends spans to a collector (OTLP over HTTP). It never holds anything up: what doesn't fit into its queue
//!   is counted and dropped.
//!
//! Ids of traces and spans derive from the ids of what they describe, so that no node needs to ask another whose child
//! a span is.

mod exporter;
pub mod names;
pub mod otlp;
mod process;
mod registry;
mod spans;
mod stages;
mod watcher;

pub use exporter::{Exporter, ExporterOptions, SpanQueue};
pub use process::sample as sample_process;
pub use registry::Registry;
pub use stages::Stage;
pub use watcher::Watcher;
