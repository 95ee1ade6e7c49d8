//! How fast the engine goes.

use std::time::Duration;

use rand::RngExt;

/// How fast the engine goes. Only a test has it otherwise than by default.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How often to look whether something is due that nobody has told of.
    pub poll: Duration,
    /// How long an operation is a worker's; renewed while it is at work. A worker that dies holds nothing up for longer.
    pub lease: Duration,
    /// How many operations a server has in hand at a time.
    pub width: usize,
    /// How long one call to a provider may take.
    pub call: Duration,
    /// How long one turn at an operation may take; nobody renews its lease for longer.
    pub turn: Duration,
    /// How many of a server's database connections work on operations at a time: requests need some too.
    pub db_permits: usize,
    /// How long to wait for one of them.
    pub db_wait: Duration,
    /// How long one step on the database may take, the wait included.
    pub db_time: Duration,
    /// How long to wait before looking once more at what is not ready yet.
    pub look_again: Duration,
    /// How long to wait after the first failure; each further one doubles it.
    pub first_pause: Duration,
    /// And how long at the most.
    pub longest_pause: Duration,
    /// After how long an operation is given up.
    pub give_up_after: Duration,
    /// How often all objects of a provider are looked through.
    pub sweep: Duration,
    /// How often to look whose time is up.
    pub expiry: Duration,
    /// For how long resources that are gone, and operations that are over, are kept.
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
    /// How long to wait after the failure number `attempt`, from 1, if the provider asks for no more: with full jitter in
    /// the upper half, so that many that failed together do not come back together.
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
    fn pauses_double_up_to_a_bound_and_give_way_to_the_providers_word() {
        let pace = Pace::default();
        for (attempt, least, most) in [(1, 250, 500), (2, 500, 1000), (5, 4000, 8000), (60, 30_000, 60_000)] {
            let pause = pace.pause(attempt, None).as_millis();
            assert!((least..=most).contains(&pause), "{attempt}: {pause}");
        }
        assert_eq!(pace.pause(1, Some(Duration::from_secs(20))), Duration::from_secs(20));
        assert_eq!(pace.pause(1, Some(Duration::from_secs(3600))), pace.longest_pause);
    }
}
