//! How much one caller, and all together, may ask at a time: what is over it gets 429 with `Retry-After`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::http::ApiError;

/// Requests that a caller may make.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Each second, in the long run.
    pub per_second: f64,
    /// At once.
    pub burst: f64,
}

/// A caller's allowance.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Bucket {
    left: f64,
    at: Instant,
}

/// Takes one request out of a bucket; else how long until there is one.
fn take(bucket: &mut Bucket, rate: Rate, now: Instant) -> Result<(), Duration> {
    let since = now.saturating_duration_since(bucket.at).as_secs_f64();
    bucket.left = (bucket.left + since * rate.per_second).min(rate.burst);
    bucket.at = now;
    if bucket.left >= 1.0 {
        bucket.left -= 1.0;
        return Ok(());
    }
    Err(Duration::from_secs_f64(((1.0 - bucket.left) / rate.per_second.max(0.001)).min(3600.0)))
}

/// Callers that are remembered; those that are idle the longest are forgotten.
const MOST_CALLERS: usize = 10_000;

/// Admission of requests.
#[derive(Debug)]
pub struct Admission {
    rate: Option<Rate>,
    buckets: Mutex<HashMap<String, Bucket>>,
    max_in_flight: usize,
    in_flight: Arc<AtomicUsize>,
}

/// A request that was admitted, until it is answered.
#[derive(Debug)]
pub struct InFlight(Arc<AtomicUsize>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Admission {
    pub fn new(rate: Option<Rate>, max_in_flight: usize) -> Self {
        Self { rate, buckets: Mutex::default(), max_in_flight, in_flight: Arc::default() }
    }

    /// A place among the requests that are worked on; 429 if there is none.
    pub fn enter(&self) -> Result<InFlight, ApiError> {
        let place = InFlight(self.in_flight.clone());
        if self.in_flight.fetch_add(1, Ordering::Relaxed) >= self.max_in_flight {
            return Err(ApiError::too_many("The server is working on as many requests as it can.", 1));
        }
        Ok(place)
    }

    /// 429 if this caller asks more than its share.
    pub fn charge(&self, caller: &str, now: Instant) -> Result<(), ApiError> {
        let Some(rate) = self.rate else { return Ok(()) };
        let mut buckets = self.buckets.lock();
        if buckets.len() >= MOST_CALLERS && !buckets.contains_key(caller) {
            // Whose bucket is full again is as good as unknown.
            let full = |bucket: &Bucket| (rate.burst - bucket.left) / rate.per_second.max(0.001);
            buckets.retain(|_, bucket| now.saturating_duration_since(bucket.at).as_secs_f64() < full(bucket));
            if buckets.len() >= MOST_CALLERS {
                buckets.clear();
            }
        }
        let fresh = Bucket { left: rate.burst, at: now };
        let bucket = buckets.entry(caller.to_owned()).or_insert(fresh);
        take(bucket, rate, now)
            .map_err(|wait| ApiError::too_many("Too many requests: ask more slowly.", wait.as_secs_f64().ceil() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_fill_up_again() {
        let admission = Admission::new(Some(Rate { per_second: 2.0, burst: 3.0 }), 2);
        let start = Instant::now();
        for _ in 0..3 {
            admission.charge("ana", start).unwrap();
        }
        let refused = admission.charge("ana", start).unwrap_err();
        assert_eq!((refused.status.as_u16(), refused.retry_after), (429, Some(1)));
        admission.charge("bob", start).unwrap();
        admission.charge("ana", start + Duration::from_millis(500)).unwrap();
        assert!(admission.charge("ana", start + Duration::from_millis(600)).is_err());
        for at in 0..2 * MOST_CALLERS {
            admission.charge(&at.to_string(), start).unwrap();
        }
        assert!(admission.buckets.lock().len() <= MOST_CALLERS);
    }

    #[test]
    fn places_are_given_back() {
        let admission = Admission::new(None, 2);
        let places = [admission.enter().unwrap(), admission.enter().unwrap()];
        assert_eq!(admission.enter().unwrap_err().status.as_u16(), 429);
        drop(places);
        admission.enter().unwrap();
    }
}
