//! What the tests stand on: one PostgreSQL for the run, a server and a database of its own for each
//! test, identities as types, and answers that are held to the published description.

pub mod app;
pub mod binary;
pub mod cloud;
pub mod cluster;
pub mod contract;
pub mod document;
pub mod elsewhere;
pub mod hooks;
pub mod https;
pub mod identity;
pub mod items;
pub mod moto;
pub mod prometheus;
pub mod raw;
pub mod receiver;
pub mod reply;
pub mod slot;
pub mod stream;
pub mod trail;
pub mod witness;

use std::{
    thread,
    time::{Duration, Instant},
};

use cloudapi::base::clock::Clock;

pub use app::TestApp;
pub use identity::{Bearer, Identity, Key, Session, Token};
pub use reply::Reply;

/// How long something is waited for that has to come. No promise of the server's, only when to give up: a machine that
/// has much else to do may take its time.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `condition` gives something, and fails when there was nothing for so long.
pub async fn eventually<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(Instant::now() < deadline, "in vain waited for: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Returns at once, but for the last minute of a day (UTC), which it waits out: what is counted by days and months would
/// else lie on both sides of midnight.
pub fn not_at_midnight() {
    let turns = || {
        let now = Clock::system().now();
        now.date() != now.plus(Duration::from_secs(60)).date()
    };
    while turns() {
        thread::sleep(Duration::from_millis(100));
    }
}
