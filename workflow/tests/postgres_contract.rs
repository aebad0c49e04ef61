//! The contract suite on PostgreSQL: a schema of its own for each test on the shared server.

#![expect(clippy::unwrap_used, reason = "test code")]

mod support;

use support::postgres::Schema;

workflow::workflow_contract!(async { Schema::shared().await });
