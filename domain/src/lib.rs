//! What every role does with the resources, in one place: request and change executions, dispatch triggers, keep
//! rules and their triggers in step, look things up, read and write the datastore, mask secrets.
//!
//! [`Services`] bundles the ports (store, bus, clock) with the settings and caches; roles hold an `Arc` of it.
//! Each change is one store commit, then the announcement on the bus (DESIGN §2 rules 1 – 3).
//!
//! | module | holds |
//! |---|---|
//! | [`executions`] | the life of an execution: request, claim, output, finish, cancel, re-run |
//! | [`triggers`] | dispatch of trigger instances; trigger rows of rules |
//! | [`rules`] | create, replace, delete rules |
//! | [`aliases`] | chat commands: which alias one means, and its parameters |
//! | [`action_token`] | tokens of running actions, checked without the store |
//! | [`catalog`] | cached look-ups of actions, runner types, rules, triggers, policies, configs |
//! | [`datastore`] | key-value pairs and their encryption |
//! | [`rendering`] | Jinja with datastore keys fetched as needed |
//! | [`nodes`] | the group of nodes, as far as work on resources asks for it |
//! | [`observer`] | who is told of each step, to measure it |
//! | [`overflow`] | word of queues that were full, so that their consumers look into the store |
//! | [`permits`] | permits of concurrency policies: the store's part and the coordinator's |
//! | [`workflows`] | completions on their way to the workflows they belong to |
//! | [`view`] | executions as the API and the stream show them, masked |

pub mod action_token;
pub mod aliases;
pub mod catalog;
pub mod crypto;
pub mod datastore;
pub mod error;
pub mod executions;
pub mod nodes;
pub mod observer;
pub mod overflow;
pub mod pack_config;
pub mod permits;
pub mod races;
pub mod rendering;
pub mod rules;
pub mod services;
pub mod triggers;
pub mod view;
pub mod workflows;

pub use error::DomainError;
pub use nodes::Nodes;
pub use observer::Observer;
pub use services::{Services, Settings};
