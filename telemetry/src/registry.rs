//! The process's metrics, in memory, and their text form.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{
    Counter, CounterFn, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use parking_lot::RwLock;

use crate::names::{METRICS, Metric};

/// A name has at most this many combinations of labels; others are counted in `squall_metrics_series_refused_total`.
const MOST_SERIES: usize = 1_000;

/// Upper bounds of histograms' buckets in seconds: from a claim on an idle box to an action of an hour.
const BOUNDS: [f64; 18] = [
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0, 3_600.0,
];

/// All metrics of a process. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Registry(Arc<RwLock<BTreeMap<String, Family>>>, Arc<AtomicU64>);

#[derive(Debug, Default)]
struct Family {
    series: BTreeMap<Labels, Series>,
}

type Labels = Vec<(String, String)>;

#[derive(Debug, Clone)]
enum Series {
    Counter(Arc<AtomicU64>),
    Gauge(Arc<AtomicU64>),
    Histogram(Arc<Buckets>),
}

/// Counts of values by bound; the last one is of those beyond all bounds.
#[derive(Debug, Default)]
struct Buckets {
    counts: [AtomicU64; BOUNDS.len() + 1],
    /// Bits of an `f64`.
    sum: AtomicU64,
}

impl HistogramFn for Buckets {
    fn record(&self, value: f64) {
        let bucket = BOUNDS.iter().position(|bound| value <= *bound).unwrap_or(BOUNDS.len());
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        let add = |bits: u64| Some((f64::from_bits(bits) + value).to_bits());
        // always `Some`, so this can't fail
        let _ = self.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}

impl Registry {
    /// A registry that the macros of `metrics` record into from now on. A process has one: a second call gives a
    /// registry that stays empty.
    pub fn install() -> Self {
        let registry = Self::default();
        if metrics::set_global_recorder(registry.clone()).is_err() {
            tracing::debug!("metrics are recorded already");
        }
        registry
    }

    fn series(&self, key: &Key, make: impl FnOnce() -> Series) -> Option<Series> {
        let labels: Labels = key.labels().map(|label| (label.key().to_owned(), label.value().to_owned())).collect();
        if let Some(found) = self.0.read().get(key.name()).and_then(|family| family.series.get(&labels)) {
            return Some(found.clone());
        }
        let mut families = self.0.write();
        let family = families.entry(key.name().to_owned()).or_default();
        if family.series.len() >= MOST_SERIES && !family.series.contains_key(&labels) {
            self.1.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(family.series.entry(labels).or_insert_with(make).clone())
    }

    /// Everything in Prometheus' text format, sorted by name.
    pub fn render(&self) -> String {
        let refused = self.1.load(Ordering::Relaxed);
        let mut out = String::with_capacity(16 * 1024);
        for (name, family) in self.0.read().iter() {
            head(&mut out, name, family);
            for (labels, series) in &family.series {
                render_series(&mut out, name, labels, series);
            }
        }
        let name = "squall_metrics_series_refused_total";
        let _ = writeln!(out, "# HELP {name} {}\n# TYPE {name} counter\n{name} {refused}", help(name));
        out
    }
}

fn described(name: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| metric.name == name)
}

fn help(name: &str) -> &'static str {
    described(name).map_or("", |metric| metric.help)
}

fn head(out: &mut String, name: &str, family: &Family) {
    let kind = match family.series.values().next() {
        Some(Series::Counter(_)) => "counter",
        Some(Series::Gauge(_)) => "gauge",
        Some(Series::Histogram(_)) => "histogram",
        None => return,
    };
    let _ = writeln!(out, "# HELP {name} {}\n# TYPE {name} {kind}", help(name));
}

