//! Pseudo-random decisions of a simulation, derived from its seed.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use sha2::{Digest, Sha256};

use super::SimSettings;
use crate::base::id::OperationId;

/// Pseudo-random number generator.
#[derive(Debug)]
pub struct Prng {
    settings: SimSettings,
    draws: AtomicU64,
}

/// Time of a simulated failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Before the call takes effect.
    Before,
    /// After the call has taken effect, so that only its response is lost.
    After,
}

impl Prng {
    /// Creates a generator for these settings.
    pub fn new(settings: SimSettings) -> Self {
        Self { settings, draws: AtomicU64::new(0) }
    }

    /// Time until a change by this operation takes effect.
    pub fn latency(&self, operation: OperationId) -> Duration {
        let SimSettings { latency_min_ms: least, latency_max_ms: most, .. } = self.settings;
        let span = most.saturating_sub(least) + 1;
        Duration::from_millis(least + self.number("latency", &operation.as_u128().to_be_bytes()) % span)
    }

    /// Decides whether the next call fails, and when.
    pub fn failure(&self) -> Option<Failure> {
        if self.settings.failures_per_mille == 0 {
            return None;
        }
        let draws = self.number("failure", &self.draw());
        let fails = draws % 1000 < u64::from(self.settings.failures_per_mille);
        fails.then_some(if (draws / 1000).is_multiple_of(2) { Failure::Before } else { Failure::After })
    }

    /// Decides whether an object drifts now.
    pub fn drifts(&self, reference: &str) -> bool {
        self.settings.drift_per_mille > 0 && {
            let draws = [&self.draw()[..], reference.as_bytes()].concat();
            self.number("drift", &draws) % 1000 < u64::from(self.settings.drift_per_mille)
        }
    }

    fn draw(&self) -> [u8; 8] {
        self.draws.fetch_add(1, Ordering::Relaxed).to_be_bytes()
    }

    fn number(&self, of: &str, with: &[u8]) -> u64 {
        let hash = Sha256::new().chain_update(self.settings.seed.to_be_bytes()).chain_update(of).chain_update(with);
        hash.finalize().iter().take(8).fold(0, |number, &byte| number << 8 | u64::from(byte))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_gives_the_same_numbers_within_bounds() {
        let settings =
            SimSettings { latency_min_ms: 5, latency_max_ms: 9, failures_per_mille: 300, ..SimSettings::default() };
        let (one, other) = (Prng::new(settings.clone()), Prng::new(settings.clone()));
        let another = Prng::new(SimSettings { seed: 2, ..settings });
        let failures = |prng: &Prng| (0..1000).map(|_| prng.failure()).collect::<Vec<_>>();
        let draws = failures(&one);
        assert_eq!(draws, failures(&other));
        assert_ne!(draws, failures(&another));
        let failed = draws.iter().flatten().count();
        assert!((200..400).contains(&failed), "{failed}");
        for _ in 0..100 {
            let operation = OperationId::new();
            let latency = one.latency(operation);
            assert_eq!(latency, other.latency(operation));
            assert!((5..=9).contains(&latency.as_millis()), "{latency:?}");
        }
    }
}
