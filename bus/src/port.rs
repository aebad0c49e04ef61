//! The port.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use model::Id;

use crate::message::{Event, Job, Queue, Topic};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// The queue is at its bound. The sender goes on: the store has the work, and recovery finds it.
    #[error("queue {0} is full")]
    Full(&'static str),
    #[error("the bus is unavailable: {0}")]
    Unavailable(String),
    /// The bus was shut down.
    #[error("the bus is closed")]
    Closed,
}

/// Carries events and jobs.
///
/// Guarantees: none that correctness may rest on. An adapter does its best to deliver each event to each current
/// subscriber in order of announcement, and each job to one consumer, again if that one dropped it unacknowledged.
#[async_trait]
pub trait Bus: Send + Sync + Debug {
    /// Never blocks and never fails: a subscriber that can't keep up is told that it lost some.
    fn announce(&self, event: Arc<Event>);

    /// Events of these topics from now on.
    fn subscribe(&self, topics: &[Topic]) -> Box<dyn Subscription>;

    async fn enqueue(&self, queue: Queue, job: Job) -> Result<(), BusError>;

    /// Takes part in serving a queue, with at most `prefetch` unacknowledged deliveries at a time.
    async fn consume(&self, queue: Queue, prefetch: usize) -> Result<Box<dyn Consumer>, BusError>;

    /// Jobs that wait in a queue, as far as the adapter knows: whoever refills it from the store looks here first.
    async fn waiting(&self, queue: Queue) -> Result<usize, BusError>;

    /// Whether the bus works, for readiness.
    async fn check(&self) -> Result<(), BusError>;

    /// Jobs that the bus gave up on; `None` if this adapter never does.
    fn dead_letters(&self) -> Option<Box<dyn DeadLetters>> {
        None
    }
}

/// What a subscription yields.
#[derive(Debug, Clone)]
pub enum Received {
    Event(Arc<Event>),
    /// This many events were lost on this subscription: whatever was derived from them must be read anew.
    Lost(u64),
}

#[async_trait]
pub trait Subscription: Send + Debug {
    /// The next event; `None` once the bus is closed. Cancel safe.
    async fn next(&mut self) -> Option<Received>;
}

#[async_trait]
pub trait Consumer: Send + Debug {
    /// The next job; `None` once the bus is closed. Cancel safe. Waits while `prefetch` deliveries are open.
    async fn next(&mut self) -> Option<Delivery>;
}

/// A job in hand. Dropped without [`Delivery::ack`] it goes back to the queue, and that counts as a failed try: an
/// adapter may give up on a job after many of them ([`Bus::dead_letters`]).
#[derive(Debug)]
pub struct Delivery {
    pub job: Job,
    acknowledge: Option<Box<dyn Acknowledge>>,
}

/// How an adapter learns of the fate of a delivery.
pub trait Acknowledge: Send + Debug {
    fn settle(self: Box<Self>, done: bool);

    /// Back to the queue without counting as a failed try.
    fn release(self: Box<Self>) {
        self.settle(false);
    }

    /// The work goes on for a while under somebody's own durable responsibility; what is returned ends with it.
    fn accept(self: Box<Self>) -> Option<Box<dyn Any + Send>> {
        self.settle(true);
        None
    }
}

/// The place of a job that was accepted and is still being worked on; see [`Delivery::accept`].
#[must_use = "dropped, it says that the work is over"]
pub struct Slot {
    _held: Option<Box<dyn Any + Send>>,
}

impl Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Slot")
    }
}

impl Delivery {
    pub fn new(job: Job, acknowledge: Box<dyn Acknowledge>) -> Self {
        Self { job, acknowledge: Some(acknowledge) }
    }

    /// The work is done, or durably taken over: don't deliver it again.
    pub fn ack(mut self) {
        if let Some(acknowledge) = self.acknowledge.take() {
            acknowledge.settle(true);
        }
    }

    /// The work is durably taken over, and goes on until the slot is dropped: an adapter that shares jobs among nodes
    /// gives this consumer no others in its place meanwhile. Should this process die, the job may come again.
    pub fn accept(mut self) -> Slot {
        Slot { _held: self.acknowledge.take().and_then(Acknowledge::accept) }
    }

    /// It could not be done now for a reason that lies not in the job (the store is away, the session ended): it comes
    /// again, to anybody, and however often that happens nobody gives up on it.
    pub fn release(mut self) {
        if let Some(acknowledge) = self.acknowledge.take() {
            acknowledge.release();
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(acknowledge) = self.acknowledge.take() {
            acknowledge.settle(false);
        }
    }
}

/// Jobs that the bus gave up on, each to one of those who take part on any node.
#[async_trait]
pub trait DeadLetters: Send + Debug {
    /// The next one; `None` once the bus is closed. Cancel safe.
    async fn next(&mut self) -> Option<DeadLetter>;
}

/// A job that nobody will get any more. Dropped without [`DeadLetter::ack`] it comes again.
#[derive(Debug)]
pub struct DeadLetter {
    /// Where it waited, if that is still known.
    pub queue: Option<Queue>,
    /// What it was about, unless the message could not be read at all.
    pub subject: Option<Subject>,
    /// Why the bus gave up, for people.
    pub reason: String,
    acknowledge: Option<Box<dyn Acknowledge>>,
}

/// The document that a job is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    Execution(Id),
    TriggerInstance(Id),
}

impl DeadLetter {
    pub fn new(
        queue: Option<Queue>,
        subject: Option<Subject>,
        reason: String,
        acknowledge: Box<dyn Acknowledge>,
    ) -> Self {
        Self { queue, subject, reason, acknowledge: Some(acknowledge) }
    }

    /// What followed from it is durable.
    pub fn ack(mut self) {
        if let Some(acknowledge) = self.acknowledge.take() {
            acknowledge.settle(true);
        }
    }
}

impl Drop for DeadLetter {
    fn drop(&mut self) {
        if let Some(acknowledge) = self.acknowledge.take() {
            acknowledge.settle(false);
        }
    }
}
