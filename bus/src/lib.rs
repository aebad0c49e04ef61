//! The message port: a doorbell, never the truth (DESIGN §2 rule 1).
//!
//! * [`Event`]s fan out to every subscriber of their [`Topic`] on every node (stream, caches, timers).
//! * [`Job`]s go to one consumer of a [`Queue`] (rules engine, scheduler, runners).
//!
//! [`Bus`] is the port; [`local`] is the in-process adapter. Every adapter passes [`contract`]. Whatever is lost,
//! repeated or reordered here is healed from the store by the backup scheduler.

#[cfg(feature = "contract")]
pub mod contract;
pub mod local;
pub mod message;
pub mod port;

pub use local::{Fanout, LocalBus, LocalBusOptions};
pub use message::{Change, Event, Job, Queue, Topic};
pub use port::{
    Acknowledge, Bus, BusError, Consumer, DeadLetter, DeadLetters, Delivery, Received, Slot, Subject, Subscription,
};
