//! Structured logs on standard error.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat};

/// Installs the subscriber for the rest of the process; an unusable filter is an error that says so.
pub fn init(log: &Log) -> Result<(), String> {
    let filter = EnvFilter::try_new(&log.level)
        .map_err(|error| format!("key `log.level`: '{}' is not a log filter: {error}", log.level))?;
    let registry = tracing_subscriber::registry().with(filter);
    let writer = std::io::stderr;
    match log.format {
        LogFormat::Text => {
            registry.with(tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(false)).try_init()
        }
        LogFormat::Json => {
            registry.with(tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(writer)).try_init()
        }
    }
    .map_err(|error| error.to_string())
}
