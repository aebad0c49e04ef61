//! Limits and choices of the roles, each with its default.

use std::time::Duration;

use model::Status;
use model::timer::Overlap;

/// All roles' settings.
#[derive(Debug, Clone, Default)]
pub struct SchedulerSettings {
    pub rules: RulesSettings,
    pub schedule: ScheduleSettings,
    pub timers: TimerSettings,
    pub postrun: PostRunSettings,
    pub recovery: RecoverySettings,
    pub garbage: GarbageSettings,
}

/// Of the rules engine.
#[derive(Debug, Clone)]
pub struct RulesSettings {
    /// Trigger instances in work at a time.
    pub concurrency: usize,
    /// Executions that one commit may make; an instance that matches more rules takes several.
    pub executions_per_commit: usize,
    /// Triggers whose compiled rules are kept.
    pub cached_triggers: usize,
}

impl Default for RulesSettings {
    fn default() -> Self {
        Self { concurrency: 64, executions_per_commit: 200, cached_triggers: 20_000 }
    }
}

/// Of the execution scheduler.
#[derive(Debug, Clone)]
pub struct ScheduleSettings {
    /// Executions in work at a time.
    pub prefetch: usize,
    /// Delayed executions kept in memory; later ones wait in the store.
    pub max_delayed: usize,
    /// Executions that wait for a policy in memory; others wait for recovery.
    pub max_waiting: usize,
    /// Executions read from the store at a time after a queue was full.
    pub refill_page: u64,
    /// The run queue is refilled when fewer jobs than this wait there.
    pub refill_below: usize,
    /// How often the run queue's length is looked at while there is a backlog in the store.
    pub refill_interval: Duration,
    /// Recovery looks at an execution that a policy holds after this long, in case that all else failed; that writes to
    /// it once.
    pub policy_recheck: Duration,
}

impl Default for ScheduleSettings {
    fn default() -> Self {
        Self {
            prefetch: 256,
            max_delayed: 50_000,
            max_waiting: 50_000,
            refill_page: 1_000,
            refill_below: 1_000,
            refill_interval: Duration::from_millis(20),
            policy_recheck: Duration::from_secs(600),
        }
    }
}

/// What happens with slots that were not fired in time, because no engine was at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Misfire {
    /// They are left out (and counted).
    Skip,
    /// The latest of them fires.
    FireOnce,
    /// All of them fire, as far back as the catch-up window; beyond it the latest one fires for all of them (not for
    /// date timers: they are too old then).
    #[default]
    FireAll,
}

/// Of the timers engine.
#[derive(Debug, Clone)]
pub struct TimerSettings {
    pub misfire: Misfire,
    /// How far back missed slots fire one by one (spec/ha.md I-T1), and date timers at all.
    pub catch_up_window: Duration,
    /// A slot later than this is a misfire.
    pub grace: Duration,
    /// Cron times that the clocks show twice.
    pub overlap: Overlap,
    /// Ticks that go into one commit.
    pub ticks_per_commit: usize,
    /// Commits in flight at a time.
    pub commits_in_flight: usize,
    /// How often ticks take the cursor with them: after a restart, slots since then are tried again (their derived
    /// ids tell which ones had been fired).
    pub cursor_interval: Duration,
}

impl Default for TimerSettings {
    fn default() -> Self {
        Self {
            misfire: Misfire::FireAll,
            catch_up_window: Duration::from_secs(60),
            grace: Duration::from_secs(1),
            overlap: Overlap::Auto,
            ticks_per_commit: 500,
            commits_in_flight: 4,
            cursor_interval: Duration::from_secs(5),
        }
    }
}

/// Of what follows a completion.
#[derive(Debug, Clone)]
pub struct PostRunSettings {
    /// Executions in work at a time.
    pub concurrency: usize,
    /// `action_sensor.enable`: whether completions fire `core.st2.generic.actiontrigger`.
    pub action_trigger: bool,
    /// `action_sensor.emit_when`.
    pub emit_when: Vec<Status>,
    /// Executions read from the store at a time after the queue was full.
    pub refill_page: u64,
}

impl Default for PostRunSettings {
    fn default() -> Self {
        Self {
            concurrency: 32,
            action_trigger: true,
            emit_when: Status::ALL.into_iter().filter(|status| status.is_completed()).collect(),
            refill_page: 500,
        }
    }
}

/// Of the backup scheduler.
#[derive(Debug, Clone)]
pub struct RecoverySettings {
    /// How often the store is swept for what stopped moving.
    pub interval: Duration,
    /// Documents read at a time.
    pub page: u64,
    /// Documents of one kind looked at in one sweep.
    pub sweep_limit: u64,
    /// Nothing is rung again while more jobs than this wait in its queue.
    pub queue_below: usize,
    /// What was rung again is left alone for this long, then twice as long, up to `max_backoff`.
    pub backoff: Duration,
    pub max_backoff: Duration,
}

impl Default for RecoverySettings {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            page: 500,
            sweep_limit: 20_000,
            queue_below: 1_000,
            backoff: Duration::from_secs(5),
            max_backoff: Duration::from_secs(300),
        }
    }
}

/// Of the garbage collector. Times to live of `None` keep everything (spec/model.md §13).
#[derive(Debug, Clone)]
pub struct GarbageSettings {
    pub collection_interval: Duration,
    /// Pause between collections of different kinds.
    pub sleep_delay: Duration,
    pub executions_ttl: Option<Duration>,
    pub execution_output_ttl: Option<Duration>,
    pub trigger_instances_ttl: Option<Duration>,
    pub rule_enforcements_ttl: Option<Duration>,
    pub tokens_ttl: Option<Duration>,
    /// Whether inquiries that nobody answered in their time end.
    pub purge_inquiries: bool,
    /// How often expired datastore keys are deleted, and inquiries looked at.
    pub key_expiry_interval: Duration,
    /// Whether snapshots that no execution refers to are looked for, once per collection.
    pub snapshots: bool,
    /// Documents deleted by one commit.
    pub batch: u64,
    /// Documents deleted per second at most.
    pub rate: u64,
}

const DAY: Duration = Duration::from_secs(24 * 3600);

impl Default for GarbageSettings {
    fn default() -> Self {
        Self {
            collection_interval: Duration::from_secs(600),
            sleep_delay: Duration::from_secs(2),
            executions_ttl: None,
            execution_output_ttl: Some(7 * DAY),
            trigger_instances_ttl: None,
            rule_enforcements_ttl: None,
            tokens_ttl: None,
            purge_inquiries: false,
            key_expiry_interval: Duration::from_secs(30),
            snapshots: true,
            batch: 500,
            rate: 5_000,
        }
    }
}

impl GarbageSettings {
    /// Refuses times to live of less than a day, as StackStorm does.
    ///
    /// # Errors
    /// A text that names the setting.
    pub fn check(&self) -> Result<(), String> {
        let all = [
            ("action_executions_ttl", self.executions_ttl),
            ("action_executions_output_ttl", self.execution_output_ttl),
            ("trigger_instances_ttl", self.trigger_instances_ttl),
            ("rule_enforcements_ttl", self.rule_enforcements_ttl),
            ("tokens_ttl", self.tokens_ttl),
        ];
        for (name, ttl) in all {
            if ttl.is_some_and(|ttl| ttl < DAY) {
                return Err(format!("Minimum value for \"{name}\" is 1 day"));
            }
        }
        Ok(())
    }
}
