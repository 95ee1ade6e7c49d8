//! Lifecycle of the server.

use std::sync::{
    PoisonError, RwLock,
    atomic::{AtomicBool, AtomicU8, Ordering},
};

/// Lifecycle phase of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Starting, with the reason why the server is not ready.
    Starting(String),
    /// Serving requests.
    Serving,
    /// Finishing requests in flight.
    Draining,
}

/// Current phase, shared by all parts of the server.
#[derive(Debug)]
pub struct Lifecycle {
    phase: RwLock<Phase>,
    /// Compact copy of the phase. It is separate, because every request reads it.
    phase_code: AtomicU8,
    /// Last result of the readiness probe.
    was_ready: AtomicBool,
}

const STARTING: u8 = 0;
const SERVING: u8 = 1;
const DRAINING: u8 = 2;

impl Default for Lifecycle {
    fn default() -> Self {
        let phase = Phase::Starting("the database has not been checked yet".into());
        Self { phase: RwLock::new(phase), phase_code: AtomicU8::new(STARTING), was_ready: AtomicBool::new(true) }
    }
}

impl Lifecycle {
    /// Enters `phase`. A draining server stays in its phase: a task that has just made the server ready may not know
    /// yet that the server must stop.
    pub fn enter(&self, phase: Phase) {
        let mut now = self.phase.write().unwrap_or_else(PoisonError::into_inner);
        if *now == Phase::Draining {
            return;
        }
        let phase_code = match phase {
            Phase::Starting(_) => STARTING,
            Phase::Serving => SERVING,
            Phase::Draining => DRAINING,
        };
        self.phase_code.store(phase_code, Ordering::Release);
        *now = phase;
    }

    /// Returns the current phase.
    pub fn phase(&self) -> Phase {
        self.phase.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Records the result of the readiness probe. Returns whether it has changed.
    pub fn record_probe(&self, is_ready: bool) -> bool {
        self.was_ready.swap(is_ready, Ordering::Relaxed) != is_ready
    }

    /// Returns whether the server has started.
    pub fn has_started(&self) -> bool {
        self.phase_code.load(Ordering::Acquire) != STARTING
    }

    /// Returns whether the server is draining.
    pub fn is_draining(&self) -> bool {
        self.phase_code.load(Ordering::Acquire) == DRAINING
    }
}
