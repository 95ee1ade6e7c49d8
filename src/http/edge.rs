//! What every request passes on its way in, whatever its route: limits of its head, a limit of its
//! time, and for writes the promise to finish even when the client has gone.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, Method},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio_util::task::TaskTracker;

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

/// What the edge shares with the server around it.
#[derive(Clone, Debug, Default)]
pub struct Edge {
    /// Writes under way, so that the server can wait for those that outlive their connection.
    pub tracker: TaskTracker,
    /// Where the server is in its life.
    pub lifecycle: Arc<Lifecycle>,
}

/// The middleware.
pub async fn guard(State(edge): State<Edge>, request: Request, next: Next) -> Response {
    match bounded(edge, request, next).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    }
}

async fn bounded(edge: Edge, request: Request, next: Next) -> Result<Response> {
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
    if !edge.lifecycle.is_open() && request.uri().path().starts_with("/v1/") {
        return Err(Error::new(
            Code::DatabaseUnavailable,
            "The server is starting and its database is not ready yet; retry in a moment",
        ));
    }
    let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let answer = async {
        if reads {
            return Ok(next.run(request).await);
        }
        // hyper drops what it is waiting for when the client goes. In a task of its own a write
        // comes to its end, committed or not at all, and gives its connection back clean.
        edge.tracker.spawn(next.run(request)).await.map_err(Error::internal)
    };
    tokio::time::timeout(REQUEST_TIME, answer).await.unwrap_or_else(|_| {
        Err(Error::new(
            Code::Timeout,
            "The request took too long; look whether it took effect before you send it again",
        ))
    })
}

fn head_size(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len()).sum()
}
