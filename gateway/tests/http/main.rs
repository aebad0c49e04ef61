//! A gateway in this process, on a real store and bus, asked over real HTTP.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod aliases;
mod auth;
mod bodies;
mod cluster;
mod coverage;
mod executions;
mod files;

mod fuzz;
mod golden;
mod idempotency;
mod packs;
mod rbac;
mod recordings;
mod stream;
mod support;
mod traces;
mod transport;
mod versions;
