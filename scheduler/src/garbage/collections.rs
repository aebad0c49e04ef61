//! One function for each kind of garbage; each returns how much it deleted.

use std::time::Duration;

use model::idempotency::NamedRequest;
use model::{
    Execution, Id, KeyValue, OutputChunk, Resource, ResultValue, RuleEnforcement, Status, Timestamp, Token,
    TriggerInstance,
};
use store::{Applied, Batch, Cond, Order, Query, StoreError, StoreExt};

use super::{Collector, Cut};
use crate::queue::pause;

impl Collector {
    /// Completed executions that began and ended before, with their output and large results.
    pub(super) async fn executions(&self, before: Timestamp) -> Result<u64, Cut> {
        let mut deleted = 0;
        for status in Status::ALL.into_iter().filter(|status| status.is_completed()) {
            loop {
                let query = Query::eq("status", status)
                    .and(Cond::Lt("start_timestamp", before.into()))
                    .and(Cond::Lt("end_timestamp", before.into()))
                    .and(Cond::Absent("postrun"))
                    .order(Order::Asc("start_timestamp"))
                    .limit(self.settings.batch);
                let found = self.services.store.search::<Execution>(&query).await?;
                if found.is_empty() {
                    break;
                }
                let full = found.len() as u64 == self.settings.batch;
                let ids: Vec<Id> = found.iter().map(|execution| execution.id).collect();
                // What belongs to them goes first: were it the other way round, a crash would leave it for ever.
                self.outputs_of(&ids).await?;
                for execution in &found {
                    if let Some(ResultValue::Blob { blob, .. }) = &execution.result {
                        self.services.store.delete_blob(*blob).await?;
                    }
                }
                deleted += self.delete::<Execution>(&ids).await?;
                if !full {
                    break;
                }
            }
        }
        Ok(deleted)
    }

    async fn outputs_of(&self, executions: &[Id]) -> Result<u64, Cut> {
        let keys = executions.iter().map(|id| (*id).into()).collect();
        self.delete_found::<OutputChunk>(&Query::filter(Cond::In("execution_id", keys))).await
    }

    pub(super) async fn outputs(&self, before: Timestamp) -> Result<u64, Cut> {
        self.delete_found::<OutputChunk>(&Query::filter(Cond::Lt("timestamp", before.into()))).await
    }

    /// Those that the rules engine is done with.
    pub(super) async fn trigger_instances(&self, before: Timestamp) -> Result<u64, Cut> {
        let query = Query::filter(Cond::Lt("occurrence_time", before.into())).and(Cond::Absent("check_at"));
        self.delete_found::<TriggerInstance>(&query).await
    }

    pub(super) async fn rule_enforcements(&self, before: Timestamp) -> Result<u64, Cut> {
        self.delete_found::<RuleEnforcement>(&Query::filter(Cond::Lt("enforced_at", before.into()))).await
    }

    pub(super) async fn tokens(&self, before: Timestamp) -> Result<u64, Cut> {
        self.delete_found::<Token>(&Query::filter(Cond::Lt("expiry", before.into()))).await
    }

    /// Requests that clients named, past their time.
    pub(super) async fn named_requests(&self) -> Result<u64, Cut> {
        let now = self.services.now();
        self.delete_found::<NamedRequest>(&Query::filter(Cond::Lt("expires_at", now.into()))).await
    }

    /// Datastore keys past their time; one that is set anew meanwhile stays.
    pub(super) async fn expired_keys(&self) -> Result<u64, Cut> {
        let mut deleted = 0;
        loop {
            let query =
                Query::filter(Cond::Lt("expire_timestamp", self.services.now().into())).limit(self.settings.batch);
            let found = self.services.store.search::<KeyValue>(&query).await?;
            let full = found.len() as u64 == self.settings.batch;
            for pair in found {
                let mut batch = Batch::under(self.fence.clone());
                batch.delete::<KeyValue>(pair.id, Some(pair.rev));
                match self.services.store.commit(batch).await {
                    Ok(_) => deleted += 1,
                    Err(StoreError::Stale { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if !full {
                return Ok(deleted);
            }
            self.pace(self.settings.batch).await?;
        }
    }

    /// Deletes what the query finds, batch by batch.
    async fn delete_found<T: Resource>(&self, query: &Query) -> Result<u64, Cut> {
        let mut deleted = 0;
        loop {
            let query = query.clone().limit(self.settings.batch);
            let found = self.services.store.find(T::COLLECTION, &query).await?;
            let ids: Vec<Id> = found.iter().map(|document| document.id).collect();
            if !ids.is_empty() {
                deleted += self.delete::<T>(&ids).await?;
            }
            if (ids.len() as u64) < self.settings.batch {
                return Ok(deleted);
            }
        }
    }

    /// Deletes by id under the duty's fence, and rests as long as the rate asks for.
    pub(super) async fn delete<T: Resource>(&self, ids: &[Id]) -> Result<u64, Cut> {
        let mut batch = Batch::under(self.fence.clone());
        for id in ids {
            batch.delete::<T>(*id, None);
        }
        let applied = self.services.store.commit(batch).await?;
        let deleted = applied.iter().filter(|applied| **applied == Applied::Deleted).count() as u64;
        metrics::counter!("squall_garbage_deleted_total", "collection" => T::COLLECTION.name).increment(deleted);
        self.pace(ids.len() as u64).await?;
        Ok(deleted)
    }

    pub(super) async fn pace(&self, count: u64) -> Result<(), Cut> {
        let rest = Duration::from_secs_f64(count as f64 / self.settings.rate.max(1) as f64);
        if pause(rest, &self.stop).await { Ok(()) } else { Err(Cut::Stopped) }
    }
}
