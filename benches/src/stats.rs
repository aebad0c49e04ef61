//! Percentiles of samples.

use std::time::Duration;

/// Samples of one figure.
#[derive(Debug, Default)]
pub struct Samples(Vec<Duration>);

impl Samples {
    pub fn add(&mut self, sample: Duration) {
        self.0.push(sample);
    }

    pub fn merge(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// How many are longer than this.
    pub fn above(&self, limit: Duration) -> usize {
        self.0.iter().filter(|sample| **sample > limit).count()
    }

    /// `p` from 0 to 100, nearest rank.
    pub fn percentile(&mut self, p: f64) -> Duration {
        self.0.sort_unstable();
        let rank = (p / 100.0 * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }

    /// `p50 1.23 ms, p99 4.56 ms (n 500)`.
    pub fn summary(&mut self) -> String {
        let millis = |duration: Duration| duration.as_secs_f64() * 1e3;
        format!(
            "p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms (n {})",
            millis(self.percentile(50.0)),
            millis(self.percentile(99.0)),
            millis(self.percentile(100.0)),
            self.len()
        )
    }
}
