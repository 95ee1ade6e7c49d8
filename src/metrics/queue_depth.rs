//! How much waits in a queue of the deployment, as one server last measured it. The worker `queue_depth` measures, apart
//! from the workers that empty the queues: a worker that hangs does not hide what waits for it.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How often a server measures.
pub const INTERVAL: Duration = Duration::from_secs(5);
/// After how long without a measurement the age of the oldest entry is estimated.
const OUTDATED: Duration = Duration::from_secs(12);

/// What waits in a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Entries that are not done.
    pub open: u64,
    /// Those of them whose time has come.
    pub due: u64,
    /// For how long the oldest of those has waited.
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

    /// What waits. While the database cannot be asked nothing is taken from the queue either, so the oldest entry grows
    /// older by that time.
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
    fn without_a_new_measurement_the_oldest_entry_grows_older() {
        let depth = Depth { open: 3, due: 1, oldest_due: Duration::from_secs(2) };
        assert_eq!(depth.after(INTERVAL), depth);
        assert_eq!(depth.after(Duration::from_secs(60)).oldest_due, Duration::from_secs(62));
        assert_eq!(Depth::default().after(Duration::from_secs(60)), Depth::default());
    }
}