fn render_series(out: &mut String, name: &str, labels: &Labels, series: &Series) {
    match series {
        Series::Counter(value) => {
            let _ = writeln!(out, "{name}{} {}", braces(labels, None), value.load(Ordering::Relaxed));
        }
        Series::Gauge(value) => {
            let _ = writeln!(
                out,
                "{name}{} {}",
                braces(labels, None),
                number(f64::from_bits(value.load(Ordering::Relaxed)))
            );
        }
        Series::Histogram(buckets) => {
            let mut sum = 0;
            for (index, count) in buckets.counts.iter().enumerate() {
                sum += count.load(Ordering::Relaxed);
                let bound = BOUNDS.get(index).map_or_else(|| "+Inf".to_owned(), |bound| number(*bound));
                let _ = writeln!(out, "{name}_bucket{} {sum}", braces(labels, Some(&bound)));
            }
            let plain = braces(labels, None);
            let total = f64::from_bits(buckets.sum.load(Ordering::Relaxed));
            let _ = writeln!(out, "{name}_sum{plain} {}\n{name}_count{plain} {sum}", number(total));
        }
    }
}

fn number(value: f64) -> String {
    match value {
        value if value.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        value => value.to_string(),
    }
}

fn braces(labels: &Labels, bound: Option<&str>) -> String {
    let mut parts: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
    parts.extend(bound.map(|bound| format!("le=\"{bound}\"")));
    if parts.is_empty() { String::new() } else { format!("{{{}}}", parts.join(",")) }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Counters and gauges are what [`metrics`] implements for `AtomicU64`.
impl Recorder for Registry {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        match self.series(key, || Series::Counter(Arc::default())) {
            Some(Series::Counter(value)) => Counter::from_arc(Arc::new(Count(value))),
            _ => Counter::noop(),
        }
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        match self.series(key, || Series::Gauge(Arc::new(AtomicU64::new(0f64.to_bits())))) {
            Some(Series::Gauge(value)) => Gauge::from_arc(value),
            _ => Gauge::noop(),
        }
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        match self.series(key, || Series::Histogram(Arc::default())) {
            Some(Series::Histogram(buckets)) => Histogram::from_arc(buckets),
            _ => Histogram::noop(),
        }
    }
}

struct Count(Arc<AtomicU64>);

impl CounterFn for Count {
    fn increment(&self, value: u64) {
        self.0.fetch_add(value, Ordering::Relaxed);
    }

    fn absolute(&self, value: u64) {
        self.0.fetch_max(value, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_printed_as_prometheus_reads_them() {
        let registry = Registry::default();
        metrics::with_local_recorder(&registry, || {
            metrics::counter!("a_total", "who" => "x\"y\n").increment(2);
            metrics::counter!("a_total", "who" => "x\"y\n").increment(1);
            metrics::gauge!("b").set(1.5);
            metrics::histogram!("c_seconds").record(0.002);
            metrics::histogram!("c_seconds").record(10_000.0);
        });
        let text = registry.render();
        assert!(text.contains("# TYPE a_total counter\na_total{who=\"x\\\"y\\n\"} 3\n"), "{text}");
        assert!(text.contains("# TYPE b gauge\nb 1.5\n"), "{text}");
        assert!(text.contains("c_seconds_bucket{le=\"0.001\"} 0\nc_seconds_bucket{le=\"0.0025\"} 1\n"), "{text}");
        assert!(text.contains("c_seconds_bucket{le=\"3600\"} 1\nc_seconds_bucket{le=\"+Inf\"} 2\n"), "{text}");
        assert!(text.contains("c_seconds_sum 10000.002\nc_seconds_count 2\n"), "{text}");
    }

    #[test]
    fn labels_without_end_are_refused() {
        let registry = Registry::default();
        metrics::with_local_recorder(&registry, || {
            for n in 0..MOST_SERIES + 7 {
                metrics::counter!("a_total", "n" => n.to_string()).increment(1);
            }
        });
        let text = registry.render();
        assert_eq!(text.lines().filter(|line| line.starts_with("a_total{")).count(), MOST_SERIES);
        assert!(text.ends_with("squall_metrics_series_refused_total 7\n"), "{}", &text[text.len() - 200..]);
    }
}
