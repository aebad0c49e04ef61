//! One look at everything that should have moved.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bus::{Event, Job, Queue};
use domain::executions::{self, update};
use domain::{DomainError, Services};
use model::{Execution, Id, ResultValue, Session, Status, Timestamp, TriggerInstance, Versioned};
use serde_json::json;
use store::{Cond, Order, Query, StoreExt};
use tokio::sync::watch;

use super::LiveSessions;
use super::backoff::Backoff;
use super::permits::PermitSweep;
use super::verdict::{self, Verdict};
use crate::settings::RecoverySettings;

/// A workflow whose runners are lost so often before it begins is abandoned.
const MAX_BEGINNINGS: u32 = 5;
/// While the list of live sessions doesn't change, running executions are looked at this often.
const RUNNING_INTERVAL: Duration = Duration::from_secs(5);

pub(super) struct Sweep {
    services: Arc<Services>,
    settings: RecoverySettings,
    session: watch::Receiver<Option<Session>>,
    live: Arc<dyn LiveSessions>,
    backoff: Backoff,
    permits: PermitSweep,
    /// The sessions for which running executions were looked at, and when.
    judged: Option<(Vec<Session>, Instant)>,
}

impl Sweep {
    pub(super) fn new(
        services: Arc<Services>,
        settings: RecoverySettings,
        session: watch::Receiver<Option<Session>>,
        live: Arc<dyn LiveSessions>,
        permits: PermitSweep,
    ) -> Self {
        let backoff = Backoff::new(settings.backoff, settings.max_backoff);
        Self { services, settings, session, live, backoff, permits, judged: None }
    }

    pub(super) async fn once(&mut self) -> Result<(), DomainError> {
        let now = Instant::now();
        self.backoff.prune(now);
        self.judge_running(now).await?;
        self.permits.once(&self.services, self.settings.page, now).await?;
        self.ring_executions(now).await?;
        self.ring_instances(now).await?;
        self.ring_completed(now).await
    }

    // --- lost runners ------------------------------------------------------------------------------------------

    /// Who lives; `None` while this node is not sure of its own place.
    fn live(&self) -> Option<Vec<Session>> {
        let own = self.session.borrow().clone()?;
        let mut live = self.live.live_sessions()?;
        // The list may lag behind what this node knows about itself.
        if !live.contains(&own) {
            live.push(own);
        }
        live.sort_by(|a, b| (&a.node, a.epoch).cmp(&(&b.node, b.epoch)));
        Some(live)
    }

    /// Whether others live than when running executions were last judged.
    pub(super) fn sees_other_sessions(&self) -> bool {
        let live = self.live();
        live.is_some() && live.as_ref() != self.judged.as_ref().map(|(live, _)| live)
    }

    async fn judge_running(&mut self, now: Instant) -> Result<(), DomainError> {
        let live = self.live();
        if let (Some(live), Some((judged, at))) = (&live, &self.judged)
            && live == judged
            && now.duration_since(*at) < RUNNING_INTERVAL
        {
            return Ok(());
        }
        for status in [Status::Running, Status::Canceling, Status::Pausing, Status::Resuming] {
            self.judge(status, live.as_deref(), now).await?;
        }
        self.judged = live.map(|live| (live, now));
        Ok(())
    }

    async fn judge(&mut self, status: Status, live: Option<&[Session]>, now: Instant) -> Result<(), DomainError> {
        let mut after: Option<Id> = None;
        let mut seen = 0;
        while seen < self.settings.sweep_limit {
            let mut query = Query::eq("status", status).limit(self.settings.page);
            query.conds.extend(after.map(Cond::IdAfter));
            let page = self.services.store.search::<Execution>(&query).await?;
            after = page.last().map(|last| last.id);
            seen += page.len() as u64;
            let full = page.len() as u64 == self.settings.page;
            for execution in page {
                match verdict::of(&execution, live, self.services.now()) {
                    Verdict::Leave => {}
                    Verdict::End(status) => self.end(&execution, status).await?,
                    Verdict::TellAgain if self.backoff.allows(execution.id, now) => {
                        self.services.bus.announce(Arc::new(Event::Cancel { execution: execution.id }));
                    }
                    Verdict::AskAgain if self.backoff.allows(execution.id, now) => {
                        executions::ask_workflow(&self.services, &execution).await;
                    }
                    Verdict::TellAgain | Verdict::AskAgain => {}
                }
            }
            if !full {
                break;
            }
        }
        Ok(())
    }

