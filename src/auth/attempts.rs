//! Wrong passwords, remembered by e-mail address, and the pauses that they earn. A pause only ever holds
//! up a wrong answer, so nobody can lock somebody else out. One node's memory: each node pauses by the
//! failures that it has seen itself.

use std::{
    collections::{BTreeSet, HashMap},
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::cores::Gauge;
use crate::base::clock::Timestamp;

/// So many failures are slips of the finger.
const FREE: u32 = 3;
/// The pause after the first failure beyond those; each next one is twice as long.
const FIRST: Duration = Duration::from_millis(250);
/// The longest pause. Well below the time a request may take.
const LONGEST: Duration = Duration::from_secs(8);
/// How long after its last failure an address is forgotten.
const MEMORY: Duration = Duration::from_secs(15 * 60);
/// So many addresses are remembered at most; those whose last failure is oldest go.
const ADDRESSES: usize = 10_000;

/// How long the answer to the `failures`th wrong password in a row is held back.
pub fn pause_after(failures: u32) -> Duration {
    match failures.checked_sub(FREE + 1) {
        None => Duration::ZERO,
        Some(doublings) => FIRST.saturating_mul(2_u32.saturating_pow(doublings)).min(LONGEST),
    }
}

/// The failures of late.
#[derive(Debug)]
pub struct Attempts {
    /// Makes a number out of an address, with a key of this process: what is held names nobody.
    hasher: RandomState,
    held: Mutex<Held>,
    pausing: Arc<Gauge>,
}

#[derive(Debug)]
struct Held {
    failures: HashMap<u64, (u32, Timestamp)>,
    /// The same addresses in the order of their last failures.
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
    /// Notes a wrong password for `address`, known or not, and waits for as long as it has earned.
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

    /// Forgets the failures of `address`, which has just shown the right password.
    pub fn forget(&self, address: &str) {
        self.lock().forget(self.hasher.hash_one(address));
    }

    /// How many failures of `address` are remembered.
    pub fn failures_of(&self, address: &str, now: Timestamp) -> u32 {
        let mut held = self.lock();
        held.forget_old(now);
        held.failures.get(&self.hasher.hash_one(address)).map_or(0, |&(failures, _)| failures)
    }

    /// How many answers are being held back.
    pub fn pausing(&self) -> usize {
        self.pausing.now()
    }

    /// Puts other pauses in place of [`pause_after`]'s, for tests: they do not wait.
    pub fn set_pauses(&self, pause_after: fn(u32) -> Duration) {
        self.lock().pause_after = pause_after;
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        // A panic in between would leave an address in one of the two collections only, which costs an
        // address its memory and nothing else.
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
    fn pauses_begin_after_three_failures_and_double_up_to_eight_seconds() {
        let pauses: Vec<u128> = (0..=10).map(|failures| pause_after(failures).as_millis()).collect();
        assert_eq!(pauses, [0, 0, 0, 0, 250, 500, 1000, 2000, 4000, 8000, 8000]);
        assert_eq!(pause_after(u32::MAX), LONGEST);
    }

    #[test]
    fn each_address_has_failures_of_its_own_which_the_right_password_ends() {
        let attempts = Attempts::default();
        let pauses: Vec<u128> = (0..5).map(|_| attempts.note("a@example.com", now()).as_millis()).collect();
        assert_eq!(pauses, [0, 0, 0, 250, 500]);
        assert_eq!(attempts.note("b@example.com", now()), Duration::ZERO);
        attempts.forget("a@example.com");
        assert_eq!(attempts.failures_of("a@example.com", now()), 0);
        assert_eq!(attempts.failures_of("b@example.com", now()), 1);
    }

    #[test]
    fn failures_are_forgotten_a_quarter_of_an_hour_after_the_last() {
        let attempts = Attempts::default();
        let minute = |minutes: u64| now().plus(Duration::from_secs(minutes * 60));
        attempts.note("a@example.com", minute(0));
        attempts.note("a@example.com", minute(14));
        assert_eq!(attempts.failures_of("a@example.com", minute(28)), 2);
        assert_eq!(attempts.failures_of("a@example.com", minute(29)), 0);
        assert!(attempts.lock().by_age.is_empty());
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_go() {
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
