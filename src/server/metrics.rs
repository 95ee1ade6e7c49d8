//! Listener for `/metrics`. It is separate, because it is for the operator and not for clients.

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

use super::{Listener, Shutdown, connections::Connections};
use crate::{
    http::layers::edge::EdgeLimits,
    metrics::exposition::MEDIA_TYPE,
    server::{scrape, state::App},
};

/// Maximum connections: a few scrapers, and people who open the page.
const CONNECTIONS: usize = 32;
/// Time limit for responses in flight after the server has stopped.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves `listener` until `stop`, which is canceled after the server has stopped, so that the drain can be observed.
/// The timeouts and limits for connections are the same as on the API's listener.
pub async fn serve(app: App, listener: TcpListener, stop: Shutdown) {
    let limits = EdgeLimits { max_connections: CONNECTIONS, ..app.edge.limits };
    let connections = Connections::new(router(app), limits, stop.clone(), TaskTracker::new());
    connections.accept_from(&Listener::from(listener)).await;
    connections.open.close();
    if timeout(CLOSE_TIMEOUT, connections.open.wait()).await.is_err() {
        stop.abort.cancel();
    }
}

fn router(app: App) -> Router {
    let refused = async || {
        let text = "Only GET and HEAD are allowed.\n";
        (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET, HEAD")], text).into_response()
    };
    Router::new()
        .route("/metrics", get(serve_metrics).fallback(refused))
        .fallback(async || (StatusCode::NOT_FOUND, "Metrics are at /metrics. The API is on another port.\n"))
        .with_state(app)
}

async fn serve_metrics(State(app): State<App>) -> Response {
    // In a blocking task, because it counts the open files of the process, possibly thousands.
    match spawn_blocking(move || scrape::render(&app)).await {
        Ok(text) => ([(header::CONTENT_TYPE, MEDIA_TYPE)], text).into_response(),
        // The task panicked. The panic is in the log.
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
