//! PostgreSQL for tests: a schema of its own on a server.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use model::{Id, Timestamp};
use parking_lot::Mutex;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};
use workflow::WorkflowState;
use workflow::contract::Factory;
use workflow::postgres::{PostgresOptions, PostgresState};

pub struct Schema {
    pub url: String,
    pub name: String,
    nodes: Mutex<HashMap<u32, Arc<PostgresState>>>,
}

impl Schema {
    /// On the server that tests share, if there is one.
    pub async fn shared() -> Option<Self> {
        Some(Self::on(&servers::shared::address(servers::shared::POSTGRES)?))
    }

    pub fn on(url: &str) -> Self {
        let name = format!("t_{}", Id::fresh(Timestamp::default()));
        Self { url: url.to_owned(), name, nodes: Mutex::default() }
    }

    pub fn options(&self) -> PostgresOptions {
        let mut options = PostgresOptions::new(&self.url);
        options.schema.clone_from(&self.name);
        options.max_connections = 8;
        // Test builds are slow with large values, and machines that test are busy.
        options.timeout = Duration::from_secs(60);
        options.statement_timeout = Duration::from_secs(50);
        options
    }

    pub async fn state(&self) -> PostgresState {
        PostgresState::open(self.options()).await.unwrap()
    }

    /// A connection beside the adapter.
    pub async fn connect(&self) -> PgConnection {
        let mut connection = PgConnection::connect(&self.url).await.unwrap();
        let path = format!("SET search_path TO {}", self.name);
        sqlx::raw_sql(AssertSqlSafe(path)).execute(&mut connection).await.unwrap();
        connection
    }

    /// Kills sessions of the adapter that are in a transaction; returns how many.
    pub async fn kill(&self, share: f64) -> u64 {
        let mut connection = self.connect().await;
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE application_name = $1 AND state LIKE 'idle in%' AND random() < $2";
        let name = format!("squall {}", self.name);
        sqlx::query(sql).bind(name).bind(share).fetch_all(&mut connection).await.unwrap().len() as u64
    }
}

#[async_trait]
impl Factory for Schema {
    async fn open(&self, node: u32) -> Arc<dyn WorkflowState> {
        let known = self.nodes.lock().get(&node).cloned();
        if let Some(state) = known {
            return state;
        }
        let state = Arc::new(self.state().await);
        self.nodes.lock().insert(node, Arc::clone(&state));
        state
    }

    async fn rows_of(&self, workflow: Id) -> u64 {
        let counts: Vec<_> =
            super::TABLES.iter().map(|table| format!("(SELECT count(*) FROM {table} WHERE workflow = $1)")).collect();
        let sql = format!("SELECT (SELECT count(*) FROM workflows WHERE id = $1) + {}", counts.join(" + "));
        let mut connection = self.connect().await;
        let row = sqlx::query(AssertSqlSafe(sql)).bind(workflow.to_string()).fetch_one(&mut connection).await.unwrap();
        row.get::<i64, _>(0) as u64
    }

    async fn disturb(&self) {
        self.kill(0.3).await;
    }

    fn takes_locks(&self) -> bool {
        true
    }

    async fn clean(&self) {
        let nodes: Vec<_> = self.nodes.lock().drain().collect();
        for (_, state) in nodes {
            tokio::time::timeout(Duration::from_secs(10), state.close()).await.unwrap();
        }
        let mut connection = PgConnection::connect(&self.url).await.unwrap();
        let sql = format!("SET client_min_messages = error; DROP SCHEMA IF EXISTS {} CASCADE", self.name);
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    }
}
