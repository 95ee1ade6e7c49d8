//! Figures of the cache of credentials and of recalls, for whoever watches the server.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// What has happened since the server started.
#[derive(Debug, Default)]
pub struct Figures {
    /// How often a lease ended before it was renewed.
    pub lease_losses: AtomicU64,
    /// Recalls that every node has confirmed, and those confirmed because no lease could be left.
    pub recalls_by_ack: AtomicU64,
    /// See above.
    pub recalls_by_time: AtomicU64,
    /// From a recall's COMMIT until it was confirmed.
    pub recall_time: Histogram,
}

/// Upper bounds of a histogram's classes, in milliseconds.
pub const BOUNDS_MILLIS: [u64; 12] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 4000];

/// How often something took how long.
#[derive(Debug, Default)]
pub struct Histogram {
    /// One for each of [`BOUNDS_MILLIS`], and one for what took longer.
    classes: [AtomicU64; BOUNDS_MILLIS.len() + 1],
    sum_micros: AtomicU64,
}

impl Histogram {
    /// Adds one that took `time`.
    pub fn add(&self, time: Duration) {
        let class = BOUNDS_MILLIS.partition_point(|bound| Duration::from_millis(*bound) < time);
        if let Some(class) = self.classes.get(class) {
            class.fetch_add(1, Ordering::Relaxed);
        }
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// How many there are in each class, and the sum of all.
    pub fn read(&self) -> ([u64; BOUNDS_MILLIS.len() + 1], Duration) {
        let classes = self.classes.each_ref().map(|class| class.load(Ordering::Relaxed));
        (classes, Duration::from_micros(self.sum_micros.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_counted_in_the_first_class_that_holds_it() {
        let histogram = Histogram::default();
        for millis in [0, 1, 3, 4000, 4001] {
            histogram.add(Duration::from_millis(millis));
        }
        let (classes, sum) = histogram.read();
        assert_eq!(classes, [2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(sum, Duration::from_millis(8005));
    }
}
