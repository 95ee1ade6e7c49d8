//! Composes the application: state, route table, layers, workers and connections. Serves connections, and drains them
//! at shutdown.

mod background;
pub mod config;
pub(crate) mod connections;
pub mod docs;
pub mod health;
pub mod metrics;
pub mod routes;
pub mod scrape;
mod shutdown;
pub mod state;
pub mod supervision;
pub mod workers;

use std::{sync::Arc, time::Duration};

use axum::Router;
use tokio::time::timeout;
use tower::{Layer, util::BoxCloneSyncService};

pub use connections::Listener;
pub use shutdown::Shutdown;

use crate::{
    api::usage::counting::{
        flush,
        record::{RecordLayer, RecordParts, RecordService},
    },
    base::runtime::lifecycle::Phase,
    http::layers::{
        cors::CorsService,
        edge::{Guard, GuardLayer},
        headers::{Headers, HeadersLayer},
    },
};
use connections::Connections;
use state::App;

/// Time limit for requests in flight once the server closes.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);
/// Time limit for the last flush of usage, and the one for a forced shutdown.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(10);
const FORCED_FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// All layers around the router.
pub type Layers = RecordService<Headers<CorsService<Guard<Router>>>>;

/// Wraps `router` in all layers, the outermost first. They wrap the whole router, because `Router::layer` would box
/// each of them for each route.
pub fn layers(app: &App, router: Router) -> Layers {
    let layers = (
        RecordLayer::new(RecordParts {
            clock: app.store.clock.clone(),
            meter: Arc::clone(&app.meter),
            requests: Arc::clone(&app.requests),
            denials: Arc::clone(&app.denials),
            public_url: app.public_url.clone(),
            trusted_proxies: app.trusted_proxies.clone(),
        }),
        HeadersLayer(app.edge.clone()),
        app.edge.cors.clone(),
        GuardLayer(app.edge.clone()),
    );
    layers.layer(router)
}

/// The application as a service: the API and the console, in all layers. The console calls the API through layers of
/// its own, so that its calls are logged and limited like those of other clients.
pub fn service(app: &App) -> Layers {
    let api = routes::router(app.clone());
    let console = routes::console(app, BoxCloneSyncService::new(layers(app, api.clone())));
    layers(app, api.merge(console.router()))
}

/// Serves `listener` until `stop`, then lets requests in flight finish, and flushes usage.
pub async fn serve(app: App, listener: impl Into<Listener>, stop: Shutdown) {
    let listener = listener.into();
    let mut workers = workers::start(&app, &stop.closing, &stop.abort);
    let connections = Connections::new(service(&app), app.edge.limits, stop.clone(), app.edge.connections.clone());
    let draining = async {
        stop.unready.cancelled().await;
        app.lifecycle.enter(Phase::Draining);
    };
    tokio::join!(connections.accept_from(&listener), draining);
    drop(listener);
    // Event streams tell their clients to reconnect, and end.
    app.events.hub.closing.cancel();

    let drained = async {
        connections.open.close();
        connections.open.wait().await;
        // Writes whose client has disconnected.
        app.edge.tracker.close();
        app.edge.tracker.wait().await;
    };
    if let Some(Err(_)) = stop.abort.run_until_cancelled(timeout(DRAIN_TIMEOUT, drained)).await {
        tracing::warn!("requests were still in flight after {} s; aborting them", DRAIN_TIMEOUT.as_secs());
        stop.abort.cancel();
    }
    let flushed = async {
        // Requests in flight need the lease, and their usage is counted, until the last one has finished.
        workers.stop_after_requests().await;
        flush::close(&app.meter, &app.store.db, &app.store.clock).await;
        // Seals what they and the last workers staged.
        workers.stop_after_audit().await;
        app.store.db.close().await;
    };
    let flush_time = if stop.abort.is_cancelled() { FORCED_FLUSH_TIMEOUT } else { FLUSH_TIMEOUT };
    if timeout(flush_time, flushed).await.is_err() {
        tracing::warn!("last usage flush timed out; it is repeated when this server starts again");
    }
}
