//! Factories of the contract suite.

#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod postgres;
pub mod sqlite;

/// Tables with a column `workflow`.
pub const TABLES: &[&str] = &["tasks", "items", "cells", "events", "inbox", "outbox", "timers", "documents", "chunks"];
