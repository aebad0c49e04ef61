//! The sensor container with real processes on a real store. Without a `python3` there is nothing to test.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test that can't go on ends

mod bed;
mod changes;
mod crowd;
mod events;
mod examples;
mod leases;
mod packs;
mod respawn;
