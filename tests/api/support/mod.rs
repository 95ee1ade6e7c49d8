//! What the tests stand on: one PostgreSQL for the run, a server and a database of its own for each
//! test, identities as types, and answers that are held to the published description.

pub mod app;
pub mod binary;
pub mod cluster;
pub mod contract;
pub mod hooks;
pub mod https;
pub mod identity;
pub mod moto;
pub mod prometheus;
pub mod raw;
pub mod receiver;
pub mod reply;
pub mod slot;
pub mod stream;
pub mod trail;
pub mod witness;

use std::time::{Duration, Instant};

pub use app::TestApp;
pub use identity::{Bearer, Identity, Key, Session, Token};
pub use reply::Reply;

/// Waits until `condition` gives something, and fails after ten seconds of nothing.
pub async fn eventually<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(Instant::now() < deadline, "in vain waited for: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
