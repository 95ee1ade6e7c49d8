//! Steps of a server's shutdown.

use tokio_util::sync::{CancellationToken, DropGuard};

/// The three steps of a shutdown. Each step includes the ones before it.
#[derive(Clone, Debug)]
pub struct Stop {
    /// `/readyz` returns 503 so that load balancers stop sending requests. Everything else continues.
    pub told: CancellationToken,
    /// New connections are refused, and requests in flight finish.
    pub closing: CancellationToken,
    /// Requests in flight are aborted.
    pub now: CancellationToken,
}

impl Default for Stop {
    fn default() -> Self {
        // Canceling a token cancels its children.
        let now = CancellationToken::new();
        let closing = now.child_token();
        let told = closing.child_token();
        Self { told, closing, now }
    }
}

impl Stop {
    /// Returns a guard that closes the server when it is dropped.
    pub fn drop_guard(self) -> DropGuard {
        self.closing.drop_guard()
    }
}
