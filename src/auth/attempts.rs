//! Wrong passwords, counted by email address, and the delays that they cause. Only the response to a wrong password is
//! delayed, so one user cannot lock out another. Each node counts only the failures that it has seen.

use std::{
    collections::{BTreeSet, HashMap},
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::cores::Gauge;
use crate::base::clock::Timestamp;

/// Number of failures without a delay, for typing errors.
const FREE: u32 = 3;
/// Delay after the first failure beyond those. It doubles with each further failure.
const FIRST: Duration = Duration::from_millis(250);
/// Longest delay. Well below the request timeout.
const LONGEST: Duration = Duration::from_secs(8);
/// Time after the last failure of an address when its failures are reset.
const MEMORY: Duration = Duration::from_secs(15 * 60);
/// Maximum number of tracked addresses. Those with the oldest failure are removed first.
const ADDRESSES: usize = 10_000;

/// Delay of the response to the `failures`th wrong password in a row.
pub fn pause_after(failures: u32) -> Duration {
    match failures.checked_sub(FREE + 1) {
        None => Duration::ZERO,
        Some(doublings) => FIRST.saturating_mul(2_u32.saturating_pow(doublings)).min(LONGEST),
    }
}

/// Recent failures.
#[derive(Debug)]
pub struct Attempts {
    /// Hashes addresses with a key of this process, so that no address is stored.
    hasher: RandomState,
    held: Mutex<Held>,
    pausing: Arc<Gauge>,
}

#[derive(Debug)]
struct Held {
    failures: HashMap<u64, (u32, Timestamp)>,
    /// The same addresses, ordered by their last failure.
    by_age: BTreeSet<(Timestamp, u64)>,
    pause_after: fn(u32) -> Duration,
}

impl Default for Attempts {
    fn default() -> Self {
        let held = Held { failures: HashMap::new(), by_age: BTreeSet::new(), pause_after };
        Self { hasher: RandomState::new(), held: Mutex::new(held), pausing: Arc::default() }
    }
}

impl Attempts {
    /// Counts a wrong password for `address`, known or not, and waits for the resulting delay.
    pub async fn fail(&self, address: &str, now: Timestamp) {
        let pause = self.note(address, now);
        if !pause.is_zero() {
            let _pausing = self.pausing.enter();
            tokio::time::sleep(pause).await;
        }
    }

    fn note(&self, address: &str, now: Timestamp) -> Duration {
        let address = self.hasher.hash_one(address);
        let mut held = self.lock();
        held.forget_old(now);
        let before = held.forget(address).unwrap_or_default();
        let failures = before.saturating_add(1);
        held.failures.insert(address, (failures, now));
        held.by_age.insert((now, address));
        if held.failures.len() > ADDRESSES {
            held.forget_oldest();
        }
        (held.pause_after)(failures)
    }

    /// Resets the failures of `address` after a correct password.
    pub fn forget(&self, address: &str) {
        self.lock().forget(self.hasher.hash_one(address));
    }

    /// Number of recent failures of `address`.
    pub fn failures_of(&self, address: &str, now: Timestamp) -> u32 {
        let mut held = self.lock();
        held.forget_old(now);
        held.failures.get(&self.hasher.hash_one(address)).map_or(0, |&(failures, _)| failures)
    }

    /// Number of responses that are being delayed.
    pub fn pausing(&self) -> usize {
        self.pausing.now()
    }

    /// Replaces [`pause_after`], for tests that must not wait.
    pub fn set_pauses(&self, pause_after: fn(u32) -> Duration) {
        self.lock().pause_after = pause_after;
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        // A panic in between would leave an address in only one of the two collections, which only loses its count.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn forget(&mut self, address: u64) -> Option<u32> {
        let (failures, last) = self.failures.remove(&address)?;
        self.by_age.remove(&(last, address));
        Some(failures)
    }

    fn forget_old(&mut self, now: Timestamp) {
        while self.by_age.first().is_some_and(|(last, _)| last.until(now) >= MEMORY) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
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
        let pauses: Vec<u128> = (0..=10).map(|failures| pause_after(failures).as_millis()).collect();
        assert_eq!(pauses, [0, 0, 0, 0, 250, 500, 1000, 2000, 4000, 8000, 8000]);
        assert_eq!(pause_after(u32::MAX), LONGEST);
    }

    #[test]
    fn failures_are_counted_by_address_and_reset_by_the_correct_password() {
        let attempts = Attempts::default();
        let pauses: Vec<u128> = (0..5).map(|_| attempts.note("a@example.com", now()).as_millis()).collect();
        assert_eq!(pauses, [0, 0, 0, 250, 500]);
        assert_eq!(attempts.note("b@example.com", now()), Duration::ZERO);
        attempts.forget("a@example.com");
        assert_eq!(attempts.failures_of("a@example.com", now()), 0);
        assert_eq!(attempts.failures_of("b@example.com", now()), 1);
    }

    #[test]
    fn failures_are_reset_fifteen_minutes_after_the_last() {
        let attempts = Attempts::default();
        let minute = |minutes: u64| now().plus(Duration::from_secs(minutes * 60));
        attempts.note("a@example.com", minute(0));
        attempts.note("a@example.com", minute(14));
        assert_eq!(attempts.failures_of("a@example.com", minute(28)), 2);
        assert_eq!(attempts.failures_of("a@example.com", minute(29)), 0);
        assert!(attempts.lock().by_age.is_empty());
    }

    #[test]
    fn number_of_addresses_is_bounded_and_the_oldest_are_removed() {
        let attempts = Attempts::default();
        let at = |n: usize| now().plus(Duration::from_millis(n as u64));
        for n in 0..ADDRESSES + 7 {
            attempts.note(&format!("{n}@example.com"), at(n));
        }
        let held = attempts.lock();
        assert_eq!((held.failures.len(), held.by_age.len()), (ADDRESSES, ADDRESSES));
        drop(held);
        assert_eq!(attempts.failures_of("6@example.com", at(ADDRESSES)), 0);
        assert_eq!(attempts.failures_of("7@example.com", at(ADDRESSES)), 1);
    }
}
