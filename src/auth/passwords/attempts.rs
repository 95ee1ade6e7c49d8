//! Wrong passwords, counted by email address, and the delays that they cause. Only the response to a wrong password is
//! delayed, so one user cannot lock out another. Each node counts only the failures that it has seen.

use std::{
    collections::{BTreeSet, HashMap},
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::cpu_pool::Gauge;
use crate::base::runtime::clock::Timestamp;

/// Number of failures without a delay, for typing errors.
const FREE_FAILURES: u32 = 3;
/// Delay after the first failure beyond those. It doubles with each further failure.
const FIRST_DELAY: Duration = Duration::from_millis(250);
/// Longest delay. Well below the request timeout.
const MAX_DELAY: Duration = Duration::from_secs(8);
/// Time after the last failure of an address when its failures are reset.
const RESET_AFTER: Duration = Duration::from_secs(15 * 60);
/// Maximum number of tracked addresses. Those with the oldest failure are removed first.
const MAX_ADDRESSES: usize = 10_000;

/// Delay of the response to the `failures`th wrong password in a row.
pub fn delay_after(failures: u32) -> Duration {
    match failures.checked_sub(FREE_FAILURES + 1) {
        None => Duration::ZERO,
        Some(doublings) => FIRST_DELAY.saturating_mul(2_u32.saturating_pow(doublings)).min(MAX_DELAY),
    }
}

/// Recent failures.
#[derive(Debug)]
pub struct Attempts {
    /// Hashes addresses with a key of this process, so that no address is stored.
    hasher: RandomState,
    state: Mutex<State>,
    delayed: Arc<Gauge>,
}

#[derive(Debug)]
struct State {
    failures: HashMap<u64, (u32, Timestamp)>,
    /// The same addresses, ordered by their last failure.
    by_age: BTreeSet<(Timestamp, u64)>,
    delay_after: fn(u32) -> Duration,
}

impl Default for Attempts {
    fn default() -> Self {
        let state = State { failures: HashMap::new(), by_age: BTreeSet::new(), delay_after };
        Self { hasher: RandomState::new(), state: Mutex::new(state), delayed: Arc::default() }
    }
}

impl Attempts {
    /// Counts a wrong password for `address`, known or not, and waits for the resulting delay.
    pub async fn record_failure_and_wait(&self, address: &str, now: Timestamp) {
        let delay = self.record_failure(address, now);
        if !delay.is_zero() {
            let _delayed = self.delayed.enter();
            tokio::time::sleep(delay).await;
        }
    }

    fn record_failure(&self, address: &str, now: Timestamp) -> Duration {
        let address = self.hasher.hash_one(address);
        let mut state = self.lock();
        state.remove_expired(now);
        let before = state.remove(address).unwrap_or_default();
        let failures = before.saturating_add(1);
        state.failures.insert(address, (failures, now));
        state.by_age.insert((now, address));
        if state.failures.len() > MAX_ADDRESSES {
            state.remove_oldest();
        }
        (state.delay_after)(failures)
    }

    /// Resets the failures of `address` after a correct password.
    pub fn reset(&self, address: &str) {
        self.lock().remove(self.hasher.hash_one(address));
    }

    /// Number of recent failures of `address`.
    pub fn failure_count(&self, address: &str, now: Timestamp) -> u32 {
        let mut state = self.lock();
        state.remove_expired(now);
        state.failures.get(&self.hasher.hash_one(address)).map_or(0, |&(failures, _)| failures)
    }

    /// Number of responses that are being delayed.
    pub fn delayed(&self) -> usize {
        self.delayed.current()
    }

    /// Replaces [`delay_after`], for tests that must not wait.
    pub fn set_delays(&self, delay_after: fn(u32) -> Duration) {
        self.lock().delay_after = delay_after;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in between would leave an address in only one of the two collections, which only loses its count.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remove(&mut self, address: u64) -> Option<u32> {
        let (failures, last) = self.failures.remove(&address)?;
        self.by_age.remove(&(last, address));
        Some(failures)
    }

    fn remove_expired(&mut self, now: Timestamp) {
        while self.by_age.first().is_some_and(|(last, _)| last.until(now) >= RESET_AFTER) {
            self.remove_oldest();
        }
    }

    fn remove_oldest(&mut self) {
        if let Some((_, address)) = self.by_age.pop_first() {
            self.failures.remove(&address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::parse("2026-03-01T00:00:00Z").unwrap()
    }

    #[test]
    fn delays_start_after_three_failures_and_double_up_to_eight_seconds() {
        let delays: Vec<u128> = (0..=10).map(|failures| delay_after(failures).as_millis()).collect();
        assert_eq!(delays, [0, 0, 0, 0, 250, 500, 1000, 2000, 4000, 8000, 8000]);
        assert_eq!(delay_after(u32::MAX), MAX_DELAY);
    }

    #[test]
    fn failures_are_counted_by_address_and_reset_by_the_correct_password() {
        let attempts = Attempts::default();
        let delays: Vec<u128> = (0..5).map(|_| attempts.record_failure("a@example.com", now()).as_millis()).collect();
        assert_eq!(delays, [0, 0, 0, 250, 500]);
        assert_eq!(attempts.record_failure("b@example.com", now()), Duration::ZERO);
        attempts.reset("a@example.com");
        assert_eq!(attempts.failure_count("a@example.com", now()), 0);
        assert_eq!(attempts.failure_count("b@example.com", now()), 1);
    }

    #[test]
    fn failures_are_reset_fifteen_minutes_after_the_last() {
        let attempts = Attempts::default();
        let minute = |minutes: u64| now().plus(Duration::from_secs(minutes * 60));
        attempts.record_failure("a@example.com", minute(0));
        attempts.record_failure("a@example.com", minute(14));
        assert_eq!(attempts.failure_count("a@example.com", minute(28)), 2);
        assert_eq!(attempts.failure_count("a@example.com", minute(29)), 0);
        assert!(attempts.lock().by_age.is_empty());
    }

    #[test]
    fn number_of_addresses_is_bounded_and_the_oldest_are_removed() {
        let attempts = Attempts::default();
        let at = |n: usize| now().plus(Duration::from_millis(n as u64));
        for n in 0..MAX_ADDRESSES + 7 {
            attempts.record_failure(&format!("{n}@example.com"), at(n));
        }
        let state = attempts.lock();
        assert_eq!((state.failures.len(), state.by_age.len()), (MAX_ADDRESSES, MAX_ADDRESSES));
        drop(state);
        assert_eq!(attempts.failure_count("6@example.com", at(MAX_ADDRESSES)), 0);
        assert_eq!(attempts.failure_count("7@example.com", at(MAX_ADDRESSES)), 1);
    }
}
