//! How a server is told to stop, step by step.

use tokio_util::sync::{CancellationToken, DropGuard};

/// The three steps of a stop. A later one includes those before it.
#[derive(Clone, Debug)]
pub struct Stop {
    /// `/readyz` says 503, and everything else goes on, so that a load balancer looks elsewhere.
    pub told: CancellationToken,
    /// No new connection is taken, and what is under way finishes.
    pub closing: CancellationToken,
    /// What is under way is cut off.
    pub now: CancellationToken,
}

impl Default for Stop {
    fn default() -> Self {
        // Cancelling a token cancels its children.
        let now = CancellationToken::new();
        let closing = now.child_token();
        let told = closing.child_token();
        Self { told, closing, now }
    }
}

impl Stop {
    /// Closes when the guard is dropped.
    pub fn drop_guard(self) -> DropGuard {
        self.closing.drop_guard()
    }
}
