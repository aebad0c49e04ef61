//! From requested to the run queue: delays, concurrency policies, and refilling after a queue was full
//! (spec/scheduling.md §3 – §5).
//!
//! An execution that nothing holds back is passed on without a write. One task decides about all of them, so the
//! gate's counts need no lock; its slow steps (writes) run beside it and come back as [`Done`].

mod delays;
mod gate;
mod limits;
mod refill;
mod work;

use std::sync::Arc;

use bus::Queue;
use domain::Services;
use tokio_util::sync::CancellationToken;

use crate::queue::consume;
use crate::settings::ScheduleSettings;
use work::Work;

/// The execution scheduler; any number of nodes run one.
#[derive(Debug)]
pub struct Scheduler {
    services: Arc<Services>,
    settings: ScheduleSettings,
}

impl Scheduler {
    pub fn new(services: Arc<Services>, settings: ScheduleSettings) -> Self {
        Self { services, settings }
    }

    /// Schedules until `cancel`, or until the bus is closed. What is in memory then is in the store too.
    pub async fn run(self, cancel: CancellationToken) {
        let Some(mut jobs) = consume(&self.services, Queue::Schedule, self.settings.prefetch, &cancel).await else {
            return;
        };
        let mut work = Work::new(self.services.clone(), self.settings);
        loop {
            tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                input = work.next() => work.handle_input(input).await,
                delivery = jobs.next() => match delivery {
                    Some(delivery) => work.take(delivery).await,
                    None => return,
                },
            }
        }
    }
}
