//! The harness of the end-to-end tests: real nodes as child processes, driven over HTTP as clients do.
//!
//! * [`Node`] is a running `squall dev` on a data directory of its own; it can be killed and started again.
//! * [`Api`] speaks to it with a token.
//! * [`repo`] makes packs in git repositories.
//! * [`lab`] is a cluster of them, in network namespaces, over real servers.
//! * [`eventually`] waits for a condition with a deadline.
//!
//! The binaries are those that Cargo built beside the tests: `make test` builds them first.

#![allow(clippy::expect_used)] // a harness that can't start should fail its test

mod api;
pub mod lab;
mod node;
mod pypi;
pub mod repo;
mod wait;

pub use api::{Api, Reply};
pub use node::{Node, NodeOptions, binary};
pub use pypi::{programs, stackstorms_client};
pub use wait::eventually;

use std::path::PathBuf;

/// The folder with recorded data, if it is there: `SQUALL_SHARED`, else `../shared` beside the workspace.
pub fn shared() -> Option<PathBuf> {
    let default = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let path = std::env::var_os("SQUALL_SHARED").map_or(default, PathBuf::from);
    if path.join("data").is_dir() {
        return Some(path);
    }
    eprintln!("SKIPPED: recorded data isn't at {} (set SQUALL_SHARED)", path.display());
    None
}

/// The seed of this run's random choices: `SQUALL_TEST_SEED` or a new one; printed, so that a failure can be replayed.
pub fn seed() -> u64 {
    let seed = std::env::var("SQUALL_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(rand::random);
    println!("SQUALL_TEST_SEED={seed}");
    seed
}
