//! The contract suite on SQLite: a database of its own for each test.

#![expect(clippy::unwrap_used, reason = "test code")]

mod support;

use support::sqlite::Database;

workflow::workflow_contract!(async { Some(Database::new()) });
