//! Counts of one slot in constant memory, and how long its answers took.
//!
//! Everything only grows, so that any window is the difference of two
//! readings.

use std::time::Duration;

use super::line::Request;

/// Counts up to this many milliseconds are exact, one bucket each.
const EXACT: u64 = 16;
/// Buckets per doubling above [`EXACT`]: an answer is off by an eighth at most.
const PER_DOUBLING: u64 = 8;
/// From 16 ms to 2^20 ms (17 minutes); what takes longer is in the last bucket.
const DOUBLINGS: u64 = 16;
const BUCKETS: usize = (EXACT + PER_DOUBLING * DOUBLINGS) as usize;

/// What was counted for one slot of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests that this slot answered, or should have.
    pub requests: u64,
    /// By the first digit of their status, 1xx first.
    pub by_class: [u64; 5],
    /// Of those: answered by the proxy with 500 or more in the service's stead.
    pub lost: u64,
    /// Of those: the client left before an answer began (499).
    pub left: u64,
    /// Of those: the answer began and was cut short, by either side.
    pub cut: u64,
    /// Besides: requests meant for this slot that the other slot answered.
    pub passed_on: u64,
    /// How long they took.
    pub latency: Latency,
}

impl Tally {
    pub(super) fn add(&mut self, request: &Request) {
        self.requests += 1;
        let class = usize::from(request.status / 100).saturating_sub(1);
        if let Some(count) = self.by_class.get_mut(class) {
            *count += 1;
        }
        if request.lost() {
            self.lost += 1;
        } else if request.status == 499 {
            self.left += 1;
        } else if !request.completed {
            self.cut += 1;
        }
        self.latency.add(request.time);
    }

    pub(super) fn pass_on(&mut self) {
        self.passed_on += 1;
    }

    /// What came since `earlier`, a former reading of the same tally.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut by_class = self.by_class;
        for (now, then) in by_class.iter_mut().zip(earlier.by_class) {
            *now = now.saturating_sub(then);
        }
        Self {
            requests: self.requests.saturating_sub(earlier.requests),
            by_class,
            lost: self.lost.saturating_sub(earlier.lost),
            left: self.left.saturating_sub(earlier.left),
            cut: self.cut.saturating_sub(earlier.cut),
            passed_on: self.passed_on.saturating_sub(earlier.passed_on),
            latency: self.latency.since(&earlier.latency),
        }
    }
}

/// A histogram of durations in fixed buckets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latency(Box<[u64; BUCKETS]>);

impl Default for Latency {
    fn default() -> Self {
        Self(Box::new([0; BUCKETS]))
    }
}

impl Latency {
    fn add(&mut self, time: Duration) {
        let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        if let Some(count) = self.0.get_mut(bucket(milliseconds)) {
            *count += 1;
        }
    }

    fn since(&self, earlier: &Self) -> Self {
        let mut rest = self.clone();
        for (now, then) in rest.0.iter_mut().zip(earlier.0.iter()) {
            *now = now.saturating_sub(*then);
        }
        rest
    }

    /// The time within which `percent` of the requests ended, rounded up to
    /// its bucket's end; `None`: there were none.
    #[must_use]
    pub fn percentile(&self, percent: u8) -> Option<Duration> {
        let total: u64 = self.0.iter().sum();
        let wanted = (total * u64::from(percent.min(100))).div_ceil(100).max(1);
        let mut seen = 0;
        let at = self.0.iter().position(|count| {
            seen += count;
            seen >= wanted
        })?;
        Some(Duration::from_millis(end(at)))
    }
}

fn bucket(milliseconds: u64) -> usize {
    if milliseconds < EXACT {
        return milliseconds as usize;
    }
    let doubling = u64::from(milliseconds.ilog2()) - u64::from(EXACT.ilog2());
    let part = (milliseconds >> (doubling + 1)) - PER_DOUBLING;
    ((EXACT + doubling * PER_DOUBLING + part) as usize).min(BUCKETS - 1)
}

fn end(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < EXACT {
        return bucket;
    }
    let (doubling, part) = (
        (bucket - EXACT) / PER_DOUBLING,
        (bucket - EXACT) % PER_DOUBLING,
    );
    ((PER_DOUBLING + part + 1) << (doubling + 1)) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_ends_where_the_next_begins_and_none_is_wider_than_an_eighth() {
        for milliseconds in 0..200_000_u64 {
            let end = end(bucket(milliseconds));
            assert!(
                end >= milliseconds && end - milliseconds <= milliseconds / 8,
                "{milliseconds}: {end}"
            );
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_those_of_what_was_added() {
        let mut latency = Latency::default();
        assert_eq!(latency.percentile(99), None);
        for milliseconds in 1..=100 {
            latency.add(Duration::from_millis(milliseconds));
        }
        let p50 = latency
            .percentile(50)
            .expect("a hundred were added")
            .as_millis();
        let p99 = latency
            .percentile(99)
            .expect("a hundred were added")
            .as_millis();
        assert!(
            (50..=56).contains(&p50) && (99..=111).contains(&p99),
            "{p50} {p99}"
        );
    }
}
