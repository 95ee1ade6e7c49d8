//! Shared infrastructure of the tests: one PostgreSQL for the run, a server and a database for each test, identities as
//! types, and responses that are checked against the published OpenAPI document.

mod fixtures;
mod peers;
mod requests;
mod servers;

use std::{
    thread,
    time::{Duration, Instant},
};

use cloudapi::base::runtime::clock::Clock;

pub use fixtures::{cloud, hooks, items, trail};
pub use peers::{moto, prometheus, receiver};
pub use requests::{
    browser, console, contract, document, https,
    identity::{self, Bearer, Identity, Key, Session, Token},
    raw,
    reply::{self, Reply},
    stream,
};
pub use servers::{
    app::{self, TestApp},
    binary, cluster, diverted_connections, leak_detector, prepared, shared, slot, worker_faults,
};

/// How long tests wait for something that must happen: a generous limit for slow machines, not a guarantee of the
/// server.
pub const WAIT_LIMIT: Duration = Duration::from_secs(30);

/// Waits until `condition` returns a value. Panics after [`WAIT_LIMIT`].
pub async fn eventually<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        let waited = begun.elapsed();
        assert!(waited < WAIT_LIMIT, "timed out waiting for: {what}");
        // A condition can be a request: checked every few milliseconds, long waits would slow the other tests down.
        tokio::time::sleep((waited / 8).clamp(Duration::from_millis(5), Duration::from_millis(50))).await;
    }
}

/// Returns immediately, except in the last minute of a day (UTC), which it waits out. Counters by day and month would
/// otherwise be split at midnight.
pub fn not_at_midnight() {
    let turns = || {
        let now = Clock::system().now();
        now.date() != now.plus(Duration::from_secs(60)).date()
    };
    while turns() {
        thread::sleep(Duration::from_millis(100));
    }
}
