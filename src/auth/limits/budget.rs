//! A rate limit whose uses can be returned: the generic cell rate algorithm (GCRA), by key.
//!
//! A use is taken before the work, because counting afterwards would not limit concurrent work. Work that turns out to
//! be legitimate returns its use.

use std::{hash::Hash, time::Duration};

use dashmap::{DashMap, Entry};

use crate::base::{input::limit::RateLimit, runtime::clock::Clock};

/// Rate limit by key.
#[derive(Debug)]
pub struct Budget<K: Eq + Hash> {
    /// Time that one use takes up.
    period: Duration,
    /// How far a key's uses may reach into the future for another use to be allowed.
    tolerance: Duration,
    /// Maximum number of keys.
    capacity: usize,
    clock: Clock,
    /// Theoretical arrival time (TAT) of each key: when all of its uses are available again.
    arrival_time: DashMap<K, Duration>,
}

impl<K: Eq + Hash> Budget<K> {
    /// Allows `limit` for each key, and tracks at most `capacity` keys.
    pub fn new(limit: RateLimit, capacity: usize, clock: Clock) -> Self {
        let period = Duration::from_secs(limit.per_seconds.get().into()) / limit.requests.get();
        let tolerance = period * (limit.requests.get() - 1);
        Self { period, tolerance, capacity, clock, arrival_time: DashMap::new() }
    }

    /// Takes one use for `key`, or returns the time until one is available.
    pub fn take(&self, key: K) -> Result<(), Duration> {
        let now = self.clock.monotonic();
        if self.arrival_time.len() >= self.capacity && !self.arrival_time.contains_key(&key) {
            self.sweep();
            if self.arrival_time.len() >= self.capacity {
                // So many keys are an attack, and memory must be bounded. Callers also limit all keys together.
                return Ok(());
            }
        }
        match self.arrival_time.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert(now + self.period);
            }
            Entry::Occupied(mut entry) => {
                let arrival_time = (*entry.get()).max(now);
                if let Some(wait) = (arrival_time - now).checked_sub(self.tolerance).filter(|wait| !wait.is_zero()) {
                    return Err(wait);
                }
                entry.insert(arrival_time + self.period);
            }
        }
        Ok(())
    }

    /// Returns a use that was taken for `key`.
    pub fn refund(&self, key: K) {
        if let Entry::Occupied(mut entry) = self.arrival_time.entry(key) {
            let arrival_time = entry.get().saturating_sub(self.period);
            if arrival_time <= self.clock.monotonic() {
                entry.remove();
            } else {
                entry.insert(arrival_time);
            }
        }
    }

    /// Removes keys that have all of their uses available. Must be called periodically.
    pub fn sweep(&self) {
        let now = self.clock.monotonic();
        self.arrival_time.retain(|_, arrival_time| *arrival_time > now);
    }

    /// Number of tracked keys.
    pub fn len(&self) -> usize {
        self.arrival_time.len()
    }

    /// Whether no key is tracked.
    pub fn is_empty(&self) -> bool {
        self.arrival_time.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budget_allows_its_burst_and_then_one_use_per_period() {
        let clock = Clock::system();
        let budget = Budget::new(RateLimit::new(3, 30), 10, clock.clone());
        assert!((0..3).all(|_| budget.take('a').is_ok()));
        let wait = budget.take('a').unwrap_err();
        assert!(wait > Duration::from_secs(9) && wait <= Duration::from_secs(10), "{wait:?}");
        assert!(budget.take('b').is_ok(), "another key has its own uses");
        clock.advance(Duration::from_secs(11));
        assert!(budget.take('a').is_ok());
        assert!(budget.take('a').is_err());
    }

    #[test]
    fn returned_use_can_be_taken_again() {
        let budget = Budget::new(RateLimit::new(2, 3600), 10, Clock::system());
        for _ in 0..20 {
            assert!(budget.take('a').is_ok());
            budget.refund('a');
        }
        assert!(budget.is_empty());
        assert!(budget.take('a').is_ok() && budget.take('a').is_ok() && budget.take('a').is_err());
        budget.refund('a');
        assert!(budget.take('a').is_ok() && budget.take('a').is_err());
        // No use was taken for this key.
        budget.refund('b');
        assert_eq!(budget.len(), 1);
    }

    #[test]
    fn number_of_tracked_keys_is_bounded() {
        let clock = Clock::system();
        let budget = Budget::new(RateLimit::new(1, 60), 100, clock.clone());
        for key in 0..1000 {
            assert!(budget.take(key).is_ok());
        }
        assert_eq!(budget.len(), 100);
        assert!(budget.take(5).is_err(), "a tracked key keeps its limit");
        clock.advance(Duration::from_secs(61));
        assert!(budget.take(5000).is_ok());
        assert_eq!(budget.len(), 1);
    }
}
