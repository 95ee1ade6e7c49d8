//! Event streams: no event is missed or sent twice, and none is sent to a reader that has lost its permission.

mod delivery;
mod limits;
mod permissions;

use std::time::Duration;

use cloudapi::{api::events::hub::StreamOptions, server::state::AppOptions};

use crate::support::{Bearer, TestApp, stream::SseMessage};

const STREAM: &str = "/v1/events/stream";

fn with(change: impl FnOnce(&mut StreamOptions)) -> AppOptions {
    let mut streams = StreamOptions::default();
    change(&mut streams);
    AppOptions { streams, ..AppOptions::default() }
}

fn message_ids(received: &[SseMessage]) -> Vec<String> {
    received.iter().map(|received| received.id.clone().unwrap()).collect()
}

/// Two servers on one database.
struct ServerPair {
    here: TestApp,
    there: TestApp,
}

impl ServerPair {
    /// The periodic check of readers is so rare that only an invalidation can end their streams.
    async fn start() -> Self {
        Self::start_with(with(|streams| streams.check_interval = Duration::from_secs(3600))).await
    }

    async fn start_with(options: AppOptions) -> Self {
        let here = TestApp::start_with(options.clone()).await;
        let there = here.start_peer(options).await;
        here.lease().await;
        there.lease().await;
        Self { here, there }
    }

    fn at(&self, there: bool, secret: &str) -> Bearer<'_> {
        Bearer { app: if there { &self.there } else { &self.here }, secret: secret.to_owned() }
    }
}
