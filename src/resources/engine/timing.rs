//! Timing and limits of the engine.

use std::time::Duration;

use crate::db::jobs::Backoff;

/// Timing and limits of the engine. Only tests use other values than the default.
#[derive(Clone, Copy, Debug)]
pub struct EngineTiming {
    /// Interval of polling while operations are due.
    pub poll_interval: Duration,
    /// Lease of a worker on an operation, renewed while the worker runs. A worker that dies delays an operation by at
    /// most this time.
    pub lease: Duration,
    /// Maximum number of operations in progress on one server.
    pub concurrency: usize,
    /// Time limit of a call to a provider.
    pub call_timeout: Duration,
    /// Time limit of one run of an operation, which also limits the renewal of its lease.
    pub run_timeout: Duration,
    /// Maximum number of a server's database connections that work on operations. The remaining ones are for requests.
    pub db_permits: usize,
    /// Time limit of the wait for such a connection.
    pub db_permit_timeout: Duration,
    /// Time limit of one step on the database, including the wait.
    pub db_timeout: Duration,
    /// Pause before an object that is not ready is read again.
    pub reread_interval: Duration,
    /// Pause after the first failure; doubled after each further one.
    pub initial_backoff: Duration,
    /// Maximum pause after a failure.
    pub max_backoff: Duration,
    /// Time limit of an operation.
    pub operation_timeout: Duration,
    /// Interval between two sweeps of a provider.
    pub sweep_interval: Duration,
    /// Minimum interval between deletions of expired resources.
    pub expiry_interval: Duration,
    /// Retention time of deleted resources and ended operations.
    pub retention: Duration,
}

impl Default for EngineTiming {
    fn default() -> Self {
        Self {
            poll_interval: Duration::from_millis(250),
            lease: Duration::from_secs(10),
            concurrency: 32,
            call_timeout: Duration::from_secs(30),
            run_timeout: Duration::from_secs(10 * 60),
            db_permits: 3,
            db_permit_timeout: Duration::from_secs(5),
            db_timeout: Duration::from_secs(15),
            reread_interval: Duration::from_millis(500),
            initial_backoff: Duration::from_millis(500),
            max_backoff: Duration::from_secs(60),
            operation_timeout: Duration::from_secs(15 * 60),
            sweep_interval: Duration::from_secs(60),
            expiry_interval: Duration::from_secs(1),
            retention: Duration::from_secs(30 * 24 * 3600),
        }
    }
}

impl EngineTiming {
    /// Returns the pause after failure number `attempt`, from 1, or longer if the provider asks for it. The upper half
    /// is random, so that operations that failed together do not retry together.
    pub fn backoff(&self, attempt: u32, after: Option<Duration>) -> Duration {
        Backoff { initial: self.initial_backoff, max: self.max_backoff, jitter: 0.5..=1.0 }.pause(attempt, after)
    }
}
