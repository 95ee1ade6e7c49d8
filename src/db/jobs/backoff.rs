//! Exponential backoff with jitter.

use std::{ops::RangeInclusive, time::Duration};

use rand::RngExt;

/// Exponential backoff: the pause doubles with each failure. A random factor keeps jobs that failed together from retrying
/// together.
#[derive(Clone, Debug)]
pub struct Backoff {
    /// Pause after the first failure, before jitter.
    pub initial: Duration,
    /// Maximum pause.
    pub max: Duration,
    /// Range of the random factor, within 0 to 1.
    pub jitter: RangeInclusive<f64>,
}

impl Backoff {
    /// Returns the pause after failure number `failure`, from 1. Longer if the other side asks for it with `retry_after`, up
    /// to the maximum.
    pub fn pause(&self, failure: u32, retry_after: Option<Duration>) -> Duration {
        let doublings = failure.saturating_sub(1).min(30);
        let pause = self.initial.saturating_mul(1 << doublings).min(self.max);
        let jittered = pause.mul_f64(rand::rng().random_range(self.jitter.clone()));
        jittered.max(retry_after.unwrap_or_default().min(self.max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_maximum_and_respect_the_other_sides_delay() {
        let backoff = Backoff { initial: Duration::from_millis(500), max: Duration::from_secs(60), jitter: 0.5..=1.0 };
        for (failure, least, most) in [(1, 250, 500), (2, 500, 1000), (5, 4000, 8000), (60, 30_000, 60_000)] {
            let pause = backoff.pause(failure, None).as_millis();
            assert!((least..=most).contains(&pause), "{failure}: {pause}");
        }
        assert_eq!(backoff.pause(1, Some(Duration::from_secs(20))), Duration::from_secs(20));
        assert_eq!(backoff.pause(1, Some(Duration::from_secs(3600))), backoff.max);
        assert_eq!(Backoff { jitter: 0.0..=0.0, ..backoff }.pause(3, None), Duration::ZERO);
    }
}
