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
    classes: Box<[AtomicU64]>,
    sum_nanos: AtomicU64,
}

/// Snapshot of a histogram.
#[derive(Debug, PartialEq, Eq)]
pub struct Reading {
    /// Upper bound of each bucket, and the number of values up to it, including all lower buckets.
    pub up_to: Vec<(Duration, u64)>,
    /// Number of values.
    pub count: u64,
    /// Sum of all values.
    pub sum: Duration,
}

impl Histogram {
    /// Creates an empty histogram with these bucket bounds, in ascending order.
    pub fn new(bounds: &'static [Duration]) -> Self {
        Self { bounds, classes: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(), sum_nanos: AtomicU64::new(0) }
    }

    /// Adds the value `time`.
    pub fn add(&self, time: Duration) {
        let class = self.bounds.partition_point(|bound| *bound < time);
        if let Some(class) = self.classes.get(class) {
            class.fetch_add(1, Ordering::Relaxed);
        }
        // Overflows after five centuries.
        self.sum_nanos.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Reads the histogram. The buckets and the count are always consistent; the sum may be slightly newer.
    pub fn read(&self) -> Reading {
        let mut count = 0;
        let mut sums = self.classes.iter().map(|class| {
            count += class.load(Ordering::Relaxed);
            count
        });
        let up_to = self.bounds.iter().copied().zip(&mut sums).collect();
        sums.for_each(drop);
        Reading { up_to, count, sum: Duration::from_nanos(self.sum_nanos.load(Ordering::Relaxed)) }
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
            histogram.add(Duration::from_micros(micros));
        }
        let sum = Duration::from_micros(19_002);
        assert_eq!(histogram.read(), Reading { up_to: vec![(one, 2), (four, 4)], count: 6, sum });
    }
}
