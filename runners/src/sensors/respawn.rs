//! When a sensor that ended starts again. Pure.
//!
//! StackStorm tries twice (after 2.5 s and 5 s) and then gives up for good (spec/sensors.md §5). Here the pauses go on
//! doubling up to a bound, and the sensor's state says so all the while.

use std::time::Duration;

use crate::process::Exit;

/// The pauses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RespawnOptions {
    /// Before the first restart; doubles with each.
    pub first: Duration,
    pub longest: Duration,
    /// A process that lived this long ends the series.
    pub healthy: Duration,
}

impl Default for RespawnOptions {
    fn default() -> Self {
        Self { first: Duration::from_millis(2500), longest: Duration::from_secs(60), healthy: Duration::from_secs(10) }
    }
}

/// What follows the end of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It ended as it meant to: nothing, until the sensor changes.
    Rest,
    After(Duration),
}

/// Counts failures in a row.
#[derive(Debug, Clone)]
pub struct Respawn {
    options: RespawnOptions,
    failures: u32,
}

impl Respawn {
    pub const fn new(options: RespawnOptions) -> Self {
        Self { options, failures: 0 }
    }

    /// Failures in a row so far.
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// The sensor was changed: what was wrong may be right now.
    pub const fn forget(&mut self) {
        self.failures = 0;
    }

    /// A process ended that nobody told to.
    pub fn on_exit(&mut self, exit: Exit, lived: Duration) -> Next {
        if exit == Exit::Code(0) {
            self.failures = 0;
            return Next::Rest;
        }
        if lived >= self.options.healthy {
            self.failures = 0;
        }
        Next::After(self.on_failure())
    }

    /// It failed, or could not be started.
    pub fn on_failure(&mut self) -> Duration {
        let doublings = self.failures.min(31);
        self.failures = self.failures.saturating_add(1);
        self.options.first.saturating_mul(1 << doublings).min(self.options.longest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_double_up_to_a_minute_and_a_healthy_life_ends_the_series() {
        let mut respawn = Respawn::new(RespawnOptions::default());
        let crash = |respawn: &mut Respawn, lived| match respawn.on_exit(Exit::Code(1), lived) {
            Next::After(pause) => pause.as_secs_f64(),
            Next::Rest => panic!("it failed"),
        };
        let pauses: Vec<f64> = (0..7).map(|_| crash(&mut respawn, SECOND)).collect();
        assert_eq!(pauses, [2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 60.0]);
        assert_eq!(crash(&mut respawn, 10 * SECOND), 2.5);
        assert_eq!(crash(&mut respawn, SECOND), 5.0);
        respawn.forget();
        assert_eq!(respawn.on_exit(Exit::Signal(9), SECOND), Next::After(SECOND * 5 / 2));
        assert_eq!(respawn.on_exit(Exit::Code(0), SECOND), Next::Rest);
        assert_eq!(respawn.failures(), 0);
    }

    proptest! {
        #[test]
        fn it_never_gives_up_nor_spins(lives in prop::collection::vec(0u64..20, 1..200)) {
            let options = RespawnOptions::default();
            let mut respawn = Respawn::new(options);
            for lived in lives {
                match respawn.on_exit(Exit::Unknown, Duration::from_secs(lived)) {
                    Next::After(pause) => prop_assert!(pause >= options.first && pause <= options.longest),
                    Next::Rest => prop_assert!(false, "it gave up"),
                }
            }
        }
    }
}
