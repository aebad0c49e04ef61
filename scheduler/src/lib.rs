//! The roles that move things on: from events to executions, from executions to runners, and what follows.
//!
//! | role | takes | gives |
//! |---|---|---|
//! | [`RulesEngine`] | trigger instances (queue `rules`) | executions, enforcement records |
//! | [`Scheduler`] | requested executions (queue `schedule`) | executions that may run (queue `run`) |
//! | [`TimersEngine`] | timer triggers, the clock | trigger instances |
//! | [`PostRun`] | completed executions (queue `postrun`) | notifications, action trigger, retries |
//! | [`BackupScheduler`] | whatever stopped moving | the same, moving again or decided |
//! | [`DeadLetterOffice`] | jobs that the bus gave up on | the same, failed with a reason |
//! | [`GarbageCollector`] | what is older than its time to live | room |
//!
//! The first, second and fourth run on every node and compete for jobs; the others are cluster duties and work only
//! while their lease is valid (DESIGN §2 rule 5). Each role is built with [`domain::Services`] and its part of
//! [`SchedulerSettings`], and runs until its token is canceled. What decides is pure and in modules of its own
//! (`seek`, `decider`, `verdict`); the roles are shells around it.

mod duty;
mod garbage;
mod instances;
mod permits;
mod postrun;
mod queue;
mod recovery;
mod rules;
mod schedule;
mod settings;
mod timers;

pub use garbage::GarbageCollector;
pub use postrun::PostRun;
pub use recovery::{BackupScheduler, DeadLetterOffice, LiveSessions};
pub use rules::RulesEngine;
pub use schedule::Scheduler;
pub use settings::{
    GarbageSettings, Misfire, PostRunSettings, RecoverySettings, RulesSettings, ScheduleSettings, SchedulerSettings,
    TimerSettings,
};
pub use timers::{TimerLateness, TimerStats, TimersEngine};
