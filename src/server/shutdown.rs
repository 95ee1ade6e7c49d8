//! Steps of a server's shutdown.

use tokio_util::sync::{CancellationToken, DropGuard};

/// The three steps of a shutdown. Each step includes the ones before it.
#[derive(Clone, Debug)]
pub struct Shutdown {
    /// `/readyz` returns 503 so that load balancers stop sending requests. Everything else continues.
    pub unready: CancellationToken,
    /// New connections are refused, and requests in flight finish.
    pub closing: CancellationToken,
    /// Requests in flight are aborted.
    pub abort: CancellationToken,
}

impl Default for Shutdown {
    fn default() -> Self {
        // Canceling a token cancels its children.
        let abort = CancellationToken::new();
        let closing = abort.child_token();
        let unready = closing.child_token();
        Self { unready, closing, abort }
    }
}

impl Shutdown {
    /// Returns a guard that closes the server when it is dropped.
    pub fn drop_guard(self) -> DropGuard {
        self.closing.drop_guard()
    }
}
