//! Puts the layers in order, serves connections, and drains them when told to stop.

mod connection;
pub mod files;
mod framing;
pub mod metrics;
mod patient;
mod progress;
mod stop;
pub mod tls;
mod unread;

use std::time::Duration;

use axum::Router;
use tokio::time::timeout;
use tower::Layer;

pub use connection::Listener;
pub use stop::Stop;

use crate::{
    base::lifecycle::Phase,
    http::{
        cors::WithCors,
        edge::{Guard, GuardLayer},
        headers::{Headers, HeadersLayer},
    },
    routes,
    state::App,
    usage::{
        flush,
        record::{Record, RecordLayer},
    },
    workers,
};
use connection::Connections;

/// How long requests under way have once the server closes.
const DRAIN_TIME: Duration = Duration::from_secs(20);
/// How long a last write of what was counted may take; and when there is a hurry.
const FLUSH_TIME: Duration = Duration::from_secs(10);
const HURRIED_FLUSH_TIME: Duration = Duration::from_secs(1);

/// All that a request passes.
pub type Layers = Record<Headers<WithCors<Guard<Router>>>>;

/// Every layer around `router`, the outermost first. Around the router as a whole: `Router::layer` would box each of
/// them for each route.
pub fn layers(app: &App, router: Router) -> Layers {
    let layers =
        (RecordLayer::new(app), HeadersLayer(app.edge.clone()), app.edge.cors.clone(), GuardLayer(app.edge.clone()));
    layers.layer(router)
}

/// Serves `listener` until `stop`, then lets requests under way finish, and writes what was counted.
pub async fn serve(app: App, listener: impl Into<Listener>, stop: Stop) {
    let listener = listener.into();
    let mut workers = workers::start(&app, &stop.closing, &stop.now);
    let connections = Connections::new(
        layers(&app, routes::router(app.clone())),
        app.edge.limits,
        stop.clone(),
        app.edge.connections.clone(),
    );
    let telling = async {
        stop.told.cancelled().await;
        app.lifecycle.enter(Phase::Draining);
    };
    tokio::join!(connections.accept_from(&listener), telling);
    drop(listener);
    // Streams are told to go on elsewhere, and end.
    app.hub.closing.cancel();

    let drained = async {
        connections.open.close();
        connections.open.wait().await;
        // Writes whose client has gone.
        app.edge.tracker.close();
        app.edge.tracker.wait().await;
    };
    if let Some(Err(_)) = stop.now.run_until_cancelled(timeout(DRAIN_TIME, drained)).await {
        tracing::warn!("requests were still under way after {} s; they are cut off", DRAIN_TIME.as_secs());
        stop.now.cancel();
    }
    let flushed = async {
        // Requests under way need the lease, and are counted, to the end.
        workers.serve_out().await;
        flush::close(&app.meter, &app.db, &app.clock).await;
        // And what they and the last of the workers staged is sealed.
        workers.stage_out().await;
        app.db.close().await;
    };
    let flush_time = if stop.now.is_cancelled() { HURRIED_FLUSH_TIME } else { FLUSH_TIME };
    if timeout(flush_time, flushed).await.is_err() {
        tracing::warn!(
            "the database did not answer in time; the usage counted last is written when this server starts again"
        );
    }
}
