//! Timing and limits of the engine.

use std::time::Duration;

use rand::RngExt;

/// Timing and limits of the engine. Only tests use other values than the default.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Interval of polling for due operations.
    pub poll: Duration,
    /// Lease of a worker on an operation, renewed while the worker runs. A worker that dies delays an operation by at
    /// most this time.
    pub lease: Duration,
    /// Maximum number of operations in progress on one server.
    pub width: usize,
    /// Time limit of a call to a provider.
    pub call: Duration,
    /// Time limit of one turn of an operation, which also limits the renewal of its lease.
    pub turn: Duration,
    /// Maximum number of a server's database connections that work on operations. The remaining ones are for requests.
    pub db_permits: usize,
    /// Time limit of the wait for such a connection.
    pub db_wait: Duration,
    /// Time limit of one step on the database, including the wait.
    pub db_time: Duration,
    /// Pause before an object that is not ready is read again.
    pub look_again: Duration,
    /// Pause after the first failure; doubled after each further one.
    pub first_pause: Duration,
    /// Maximum pause after a failure.
    pub longest_pause: Duration,
    /// Time limit of an operation.
    pub give_up_after: Duration,
    /// Interval between two sweeps of a provider.
    pub sweep: Duration,
    /// Interval of checks for expired resources.
    pub expiry: Duration,
    /// Retention time of deleted resources and ended operations.
    pub kept_for: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            poll: Duration::from_millis(250),
            lease: Duration::from_secs(10),
            width: 32,
            call: Duration::from_secs(30),
            turn: Duration::from_secs(10 * 60),
            db_permits: 3,
            db_wait: Duration::from_secs(5),
            db_time: Duration::from_secs(15),
            look_again: Duration::from_millis(500),
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(60),
            give_up_after: Duration::from_secs(15 * 60),
            sweep: Duration::from_secs(60),
            expiry: Duration::from_secs(1),
            kept_for: Duration::from_secs(30 * 24 * 3600),
        }
    }
}

impl Pace {
    /// Returns the pause after failure number `attempt`, from 1, or longer if the provider asks for it. The upper half
    /// is random, so that operations that failed together do not retry together.
    pub fn pause(&self, attempt: u32, after: Option<Duration>) -> Duration {
        let doubled = self.first_pause.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(self.longest_pause);
        let jittered = doubled.mul_f64(rand::rng().random_range(0.5..=1.0));
        jittered.max(after.unwrap_or_default().min(self.longest_pause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_maximum_and_respect_the_providers_delay() {
        let pace = Pace::default();
        for (attempt, least, most) in [(1, 250, 500), (2, 500, 1000), (5, 4000, 8000), (60, 30_000, 60_000)] {
            let pause = pace.pause(attempt, None).as_millis();
            assert!((least..=most).contains(&pause), "{attempt}: {pause}");
        }
        assert_eq!(pace.pause(1, Some(Duration::from_secs(20))), Duration::from_secs(20));
        assert_eq!(pace.pause(1, Some(Duration::from_secs(3600))), pace.longest_pause);
    }
}
