//! Where the server is in its life.

use std::sync::{
    PoisonError, RwLock,
    atomic::{AtomicBool, AtomicU8, Ordering},
};

/// Where the server is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not ready yet, and why.
    Starting(String),
    /// Serving.
    Serving,
    /// Finishing what is under way.
    Draining,
}

/// The phase, for all to see.
#[derive(Debug)]
pub struct Lifecycle {
    phase: RwLock<Phase>,
    /// The same in short; apart, because every request asks.
    short: AtomicU8,
    /// What the readiness probe found last.
    was_ready: AtomicBool,
}

const STARTING: u8 = 0;
const SERVING: u8 = 1;
const DRAINING: u8 = 2;

impl Default for Lifecycle {
    fn default() -> Self {
        let phase = Phase::Starting("the database has not been looked at yet".into());
        Self { phase: RwLock::new(phase), short: AtomicU8::new(STARTING), was_ready: AtomicBool::new(true) }
    }
}

impl Lifecycle {
    /// Enters `phase`. A server that is draining stays so: whoever has just made it ready has not
    /// heard yet that it was told to stop.
    pub fn enter(&self, phase: Phase) {
        let mut now = self.phase.write().unwrap_or_else(PoisonError::into_inner);
        if *now == Phase::Draining {
            return;
        }
        let short = match phase {
            Phase::Starting(_) => STARTING,
            Phase::Serving => SERVING,
            Phase::Draining => DRAINING,
        };
        self.short.store(short, Ordering::Release);
        *now = phase;
    }

    /// The phase now.
    pub fn phase(&self) -> Phase {
        self.phase.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes what the readiness probe found; gives whether it found something else the last time.
    pub fn note_probe(&self, is_ready: bool) -> bool {
        self.was_ready.swap(is_ready, Ordering::Relaxed) != is_ready
    }

    /// Whether requests can be served: the server is past its start.
    pub fn is_open(&self) -> bool {
        self.short.load(Ordering::Acquire) != STARTING
    }

    /// Whether the server is finishing what is under way.
    pub fn is_draining(&self) -> bool {
        self.short.load(Ordering::Acquire) == DRAINING
    }
}
