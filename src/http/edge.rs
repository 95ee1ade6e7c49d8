//! What every request passes on its way in, whatever its route: limits of its head, of how many are served, and of
//! its time. A plain service whose future is no box, like the other layers that every request passes: the boxes
//! would cost more than what the layers do.

use std::{
    any::Any,
    convert::Infallible,
    ops::Deref,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderValue, Version, header},
    response::{IntoResponse, Response},
};
use futures_util::future::{CatchUnwind, FutureExt};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};
use tokio_util::task::TaskTracker;
use tower::{Layer, Service};

use super::{
    cors::Cors,
    framing,
    load::{Load, Slot},
};
use crate::base::{
    error::{Code, Error, Result},
    lifecycle::Lifecycle,
};
use crate::metrics::text::{Measured, Page};

/// The largest head, in bytes of names and values. The parser's own limit is above it, so that this
/// one is answered as a problem.
const MAX_HEAD: usize = 16 * 1024;
/// The longest path and query, in bytes.
const MAX_TARGET: usize = 8 * 1024;
/// How long a request may take once its head is there, besides what it waits for by its client's wish.
const REQUEST_TIME: Duration = Duration::from_secs(30);
/// What is answered however busy the server is: who restarts or avoids servers asks here, and would
/// take a busy one for a dead one.
pub const ALWAYS: [&str; 2] = ["/healthz", "/readyz"];

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
            stall_time: Duration::from_secs(100),
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

/// What the edge shares with the server around it: cheap to clone, the same for all.
#[derive(Clone, Debug)]
pub struct Edge(Arc<Shared>);

/// What [`Edge`] holds.
#[derive(Debug)]
pub struct Shared {
    /// Writes under way, so that the server can wait for those that outlive their connection.
    pub tracker: TaskTracker,
    /// Connections that are open.
    pub connections: TaskTracker,
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
        Self(Arc::new(Shared {
            tracker: TaskTracker::new(),
            connections: TaskTracker::new(),
            lifecycle,
            limits: options.limits,
            cors: Cors::new(options.cors_origins),
            https: options.https,
            load: Load::new(options.limits.max_requests),
        }))
    }
}

impl Deref for Edge {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Measured for Edge {
    fn tell(&self, page: &mut Page) {
        page.gauge("cloudapi_http_connections", "Open connections.").is(self.connections.len());
        page.gauge("cloudapi_http_connections_max", "How many may be open; more wait.").is(self.limits.max_connections);
        page.gauge("cloudapi_http_requests_max", "How many requests are served at a time; more are answered 503.")
            .is(self.limits.max_requests);
    }
}

/// The layer.
#[derive(Clone, Debug)]
pub struct GuardLayer(pub Edge);

impl<S> Layer<S> for GuardLayer {
    type Service = Guard<S>;

    fn layer(&self, inner: S) -> Guard<S> {
        Guard { edge: self.0.clone(), inner }
    }
}

/// The service that [`GuardLayer`] makes.
#[derive(Clone, Debug)]
pub struct Guard<S> {
    edge: Edge,
    inner: S,
}

impl<S> Service<Request> for Guard<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Guarded<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<std::result::Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        if let Err(error) = framing::check(&request) {
            // Where the next request begins is not certain.
            return Guarded::Refused { error: Some(error), closes: request.version() < Version::HTTP_2 };
        }
        match self.edge.admit(&request) {
            Ok(slot) => {
                if let Some(slot) = &slot {
                    request.extensions_mut().insert(slot.clone());
                }
                let write = (!request.method().is_safe()).then(|| request.headers().contains_key("idempotency-key"));
                // A handler that panics is an internal error, and not the end of its connection.
                let answer = AssertUnwindSafe(self.inner.call(request)).catch_unwind();
                let began = Instant::now();
                let time = tokio::time::sleep_until(began + REQUEST_TIME);
                Guarded::Served { answer, time, began, slot, write }
            }
            Err(error) => Guarded::Refused { error: Some(error), closes: false },
        }
    }
}

pin_project! {
    /// An answer on its way, which comes in time or not at all.
    #[project = GuardedProject]
    #[derive(Debug)]
    #[allow(missing_docs, reason = "the macro takes no comments on fields")]
    pub enum Guarded<F> {
        /// The request was turned away.
        Refused { error: Option<Error>, closes: bool },
        /// It is being served, and takes a place until the answer is there.
        Served {
            #[pin]
            answer: CatchUnwind<AssertUnwindSafe<F>>,
            #[pin]
            time: Sleep,
            began: Instant,
            slot: Option<Slot>,
            // For a write, whether it carries an Idempotency-Key.
            write: Option<bool>,
        },
    }
}

impl<F: Future<Output = std::result::Result<Response, Infallible>>> Future for Guarded<F> {
    type Output = std::result::Result<Response, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let error = match self.project() {
            GuardedProject::Served { answer, mut time, began, slot, write } => {
                let error = match answer.poll(cx) {
                    Poll::Ready(Ok(Ok(response))) => {
                        *slot = None;
                        return Poll::Ready(Ok(response));
                    }
                    Poll::Ready(Err(panic)) => panicked(&*panic),
                    Poll::Pending => {
                        loop {
                            ready!(time.as_mut().poll(cx));
                            // It may have been allowed to wait for something in the meantime.
                            let end = *began + REQUEST_TIME + slot.as_ref().map(Slot::more_time).unwrap_or_default();
                            if end <= Instant::now() {
                                break;
                            }
                            time.as_mut().reset(end);
                        }
                        // A write goes on to its end, which nobody hears of.
                        match *write {
                            Some(has_key) => Error::outcome_unknown(has_key),
                            None => Error::new(Code::Timeout, "The request took too long; retry in a moment"),
                        }
                    }
                };
                *slot = None;
                error
            }
            GuardedProject::Refused { error, closes } => {
                let error = error.take().unwrap_or_else(|| Error::internal("an answer was asked for twice"));
                let mut response = error.into_response();
                if *closes {
                    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                return Poll::Ready(Ok(response));
            }
        };
        Poll::Ready(Ok(error.into_response()))
    }
}

fn panicked(panic: &(dyn Any + Send)) -> Error {
    let message = panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".into());
    Error::internal(format!("panicked: {message}"))
}

impl Edge {
    /// Whether a request may come in; the place that it takes, unless it is one of those that take none.
    fn admit(&self, request: &Request) -> Result<Option<Slot>> {
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
        if ALWAYS.contains(&request.uri().path()) {
            return Ok(None);
        }
        let slot = self.load.admit(self.limits.body_time)?;
        if !self.lifecycle.is_open() && request.uri().path().starts_with("/v1/") {
            return Err(Error::new(
                Code::DatabaseUnavailable,
                "The server is starting and its database is not ready yet; retry in a moment",
            ));
        }
        Ok(Some(slot))
    }
}

fn head_size(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len()).sum()
}