    /// Ends the attempt that was judged, and no other.
    async fn end(&self, judged: &Execution, status: Status) -> Result<(), DomainError> {
        let (attempt, claim) = (judged.attempt, judged.claim.clone());
        if judged.action_is_workflow
            && let Some(workflows) = self.services.workflows.get()
            && (status != Status::Abandoned || judged.attempt < MAX_BEGINNINGS)
        {
            let begun = workflows.has_begun(judged.id).await?;
            if begun || status == Status::Abandoned {
                return self.leave_to_engine(judged, begun).await;
            }
        }
        let ended = update(&self.services, judged.id, |execution, now| {
            if execution.status != judged.status || execution.attempt != attempt || execution.claim != claim {
                return Ok(false);
            }
            if execution.advance(status, now).is_err() {
                return Ok(false);
            }
            if status == Status::Abandoned && execution.result.is_none() {
                let node = claim.as_ref().map_or("?", |claim| claim.node.as_str());
                let error = format!("The runner on node {node} was lost before the action ended.");
                let result = json!({"error": error, "traceback": ""});
                execution.result_size = result.to_string().len() as u64;
                execution.result = Some(ResultValue::Inline(result));
            }
            Ok(true)
        });
        match ended.await {
            Ok(execution) if execution.status == status => {
                metrics::counter!("squall_executions_recovered_total", "outcome" => status.as_str()).increment(1);
                tracing::warn!(execution = %execution.id, %status, ?claim, "decided: its runner is lost");
                Ok(())
            }
            Ok(_) | Err(DomainError::NotFound(_) | DomainError::Superseded(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The runner of a workflow was lost before it let go of the execution. If the workflow has begun, it goes on
    /// without a runner; else another one lets it begin.
    async fn leave_to_engine(&self, judged: &Execution, begun: bool) -> Result<(), DomainError> {
        let claim = judged.claim.clone();
        let redrive_after = self.services.settings.redrive_after;
        let freed = update(&self.services, judged.id, |execution, now| {
            let is_as_judged = execution.claim == claim && execution.attempt == judged.attempt;
            if is_as_judged {
                execution.claim = None;
                // Until then the job is thought to be under way.
                execution.check_at = (!begun).then(|| now.plus(redrive_after));
            }
            Ok(is_as_judged)
        })
        .await?;
        if !begun && executions::may_begin_again(&freed) {
            tracing::info!(execution = %freed.id, "the workflow's runner was lost before it began: another one begins it");
            executions::release(&self.services, freed).await;
        }
        Ok(())
    }

    // --- lost doorbells ----------------------------------------------------------------------------------------

    async fn is_short(&self, queue: Queue) -> bool {
        self.services.bus.waiting(queue).await.is_ok_and(|waiting| waiting < self.settings.queue_below)
    }

    async fn ring(&mut self, queue: Queue, job: Job, now: Instant) -> bool {
        if !self.backoff.allows(job.id(), now) {
            return true;
        }
        metrics::counter!("squall_jobs_rung_again_total", "queue" => queue.as_str()).increment(1);
        tracing::debug!(id = %job.id(), queue = queue.as_str(), "rung again");
        self.services.bus.enqueue(queue, job).await.is_ok()
    }

    async fn ring_executions(&mut self, now: Instant) -> Result<(), DomainError> {
        if !(self.is_short(Queue::Schedule).await && self.is_short(Queue::Run).await) {
            return Ok(());
        }
        let mut from = Timestamp::default();
        let mut seen = 0;
        while seen < self.settings.sweep_limit {
            let page: Vec<Versioned<Execution>> =
                self.services.store.search(&overdue(from, self.services.now(), self.settings.page)).await?;
            seen += page.len() as u64;
            let full = page.len() as u64 == self.settings.page;
            from = page.last().and_then(|last| last.check_at).unwrap_or(from);
            for execution in page {
                // Running ones are judged by their claims, unless nobody holds them.
                if executions::may_begin_again(&execution) {
                    let job = Job::Execution { id: execution.id, hint: Some(Arc::new(execution)) };
                    if !self.ring(Queue::Run, job, now).await {
                        return Ok(());
                    }
                } else if matches!(execution.status, Status::Requested | Status::Scheduled | Status::Delayed) {
                    let job = Job::Execution { id: execution.id, hint: Some(Arc::new(execution)) };
                    if !self.ring(Queue::Schedule, job, now).await {
                        return Ok(());
                    }
                }
            }
            if !full {
                break;
            }
        }
        Ok(())
    }

    async fn ring_instances(&mut self, now: Instant) -> Result<(), DomainError> {
        if !self.is_short(Queue::Rules).await {
            return Ok(());
        }
        let mut from = Timestamp::default();
        let mut seen = 0;
        while seen < self.settings.sweep_limit {
            let page: Vec<Versioned<TriggerInstance>> =
                self.services.store.search(&overdue(from, self.services.now(), self.settings.page)).await?;
            seen += page.len() as u64;
            let full = page.len() as u64 == self.settings.page;
            from = page.last().and_then(|last| last.check_at).unwrap_or(from);
            for instance in page {
                let job = Job::TriggerInstance { id: instance.id, hint: Some(Arc::new(instance)) };
                if !self.ring(Queue::Rules, job, now).await {
                    return Ok(());
                }
            }
            if !full {
                break;
            }
        }
        Ok(())
    }

    async fn ring_completed(&mut self, now: Instant) -> Result<(), DomainError> {
        if !self.is_short(Queue::PostRun).await {
            return Ok(());
        }
        let due = self.services.now().minus(self.services.settings.redrive_after);
        let query = Query::eq("postrun", 1).and(Cond::Le("end_timestamp", due.into())).limit(self.settings.page);
        for execution in self.services.store.search::<Execution>(&query).await? {
            let job = Job::Execution { id: execution.id, hint: Some(Arc::new(execution)) };
            if !self.ring(Queue::PostRun, job, now).await {
                break;
            }
        }
        Ok(())
    }
}

fn overdue(from: Timestamp, now: Timestamp, limit: u64) -> Query {
    Query::filter(Cond::Gt("check_at", from.into()))
        .and(Cond::Le("check_at", now.into()))
        .order(Order::Asc("check_at"))
        .limit(limit)
}
