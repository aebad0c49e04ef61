//! Reading the backlog from the store, after a queue was full and at the start.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use model::{Execution, Id, Status, Timestamp, Versioned};
use store::{Cond, Order, Query, Store, StoreError, StoreExt};
use tokio::time::Instant;

/// Ids passed on lately, so that reading the backlog doesn't pass them on again.
const RECENT: usize = 20_000;

/// Walks over requested, then delayed executions in the order of their requests.
#[derive(Debug)]
pub(super) struct Refill {
    /// `None`: nothing to do.
    walk: Option<Walk>,
    /// Another refusal came during the walk: begin anew at its end.
    again: bool,
    next: Instant,
    recent: HashSet<Id>,
    order: VecDeque<Id>,
}

#[derive(Debug, Clone, Copy)]
struct Walk {
    status: Status,
    from: Timestamp,
    after: Option<Id>,
}

impl Refill {
    pub(super) fn new() -> Self {
        Self { walk: None, again: false, next: Instant::now(), recent: HashSet::new(), order: VecDeque::new() }
    }

    pub(super) fn start(&mut self) {
        if self.walk.is_some() {
            self.again = true;
            return;
        }
        self.walk = Some(Walk { status: Status::Requested, from: Timestamp::default(), after: None });
        self.next = Instant::now();
    }

    /// When to look again; `None` while there is no backlog.
    pub(super) fn due(&self) -> Option<Instant> {
        self.walk.map(|_| self.next)
    }

    pub(super) fn postpone(&mut self, by: Duration) {
        self.next = Instant::now() + by;
    }

    pub(super) fn passed_on(&mut self, id: Id) {
        if self.recent.insert(id) {
            self.order.push_back(id);
            if self.order.len() > RECENT
                && let Some(oldest) = self.order.pop_front()
            {
                self.recent.remove(&oldest);
            }
        }
    }

    pub(super) fn was_passed_on(&self, id: Id) -> bool {
        self.recent.contains(&id)
    }

    /// The next executions of the walk. The caller says how far it got by [`Refill::reached`].
    pub(super) async fn page(&mut self, store: &dyn Store, size: u64) -> Result<Vec<Versioned<Execution>>, StoreError> {
        let Some(walk) = self.walk else { return Ok(Vec::new()) };
        let query = Query::eq("status", walk.status)
            .and(Cond::Ge("start_timestamp", walk.from.into()))
            .order(Order::Asc("start_timestamp"))
            .limit(size);
        let mut found = store.search::<Execution>(&query).await?;
        let full = found.len() as u64 == size;
        if let Some(after) = walk.after {
            found.retain(|execution| execution.start_timestamp > walk.from || execution.id > after);
        }
        if found.is_empty() && full {
            // A whole page of one instant: go on past it; recovery finds what is left of it.
            self.walk = Some(Walk { from: walk.from.plus(Duration::from_micros(1)), after: None, ..walk });
        } else if found.is_empty() {
            self.next_status(walk.status);
        }
        Ok(found)
    }

    pub(super) fn reached(&mut self, execution: &Execution) {
        if let Some(walk) = &mut self.walk {
            walk.from = execution.start_timestamp;
            walk.after = Some(execution.id);
        }
    }

    fn next_status(&mut self, status: Status) {
        self.walk = match status {
            Status::Requested => Some(Walk { status: Status::Delayed, from: Timestamp::default(), after: None }),
            _ => None,
        };
        if self.walk.is_none() && std::mem::take(&mut self.again) {
            self.start();
        }
    }
}
