//! `/metrics`, on a separate listener, because it is for the operator and not for clients.

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

/// Maximum connections: a few scrapers, and people who open the page.
const CONNECTIONS: usize = 32;
/// Time limit for responses in flight after the server has stopped.
const PARTING_TIME: Duration = Duration::from_secs(1);

/// Serves `listener` until `stop`, which is canceled after the server has stopped, so that the drain can be observed.
/// The timeouts and limits for connections are the same as on the API's listener.
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
        let text = "Only GET and HEAD are allowed.\n";
        (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET, HEAD")], text).into_response()
    };
    Router::new()
        .route("/metrics", get(page).fallback(refused))
        .fallback(async || (StatusCode::NOT_FOUND, "Metrics are at /metrics. The API is on another port.\n"))
        .with_state(app)
}

async fn page(State(app): State<App>) -> Response {
    // In a blocking task, because it counts the open files of the process, possibly thousands.
    match spawn_blocking(move || scrape::page(&app)).await {
        Ok(text) => ([(header::CONTENT_TYPE, MEDIA_TYPE)], text).into_response(),
        // The task panicked. The panic is in the log.
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
