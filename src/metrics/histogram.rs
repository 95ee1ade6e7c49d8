//! How often something took how long.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// A histogram: adding to it is two atomic additions.
#[derive(Debug)]
pub struct Histogram {
    /// The classes' upper bounds, in ascending order.
    bounds: &'static [Duration],
    /// One for each bound, and one for what took longer.
    classes: Box<[AtomicU64]>,
    sum_nanos: AtomicU64,
}

/// What a histogram held at one moment.
#[derive(Debug, PartialEq, Eq)]
pub struct Reading {
    /// Each class's upper bound, and how many took no longer than that: all in the classes before among them.
    pub up_to: Vec<(Duration, u64)>,
    /// How many there are in all.
    pub count: u64,
    /// What all took together.
    pub sum: Duration,
}

impl Histogram {
    /// An empty one with classes up to these bounds, which ascend.
    pub fn new(bounds: &'static [Duration]) -> Self {
        Self { bounds, classes: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(), sum_nanos: AtomicU64::new(0) }
    }

    /// Adds one that took `time`.
    pub fn add(&self, time: Duration) {
        let class = self.bounds.partition_point(|bound| *bound < time);
        if let Some(class) = self.classes.get(class) {
            class.fetch_add(1, Ordering::Relaxed);
        }
        // It takes five centuries to overflow.
        self.sum_nanos.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// What is in it. The classes and the count always agree; the sum may be of a moment later.
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
    fn a_time_is_counted_in_the_first_class_that_holds_it_and_told_in_all_that_follow() {
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
