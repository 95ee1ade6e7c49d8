//! Depth of a queue of the deployment, as one server last measured it. The worker `queue_depth` measures it
//! independently of the workers that process the queues, so that a worker that hangs does not hide its backlog.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Interval between measurements.
pub const INTERVAL: Duration = Duration::from_secs(5);
/// Time without a measurement after which the age of the oldest entry is estimated.
const OUTDATED: Duration = Duration::from_secs(12);

/// Depth of a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Entries that are not done.
    pub open: u64,
    /// Open entries that are due.
    pub due: u64,
    /// Time since the oldest due entry became due.
    pub oldest_due: Duration,
}

/// The latest measurement.
#[derive(Debug, Default)]
pub struct Measurement(Mutex<Option<(Depth, Instant)>>);

impl Measurement {
    /// Records a measurement.
    pub fn set(&self, depth: Depth) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((depth, Instant::now()));
    }

    /// Whether the queue was empty when it was last measured.
    pub fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|(depth, _)| depth.open == 0)
    }

    /// Returns the depth. While the database is unavailable, the queue is not processed either, so the oldest entry's
    /// age grows by that time.
    pub fn get(&self) -> Depth {
        let measured = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        measured.map_or_else(Depth::default, |(depth, at)| depth.after(at.elapsed()))
    }
}

impl Depth {
    fn after(self, time: Duration) -> Self {
        let is_outdated = self.open > 0 && time >= OUTDATED;
        Self { oldest_due: if is_outdated { self.oldest_due + time } else { self.oldest_due }, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_of_oldest_entry_grows_without_a_new_measurement() {
        let depth = Depth { open: 3, due: 1, oldest_due: Duration::from_secs(2) };
        assert_eq!(depth.after(INTERVAL), depth);
        assert_eq!(depth.after(Duration::from_secs(60)).oldest_due, Duration::from_secs(62));
        assert_eq!(Depth::default().after(Duration::from_secs(60)), Depth::default());
    }
}
