//! Packs on disk: reading, checking, registering (spec/packs.md).
//!
//! * [`register()`] reads pack directories and makes the store hold what they say; [`bootstrap()`] does so for the
//!   system packs at a node's start, quickly when nothing changed.
//! * [`checks`] turns untrusted objects, from files or from the API, into resources; errors name the field.
//! * [`install`] brings packs from elsewhere to every node; [`unload`] takes out what a pack brought.
//! * [`configure()`] writes a pack's configuration.
//! * [`builtin`] holds the rows that no pack brings: runner types, trigger types, policy types, rule types.
//!
//! Sits on `domain`, whose functions make the changes; the gateway and the node call it.

pub mod bootstrap;
pub mod builtin;
pub mod checks;
mod config_files;
mod configure;
pub mod error;
pub mod install;
pub mod overrides;
pub mod pack_dir;
mod read;
pub mod register;
pub mod unload;
mod upsert;

pub use bootstrap::{BootstrapOptions, bootstrap};
pub use configure::configure;
pub use error::ContentError;
pub use install::{InstallError, InstallRequest, Installed, Workshop};
pub use pack_dir::PackDir;
pub use register::{Counts, Kind, RegisterRequest, register};
