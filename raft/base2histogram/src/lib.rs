//! Stands in for the crates.io crate of this name, which openraft uses for its run-time statistics
//! (`[patch.crates-io]` in the workspace's Cargo.toml).
//!
//! Version 0.2.3 of the original builds tables for all of its sixteen resolutions when the first histogram is made:
//! 26 MB that stay resident and 17 ms of a node's start (measured, release build), for statistics that we don't read.
//! This crate has the part of the interface that openraft calls, written anew, at one resolution: a bucket per power
//! of two. Drop it when the original makes its tables on demand.

use std::fmt;
use std::marker::PhantomData;

const BUCKETS: usize = 65;

/// Counts values by their number of bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    counts: Box<[u64; BUCKETS]>,
    slots: PhantomData<T>,
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Histogram<T> {
    pub fn new() -> Self {
        Self { counts: Box::new([0; BUCKETS]), slots: PhantomData }
    }

    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    pub fn record_n(&mut self, value: u64, count: u64) {
        let bucket = (u64::BITS - value.leading_zeros()) as usize;
        self.counts[bucket] = self.counts[bucket].saturating_add(count);
    }

    pub fn total(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The lowest value of the bucket that `share` (0 to 1) of the values lie in or below; 0 without values.
    pub fn percentile(&self, share: f64) -> u64 {
        let wanted = ((self.total() as f64) * share).ceil().max(1.0);
        let mut seen = 0.0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += *count as f64;
            if *count > 0 && seen >= wanted {
                return bucket.checked_sub(1).map_or(0, |bits| 1 << bits);
            }
        }
        0
    }

    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats {
            samples: self.total(),
            p0_1: self.percentile(0.001),
            p1: self.percentile(0.01),
            p5: self.percentile(0.05),
            p10: self.percentile(0.1),
            p50: self.percentile(0.5),
            p90: self.percentile(0.9),
            p99: self.percentile(0.99),
            p99_9: self.percentile(0.999),
        }
    }
}

/// The usual percentiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PercentileStats {
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} samples, p50 {}, p90 {}, p99 {}, p99.9 {}",
            self.samples, self.p50, self.p90, self.p99, self.p99_9
        )
    }
}

/// Several histograms by name; shown as a line each.
#[derive(Debug, Clone)]
pub struct AsciiChart<T = ()> {
    lines: Vec<String>,
    slots: PhantomData<T>,
}

impl<T> Default for AsciiChart<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> AsciiChart<T> {
    pub fn new() -> Self {
        Self { lines: Vec::new(), slots: PhantomData }
    }

    // The name is the original's.
    #[allow(clippy::should_implement_trait)]
    pub fn add(mut self, name: &str, histogram: Histogram<T>) -> Self {
        self.lines.push(format!("{name}: {}", histogram.percentile_stats()));
        self
    }
}

impl<T> fmt::Display for AsciiChart<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_the_buckets_lowest_values() {
        let mut histogram = Histogram::<()>::new();
        assert_eq!(histogram.percentile(0.5), 0);
        histogram.record_n(0, 50);
        histogram.record_n(9, 40);
        histogram.record(u64::MAX);
        histogram.record_n(100, 9);
        let stats = histogram.percentile_stats();
        assert_eq!((stats.samples, stats.p50, stats.p90, stats.p99), (100, 0, 8, 64));
        assert_eq!(histogram.percentile(1.0), 1 << 63);
    }
}
