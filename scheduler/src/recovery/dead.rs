//! Jobs that the bus gave up on, because nobody who took them could do them: they end, and say why.

use std::sync::Arc;

use bus::{DeadLetter, Queue, Subject};
use domain::executions::update;
use domain::{DomainError, Services};
use model::{Execution, Id, InstanceStatus, ResultValue, Status, TriggerInstance};
use serde_json::json;
use store::{Batch, StoreExt};
use tokio_util::sync::CancellationToken;

/// Ends what dead letters are about. Every node may run one; each letter goes to one of them.
#[derive(Debug)]
pub struct DeadLetterOffice {
    services: Arc<Services>,
}

impl DeadLetterOffice {
    pub fn new(services: Arc<Services>) -> Self {
        Self { services }
    }

    /// Works until `cancel`, or until the bus is closed. Does nothing on a bus that never gives up.
    pub async fn run(self, cancel: CancellationToken) {
        let Some(mut letters) = self.services.bus.dead_letters() else { return cancel.cancelled().await };
        loop {
            let letter = tokio::select! {
                () = cancel.cancelled() => return,
                letter = letters.next() => letter,
            };
            match letter {
                Some(letter) => self.take(letter).await,
                None => return,
            }
        }
    }

    async fn take(&self, letter: DeadLetter) {
        let queue = letter.queue.map_or("?", Queue::as_str);
        tracing::error!(queue, subject = ?letter.subject, reason = letter.reason, "a job was given up");
        let ended = match letter.subject {
            Some(Subject::Execution(id)) => self.fail(id, queue, &letter.reason).await,
            Some(Subject::TriggerInstance(id)) => self.fail_instance(id).await,
            // Nothing says what it was about: recovery rings whatever waits.
            None => Ok(()),
        };
        match ended {
            Ok(()) => letter.ack(),
            // It comes again.
            Err(error) => tracing::warn!(%error, "what a lost job was about can't be ended now; trying again"),
        }
    }

    /// Fails it if it still waits. What somebody claimed, put off or ended meanwhile was not lost.
    async fn fail(&self, id: Id, queue: &str, reason: &str) -> Result<(), DomainError> {
        let mut failed = false;
        let ended = update(&self.services, id, |execution: &mut Execution, now| {
            failed = matches!(execution.status, Status::Requested | Status::Scheduled)
                && execution.claim.is_none()
                && execution.advance(Status::Failed, now).is_ok();
            if failed {
                let error = format!("The execution could not be taken from the queue \"{queue}\": {reason}.");
                let result = json!({"error": error, "traceback": ""});
                execution.result_size = result.to_string().len() as u64;
                execution.result = Some(ResultValue::Inline(result));
            }
            Ok(failed)
        });
        match ended.await {
            Ok(execution) if failed => {
                metrics::counter!("squall_executions_recovered_total", "outcome" => "failed").increment(1);
                tracing::warn!(execution = %execution.id, "failed: its job was given up");
                Ok(())
            }
            Ok(_) | Err(DomainError::NotFound(_) | DomainError::Superseded(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn fail_instance(&self, id: Id) -> Result<(), DomainError> {
        loop {
            let Some(mut instance) = self.services.store.read::<TriggerInstance>(id).await? else { return Ok(()) };
            if matches!(instance.status, InstanceStatus::Processed | InstanceStatus::ProcessingFailed) {
                return Ok(());
            }
            instance.doc.status = InstanceStatus::ProcessingFailed;
            instance.doc.check_at = None;
            let mut batch = Batch::new();
            batch.update(&instance);
            match self.services.store.commit(batch).await {
                Ok(_) => {
                    tracing::warn!(trigger_instance = %id, "failed: its job was given up");
                    return Ok(());
                }
                Err(error) if error.is_stale() => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
