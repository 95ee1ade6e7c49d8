//! Puts the layers in order, serves connections, and drains them when told to stop.

use std::{any::Any, convert::Infallible, net::SocketAddr, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request},
    middleware::from_fn_with_state,
    response::{IntoResponse, Response},
};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tower::{Layer, Service};
use tower_http::catch_panic::CatchPanicLayer;

use crate::{
    base::{error::Error, lifecycle::Phase},
    http::edge,
    routes,
    state::App,
    usage::{
        flush,
        record::{Record, RecordLayer},
    },
};

/// How long a client may take to send a request's head.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// What the parser takes for a head: above `edge`'s limit, so that one is told as a problem.
const HEAD_BUFFER: usize = 64 * 1024;
/// How long requests under way have once the server is told to stop.
const DRAIN_TIME: Duration = Duration::from_secs(20);
/// How often to forget whom no rate limit holds back any more.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
/// How long to wait when no connection can be accepted, for want of file descriptors, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Every layer around every route.
pub fn service(app: &App) -> Record<Router> {
    let router = routes::router(app.clone())
        .layer(from_fn_with_state(app.edge.clone(), edge::guard))
        .layer(CatchPanicLayer::custom(panicked));
    RecordLayer::new(app).layer(router)
}

fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let message = panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".into());
    Error::internal(format!("panicked: {message}")).into_response()
}

/// Serves `listener` until `stop`, then lets requests under way finish, and writes what was counted.
pub async fn serve(app: App, listener: TcpListener, stop: CancellationToken) {
    let flusher = tokio::spawn(flush::run(app.usage.clone(), app.db.clone(), app.clock.clone(), stop.clone()));
    let sweeper = tokio::spawn(sweep(app.clone(), stop.clone()));
    let connections = GracefulShutdown::new();
    accept_until(&stop, &app, &listener, &connections).await;

    // New requests on open connections see it before their connection closes.
    app.lifecycle.enter(Phase::Draining);
    drop(listener);
    let drained = async {
        connections.shutdown().await;
        // Writes whose client has gone.
        app.edge.tracker.close();
        app.edge.tracker.wait().await;
    };
    if tokio::time::timeout(DRAIN_TIME, drained).await.is_err() {
        tracing::warn!("requests were still under way after {} s; they are cut off", DRAIN_TIME.as_secs());
    }
    let _ = tokio::join!(flusher, sweeper);
    flush::flush_or_log(&app.usage, &app.db, &app.clock).await;
    app.db.close().await;
}

/// Keeps the memory of rate limits to whom they still hold back.
async fn sweep(app: App, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(SWEEP_INTERVAL)).await.is_some() {
        app.limits.sweep();
    }
}

async fn accept_until(stop: &CancellationToken, app: &App, listener: &TcpListener, connections: &GracefulShutdown) {
    let service = service(app);
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(HEAD_BUFFER);
    builder.http2().timer(TokioTimer::new()).max_header_list_size(HEAD_BUFFER as u32);
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, peer)) => serve_connection(&builder, connections, service.clone(), stream, peer),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn serve_connection(
    builder: &auto::Builder<TokioExecutor>,
    connections: &GracefulShutdown,
    service: Record<Router>,
    stream: TcpStream,
    peer: SocketAddr,
) {
    // Answers are small and complete; waiting to fill a packet only delays them.
    let _ = stream.set_nodelay(true);
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let mut request: Request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        let mut service = service.clone();
        async move { Ok::<_, Infallible>(service.call(request).await.unwrap_or_else(|never| match never {})) }
    });
    let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
    let connection = connections.watch(connection);
    tokio::spawn(async move {
        // A client that breaks off or sends what is no HTTP has been answered by hyper, if it could.
        if let Err(error) = connection.await {
            tracing::debug!(%error, %peer, "a connection ended early");
        }
    });
}
