//! Where the server is in its life.

use std::sync::{
    PoisonError, RwLock,
    atomic::{AtomicBool, Ordering},
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
    /// Whether the database is ready to be worked with; apart, because every request asks.
    open: AtomicBool,
}

impl Default for Lifecycle {
    fn default() -> Self {
        let phase = Phase::Starting("the database has not been looked at yet".into());
        Self { phase: RwLock::new(phase), open: AtomicBool::new(false) }
    }
}

impl Lifecycle {
    /// Enters `phase`.
    pub fn enter(&self, phase: Phase) {
        self.open.store(!matches!(phase, Phase::Starting(_)), Ordering::Release);
        *self.phase.write().unwrap_or_else(PoisonError::into_inner) = phase;
    }

    /// The phase now.
    pub fn phase(&self) -> Phase {
        self.phase.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether requests can be served: the server is past its start.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }
}
