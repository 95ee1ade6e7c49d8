//! `/metrics`, on a listener of its own: what it tells is for the operator, not for clients.

use std::time::Duration;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{net::TcpListener, task::spawn_blocking, time::timeout};
use tokio_util::task::TaskTracker;

use super::{Listener, Stop, connection::Connections};
use crate::{
    http::edge::Limits,
    metrics::{scrape, text::MEDIA_TYPE},
    state::App,
};

/// Connections open at a time: one or two who watch, and somebody who looks by hand.
const CONNECTIONS: usize = 32;
/// How long an answer under way has once the server is gone.
const PARTING_TIME: Duration = Duration::from_secs(1);

/// Serves `listener` until `stop`, which comes when the server has stopped: how it drains is worth seeing. Slow
/// clients and those that speak no HTTP are dealt with as everywhere else.
pub async fn serve(app: App, listener: TcpListener, stop: Stop) {
    let limits = Limits { max_connections: CONNECTIONS, ..app.edge.limits };
    let connections = Connections::new(router(app), limits, stop.clone(), TaskTracker::new());
    connections.accept_from(&Listener::from(listener)).await;
    connections.open.close();
    if timeout(PARTING_TIME, connections.open.wait()).await.is_err() {
        stop.now.cancel();
    }
}

fn router(app: App) -> Router {
    let refused = async || {
        let text = "Only GET is answered here.\n";
        (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET, HEAD")], text).into_response()
    };
    Router::new()
        .route("/metrics", get(page).fallback(refused))
        .fallback(async || (StatusCode::NOT_FOUND, "Metrics are at /metrics; the API is served elsewhere.\n"))
        .with_state(app)
}

async fn page(State(app): State<App>) -> Response {
    // It counts the process's open files, of which there may be thousands.
    match spawn_blocking(move || scrape::page(&app)).await {
        Ok(text) => ([(header::CONTENT_TYPE, MEDIA_TYPE)], text).into_response(),
        // Only a panic, which is in the log.
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
