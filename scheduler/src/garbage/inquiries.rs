//! Inquiries that nobody answered in their time (spec/scheduling.md §9 step 7).

use domain::DomainError;
use domain::executions::inquiry;
use model::{Execution, Id, Status};
use store::{Cond, Query, StoreExt};

use super::{Collector, Cut};

impl Collector {
    /// Ends those that have waited for too long; returns how many. An answer that comes first wins.
    pub(super) async fn inquiries(&self) -> Result<u64, Cut> {
        let mut ended = 0;
        let mut after: Option<Id> = None;
        loop {
            let mut query = Query::eq("status", Status::Pending).limit(self.settings.batch);
            query.conds.extend(after.map(Cond::IdAfter));
            let page = self.services.store.search::<Execution>(&query).await?;
            let Some(last) = page.last() else { return Ok(ended) };
            after = Some(last.id);
            for waiting in page.iter().filter(|execution| execution.runner_type == inquiry::RUNNER) {
                match self.expire(waiting).await {
                    Ok(true) => ended += 1,
                    Ok(false) | Err(DomainError::Superseded(_) | DomainError::NotFound(_)) => {}
                    Err(DomainError::Store(error)) => return Err(error.into()),
                    Err(error) => tracing::warn!(execution = %waiting.id, %error, "the inquiry can't be ended"),
                }
            }
            self.pace(page.len() as u64).await?;
        }
    }

    async fn expire(&self, waiting: &Execution) -> Result<bool, DomainError> {
        let asked = inquiry::read(&self.services, waiting).await?;
        if !asked.is_over(waiting.start_timestamp, self.services.now()) {
            return Ok(false);
        }
        inquiry::give_up(&self.services, waiting, Status::Timeout).await?;
        tracing::info!(execution = %waiting.id, "nobody answered the inquiry in its time");
        Ok(true)
    }
}
