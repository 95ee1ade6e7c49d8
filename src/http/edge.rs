//! What every request passes on its way in, whatever its route: limits of its head, of how many are
//! served, of its time, and for writes the promise to finish even when the client has gone.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio_util::task::TaskTracker;

use super::{cors::Cors, framing, load::Load};
use crate::base::{
    error::{Code, Error, Result},
    lifecycle::Lifecycle,
};

/// The largest head, in bytes of names and values. The parser's own limit is above it, so that this
/// one is answered as a problem.
const MAX_HEAD: usize = 16 * 1024;
/// The longest path and query, in bytes.
const MAX_TARGET: usize = 8 * 1024;
/// How long a request may take once its head is there.
const REQUEST_TIME: Duration = Duration::from_secs(30);
/// What is answered however busy the server is: who restarts or avoids servers asks here, and would
/// take a busy one for a dead one.
const ALWAYS: [&str; 2] = ["/healthz", "/readyz"];

/// How long and how many.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a client may take to send a request's head, and for TLS's handshake.
    pub head_time: Duration,
    /// How long a client may take to send a request's body.
    pub body_time: Duration,
    /// How long a connection may lie idle between requests.
    pub idle_time: Duration,
    /// How long a client may take nothing of an answer. Above what a request may take.
    pub stall_time: Duration,
    /// How many connections are open at a time.
    pub max_connections: usize,
    /// How many requests are served at a time.
    pub max_requests: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_time: Duration::from_secs(10),
            body_time: Duration::from_secs(10),
            idle_time: Duration::from_secs(75),
            stall_time: Duration::from_secs(60),
            max_connections: 10_000,
            max_requests: 1_000,
        }
    }
}

/// What the operator settles about the edge.
#[derive(Clone, Debug, Default)]
pub struct EdgeOptions {
    /// How long and how many.
    pub limits: Limits,
    /// The origins of web pages whose scripts may call the API.
    pub cors_origins: Vec<HeaderValue>,
    /// Whether clients reach the server by https only.
    pub https: bool,
}

/// What the edge shares with the server around it.
#[derive(Clone, Debug)]
pub struct Edge {
    /// Writes under way, so that the server can wait for those that outlive their connection.
    pub tracker: TaskTracker,
    /// Where the server is in its life.
    pub lifecycle: Arc<Lifecycle>,
    /// How long and how many.
    pub limits: Limits,
    /// Which web pages' scripts may call.
    pub cors: Cors,
    /// Whether browsers are told to come by https only.
    pub https: bool,
    load: Load,
}

impl Edge {
    /// As `options` say.
    pub fn new(options: EdgeOptions, lifecycle: Arc<Lifecycle>) -> Self {
        Self {
            tracker: TaskTracker::new(),
            lifecycle,
            limits: options.limits,
            cors: Cors::new(options.cors_origins),
            https: options.https,
            load: Load::new(options.limits.max_requests),
        }
    }
}

/// The middleware.
pub async fn guard(State(edge): State<Edge>, request: Request, next: Next) -> Response {
    match bounded(edge, request, next).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    }
}

async fn bounded(edge: Edge, mut request: Request, next: Next) -> Result<Response> {
    if request.uri().path_and_query().is_some_and(|target| target.as_str().len() > MAX_TARGET) {
        return Err(Error::new(
            Code::UriTooLong,
            format!("The path and query are longer than {MAX_TARGET} bytes; shorten them"),
        ));
    }
    if head_size(request.headers()) > MAX_HEAD {
        return Err(Error::new(
            Code::HeadersTooLarge,
            format!("The headers are larger than {MAX_HEAD} bytes; send fewer or shorter ones"),
        ));
    }
    framing::check(request.version(), request.headers())?;
    if ALWAYS.contains(&request.uri().path()) {
        return in_time(next.run(request)).await;
    }
    let slot = edge.load.admit(edge.limits.body_time)?;
    if !edge.lifecycle.is_open() && request.uri().path().starts_with("/v1/") {
        return Err(Error::new(
            Code::DatabaseUnavailable,
            "The server is starting and its database is not ready yet; retry in a moment",
        ));
    }
    request.extensions_mut().insert(slot.clone());
    let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let answer = async move {
        let answer = next.run(request).await;
        drop(slot);
        answer
    };
    if reads {
        return in_time(answer).await;
    }
    // hyper drops what it is waiting for when the client goes. In a task of its own a write comes to
    // its end, committed or not at all, and gives its connection back clean.
    in_time(edge.tracker.spawn(answer)).await?.map_err(Error::internal)
}

async fn in_time<T>(work: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(REQUEST_TIME, work).await.map_err(|_| {
        Error::new(Code::Timeout, "The request took too long; look whether it took effect before you send it again")
    })
}

fn head_size(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len()).sum()
}
