//! Squall's resources as StackStorm's users know them: packs, actions, triggers, rules, executions, keys, users.
//!
//! This crate does no I/O. It fixes
//! * ids ([`Id`]) and instants ([`Timestamp`], [`Clock`]),
//! * the shape of every stored document and the keys by which it is found ([`Resource`], [`Collection`]),
//! * the status machine of executions ([`Status`], [`Execution::advance`]),
//! * when timers fire ([`timer::Schedule`]),
//! * the parameter schema dialect ([`schema`]) and YAML as PyYAML reads it ([`yaml`]).
//!
//! Everything else is built on it: `expr` renders, `store` keeps, `bus` carries, `domain` changes these resources.

pub mod access;
pub mod action;
pub mod duty;
pub mod execution;
pub mod id;
pub mod idempotency;
pub mod keyvalue;
pub mod pack;
pub mod permit;
pub mod python;
pub mod rbac;
pub mod resource;
pub mod rule;
pub mod schema;
pub mod sensor_report;
pub mod snapshot;
pub mod status;
pub mod time;
pub mod timer;
pub mod trace;
pub mod trigger;
pub mod yaml;

pub use access::{ApiKey, Token, User};
pub use action::{Action, ActionAlias, RunnerType, Tag};
pub use duty::{Duty, Lease, Session};
pub use execution::{Cause, Claim, Execution, Heard, LogEntry, OutputChunk, OutputType, ResultValue, RunnerInfo};
pub use id::{Id, InvalidId};
pub use keyvalue::{KeyValue, Scope};
pub use pack::{Config, ConfigSchema, Pack, PackContent, PackReport, Policy, SensorType};
pub use permit::{HeldPermit, Permit};
pub use rbac::{GroupMapping, PermissionGrant, Role, RoleAssignment};
pub use resource::{Collection, Key, KeyKind, Keys, Object, Resource, Versioned};
pub use rule::{EnforcedRule, Invocation, Rule, RuleEnforcement};
pub use sensor_report::SensorReport;
pub use snapshot::Snapshot;
pub use status::Status;
pub use time::{Clock, SystemClock, TestClock, Timestamp};
pub use trigger::{InstanceStatus, Trigger, TriggerInstance, TriggerType};

/// Every collection, for adapters that make their tables at the start.
pub const COLLECTIONS: &[&Collection] = &[
    <RunnerType as Resource>::COLLECTION,
    <Action as Resource>::COLLECTION,
    <ActionAlias as Resource>::COLLECTION,
    <TriggerType as Resource>::COLLECTION,
    <Trigger as Resource>::COLLECTION,
    <TriggerInstance as Resource>::COLLECTION,
    <Rule as Resource>::COLLECTION,
    <RuleEnforcement as Resource>::COLLECTION,
    <Pack as Resource>::COLLECTION,
    <PackContent as Resource>::COLLECTION,
    <PackReport as Resource>::COLLECTION,
    <ConfigSchema as Resource>::COLLECTION,
    <Config as Resource>::COLLECTION,
    <Policy as Resource>::COLLECTION,
    <SensorType as Resource>::COLLECTION,
    <User as Resource>::COLLECTION,
    <Token as Resource>::COLLECTION,
    <ApiKey as Resource>::COLLECTION,
    <Role as Resource>::COLLECTION,
    <RoleAssignment as Resource>::COLLECTION,
    <GroupMapping as Resource>::COLLECTION,
    <KeyValue as Resource>::COLLECTION,
    <Execution as Resource>::COLLECTION,
    <OutputChunk as Resource>::COLLECTION,
    <Permit as Resource>::COLLECTION,
    <idempotency::NamedRequest as Resource>::COLLECTION,
    <Snapshot as Resource>::COLLECTION,
    <timer::TimerCursor as Resource>::COLLECTION,
    <SensorReport as Resource>::COLLECTION,
];
