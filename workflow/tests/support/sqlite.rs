//! SQLite for tests: a file in a folder of its own.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use model::Id;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Row as _, SqliteConnection};
use workflow::WorkflowState;
use workflow::contract::Factory;
use workflow::sqlite::{SqliteOptions, SqliteState};

pub struct Database {
    folder: tempfile::TempDir,
    state: tokio::sync::OnceCell<Arc<SqliteState>>,
}

impl Database {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), state: tokio::sync::OnceCell::new() }
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("workflow.db")
    }

    pub async fn state(&self) -> Arc<SqliteState> {
        let open = async || {
            let mut options = SqliteOptions::new(self.path());
            // The suite looks at crashes elsewhere, and at much else that needs no sync.
            options.durable = false;
            Arc::new(SqliteState::open(options).await.unwrap())
        };
        Arc::clone(self.state.get_or_init(open).await)
    }

    /// A connection beside the adapter.
    pub async fn connect(&self) -> SqliteConnection {
        SqliteConnectOptions::new().filename(self.path()).connect().await.unwrap()
    }
}

#[async_trait]
impl Factory for Database {
    /// There is one node, and it is its own neighbour.
    async fn open(&self, _node: u32) -> Arc<dyn WorkflowState> {
        self.state().await
    }

    async fn rows_of(&self, workflow: Id) -> u64 {
        let counts: Vec<_> =
            super::TABLES.iter().map(|table| format!("(SELECT count(*) FROM {table} WHERE workflow = $1)")).collect();
        let sql = format!("SELECT (SELECT count(*) FROM workflows WHERE id = $1) + {}", counts.join(" + "));
        let mut connection = self.connect().await;
        let row = sqlx::query(AssertSqlSafe(sql)).bind(workflow.to_string()).fetch_one(&mut connection).await.unwrap();
        row.get::<i64, _>(0) as u64
    }

    async fn disturb(&self) {}

    async fn clean(&self) {
        if let Some(state) = self.state.get() {
            state.close().await;
        }
    }
}
