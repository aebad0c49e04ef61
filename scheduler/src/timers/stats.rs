//! How late ticks are.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;

/// Buckets grow by a quarter of a power of two, from 2⁴ µs on.
const BUCKETS: usize = 96;

/// Counts of ticks by lateness: from the scheduled time to when the tick was durable.
#[derive(Debug)]
pub struct TimerStats {
    buckets: [AtomicU64; BUCKETS],
    missed: AtomicU64,
}

/// A reading of [`TimerStats`]; percentiles are upper bounds of their buckets.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TimerLateness {
    pub ticks: u64,
    /// Slots that were not fired by their own tick, because they were too late.
    pub missed: u64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
}

impl Default for TimerStats {
    fn default() -> Self {
        Self { buckets: std::array::from_fn(|_| AtomicU64::new(0)), missed: AtomicU64::new(0) }
    }
}

impl TimerStats {
    pub(super) fn fired(&self, lateness: Duration) {
        let micros = u64::try_from(lateness.as_micros()).unwrap_or(u64::MAX);
        self.buckets[bucket(micros)].fetch_add(1, Ordering::Relaxed);
        metrics::histogram!("squall_timer_lateness_seconds").record(lateness.as_secs_f64());
    }

    pub(super) fn missed(&self, count: u64) {
        self.missed.fetch_add(count, Ordering::Relaxed);
        metrics::counter!("squall_timer_slots_missed_total").increment(count);
    }

    /// Since the engine was built.
    pub fn read(&self) -> TimerLateness {
        let counts: Vec<u64> = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect();
        let ticks: u64 = counts.iter().sum();
        let percentile = |share: f64| {
            let wanted = (ticks as f64 * share).ceil().max(1.0);
            let mut sum = 0.0;
            for (index, count) in counts.iter().enumerate() {
                sum += *count as f64;
                if sum >= wanted {
                    return upper_bound(index) / 1_000.0;
                }
            }
            0.0
        };
        TimerLateness {
            ticks,
            missed: self.missed.load(Ordering::Relaxed),
            p50_ms: percentile(0.5),
            p99_ms: percentile(0.99),
            max_ms: percentile(1.0),
        }
    }
}

fn upper_bound(index: usize) -> f64 {
    16.0 * 2f64.powf((index as f64 + 1.0) / 4.0)
}

fn bucket(micros: u64) -> usize {
    (0..BUCKETS - 1).find(|index| micros as f64 <= upper_bound(*index)).unwrap_or(BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_close() {
        let stats = TimerStats::default();
        for millis in 1..=100 {
            stats.fired(Duration::from_millis(millis));
        }
        let read = stats.read();
        assert_eq!(read.ticks, 100);
        assert!((50.0..60.0).contains(&read.p50_ms), "{read:?}");
        assert!((99.0..118.0).contains(&read.p99_ms), "{read:?}");
    }
}
