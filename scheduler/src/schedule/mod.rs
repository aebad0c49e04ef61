//! From requested to the run queue: delays, concurrency policies, and refilling after a queue was full
//! (spec/scheduling.md §3 – §5).
//!
//! An execution that nothing holds back is passed on without a write. One task decides about all of them; its slow
//! steps (calls of the coordinator, writes) run beside it and come back as [`Done`](work::Done).
//!
//! An execution that policies limit seeks its permits ([`seek`]): the coordinator says who goes next, over all nodes,
//! and the commit that puts the permits into the store lets it go on. Whichever node hears of a grant may take that
//! step; the one that asked does it at once, another if that one doesn't ([`orphans`]).

mod delays;
mod limits;
mod orphans;
mod policy;
mod refill;
mod seek;
mod work;

use std::sync::Arc;

use bus::Queue;
use domain::Services;
use tokio_util::sync::CancellationToken;

use crate::queue::consume;
use crate::settings::ScheduleSettings;
use work::Work;

pub(crate) use limits::threshold_of;

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
