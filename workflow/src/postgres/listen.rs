//! Doorbells between nodes, by LISTEN and NOTIFY.
//!
//! Writes don't notify in their own transactions, which PostgreSQL would commit one after the other; a task does it
//! beside them, once for whatever happened since the last time. What is lost with a node is found by the engines'
//! own look now and then.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::pool::{Pool, jittered};
use crate::wake::{Bell, Wakes};

/// Least time between two notifications.
const GATHER: Duration = Duration::from_millis(2);
/// A connection on which nothing came for so long is opened anew: it may be dead without a sign.
const SILENCE: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Rings here and on the other nodes.
#[derive(Debug, Default)]
pub(super) struct Doorbell {
    here: Bell,
    elsewhere: Notify,
}

impl Default for Bell {
    fn default() -> Self {
        Self::new()
    }
}

impl Doorbell {
    pub fn ring(&self) {
        self.here.ring();
        self.elsewhere.notify_one();
    }

    pub fn listen(&self) -> Wakes {
        self.here.listen()
    }

    /// Passes rings on to the other nodes, for good.
    pub async fn announce(self: Arc<Self>, pool: Arc<Pool>, channel: String, node: String) {
        loop {
            self.elsewhere.notified().await;
            let notified = pool
                .call(|mut lease| async {
                    pool.counters.statement();
                    let notify = sqlx::query("SELECT pg_notify($1, $2)").bind(&channel).bind(&node);
                    notify.execute(lease.connection()?).await?;
                    Ok((lease, ()))
                })
                .await;
            if let Err(error) = notified {
                tracing::debug!(%error, "the other nodes could not be told of work");
            }
            tokio::time::sleep(GATHER).await;
        }
    }

    /// Hears the other nodes, for good.
    pub async fn hear(self: Arc<Self>, options: PgConnectOptions, channel: String, node: String) {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.hear_one(&options, &channel, &node).await {
                // It worked for a while.
                Ok(()) => pause = FIRST_PAUSE,
                Err(error) => {
                    tracing::debug!(%error, "not listening for work of other nodes");
                    tokio::time::sleep(jittered(pause)).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Listens by one connection until it ends.
    async fn hear_one(&self, options: &PgConnectOptions, channel: &str, node: &str) -> Result<(), sqlx::Error> {
        let one = PgPoolOptions::new().max_connections(1).acquire_timeout(Duration::from_secs(10));
        let one = one.connect_lazy_with(options.clone());
        let mut listener = PgListener::connect_with(&one).await?;
        listener.eager_reconnect(false);
        listener.listen(channel).await?;
        // Whatever was rung while nobody listened.
        self.here.ring();
        while let Ok(Some(notification)) = timeout(SILENCE, listener.try_recv()).await.unwrap_or(Ok(None)) {
            if notification.payload() != node {
                self.here.ring();
            }
        }
        Ok(())
    }
}
