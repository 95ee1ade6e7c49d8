//! Histogram of durations.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Histogram of durations. Adding a value takes two atomic additions.
#[derive(Debug)]
pub struct Histogram {
    /// Upper bounds of the buckets, in ascending order.
    bounds: &'static [Duration],
    /// Count of each bucket, and of values above the last bound.
    buckets: Box<[AtomicU64]>,
    sum_nanos: AtomicU64,
}

/// Snapshot of a histogram.
#[derive(Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Upper bound of each bucket, and the number of values up to it, including all lower buckets.
    pub cumulative: Vec<(Duration, u64)>,
    /// Number of values.
    pub count: u64,
    /// Sum of all values.
    pub sum: Duration,
}

impl Histogram {
    /// Creates an empty histogram with these bucket bounds, in ascending order.
    pub fn new(bounds: &'static [Duration]) -> Self {
        Self { bounds, buckets: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(), sum_nanos: AtomicU64::new(0) }
    }

    /// Adds the value `time`.
    pub fn observe(&self, time: Duration) {
        let bucket = self.bounds.partition_point(|bound| *bound < time);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        // Overflows after five centuries.
        self.sum_nanos.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Reads the histogram. The buckets and the count are always consistent; the sum may be slightly newer.
    pub fn snapshot(&self) -> Snapshot {
        let mut count = 0;
        let mut sums = self.buckets.iter().map(|bucket| {
            count += bucket.load(Ordering::Relaxed);
            count
        });
        let cumulative = self.bounds.iter().copied().zip(&mut sums).collect();
        sums.for_each(drop);
        Snapshot { cumulative, count, sum: Duration::from_nanos(self.sum_nanos.load(Ordering::Relaxed)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_is_in_its_bucket_and_in_all_higher_ones() {
        let (one, four) = (Duration::from_millis(1), Duration::from_millis(4));
        static BOUNDS: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(4)];
        let histogram = Histogram::new(&BOUNDS);
        for micros in [0, 1000, 1001, 4000, 4001, 9000] {
            histogram.observe(Duration::from_micros(micros));
        }
        let sum = Duration::from_micros(19_002);
        assert_eq!(histogram.snapshot(), Snapshot { cumulative: vec![(one, 2), (four, 4)], count: 6, sum });
    }
}
