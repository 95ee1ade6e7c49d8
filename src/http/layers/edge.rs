//! Outermost checks of every request: limits on the size of its head, on concurrent requests and on its time. Like the
//! other layers that every request passes, this is a plain service without a boxed future, because the allocation would
//! cost more than the work of the layer.

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
    concurrency::{ConcurrencyLimit, Slot},
    cors::Cors,
    framing,
};
use crate::{
    base::{
        error::{Code, Error, Result},
        runtime::lifecycle::Lifecycle,
    },
    metrics::exposition::{Collector, Exposition},
};

/// Maximum size of a head, in bytes of names and values. The parser's own limit is higher, so that the response is a
/// problem document.
const MAX_HEAD: usize = 16 * 1024;
/// Maximum length of path and query, in bytes.
const MAX_TARGET: usize = 8 * 1024;
/// Time limit for a request after its head has arrived, without the time that the client asked to wait.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Paths that are served under any load: supervisors and load balancers use them, and would take a busy server for a
/// dead one.
pub const ALWAYS_SERVED: [&str; 2] = ["/healthz", "/readyz"];

/// Limits on times and counts.
#[derive(Clone, Copy, Debug)]
pub struct EdgeLimits {
    /// Time limit for receiving a request's head, and for the TLS handshake.
    pub head_timeout: Duration,
    /// Time limit for receiving a request's body.
    pub body_timeout: Duration,
    /// Maximum idle time of a connection between requests.
    pub idle_timeout: Duration,
    /// Maximum time that a client may accept no data of a response. Longer than the time limit for a request.
    pub stall_timeout: Duration,
    /// Maximum number of open connections.
    pub max_connections: usize,
    /// Maximum number of concurrent requests.
    pub max_requests: usize,
}

impl Default for EdgeLimits {
    fn default() -> Self {
        Self {
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            stall_timeout: Duration::from_secs(100),
            max_connections: 10_000,
            max_requests: 1_000,
        }
    }
}

/// Operator settings of the edge.
#[derive(Clone, Debug, Default)]
pub struct EdgeOptions {
    /// Limits on times and counts.
    pub limits: EdgeLimits,
    /// Allowed origins of cross-origin requests.
    pub cors_origins: Vec<HeaderValue>,
    /// Whether clients reach the server only over https.
    pub https: bool,
}

/// State that the edge shares with the server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Edge(Arc<Shared>);

/// Content of [`Edge`].
#[derive(Debug)]
pub struct Shared {
    /// Writes in progress. The server waits for those that outlive their connection.
    pub tracker: TaskTracker,
    /// Open connections.
    pub connections: TaskTracker,
    /// Lifecycle phase of the server.
    pub lifecycle: Arc<Lifecycle>,
    /// Limits on times and counts.
    pub limits: EdgeLimits,
    /// Cross-origin policy.
    pub cors: Cors,
    /// Whether responses have `Strict-Transport-Security`.
    pub https: bool,
    load: ConcurrencyLimit,
}

impl Edge {
    /// Creates the edge with `options`.
    pub fn new(options: EdgeOptions, lifecycle: Arc<Lifecycle>) -> Self {
        Self(Arc::new(Shared {
            tracker: TaskTracker::new(),
            connections: TaskTracker::new(),
            lifecycle,
            limits: options.limits,
            cors: Cors::new(options.cors_origins),
            https: options.https,
            load: ConcurrencyLimit::new(options.limits.max_requests),
        }))
    }
}

impl Deref for Edge {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Collector for Edge {
    fn collect(&self, out: &mut Exposition) {
        out.gauge("cloudapi_http_connections", "Open connections.").value(self.connections.len());
        out.gauge("cloudapi_http_connections_max", "Maximum number of open connections; more wait.")
            .value(self.limits.max_connections);
        out.gauge("cloudapi_http_requests_max", "Maximum number of concurrent requests; more get 503.")
            .value(self.limits.max_requests);
    }
}

/// Layer that adds [`Guard`].
#[derive(Clone, Debug)]
pub struct GuardLayer(pub Edge);

impl<S> Layer<S> for GuardLayer {
    type Service = Guard<S>;

    fn layer(&self, inner: S) -> Guard<S> {
        Guard { edge: self.0.clone(), inner }
    }
}

/// Service of [`GuardLayer`].
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
            // It is uncertain where the next request begins, so the connection closes.
            return Guarded::Refused { error: Some(error), closes: request.version() < Version::HTTP_2 };
        }
        match self.edge.admit(&request) {
            Ok(slot) => {
                if let Some(slot) = &slot {
                    request.extensions_mut().insert(slot.clone());
                }
                let write = (!request.method().is_safe()).then(|| request.headers().contains_key("idempotency-key"));
                // A panic in a handler becomes an internal error and does not end the connection.
                let future = AssertUnwindSafe(self.inner.call(request)).catch_unwind();
                let began = Instant::now();
                let time = tokio::time::sleep_until(began + REQUEST_TIMEOUT);
                Guarded::Served { future, time, began, slot, write }
            }
            Err(error) => Guarded::Refused { error: Some(error), closes: false },
        }
    }
}

pin_project! {
    /// Response future with a time limit.
    #[project = GuardedProject]
    #[derive(Debug)]
    #[allow(missing_docs, reason = "the macro takes no comments on fields")]
    pub enum Guarded<F> {
        /// Rejected request.
        Refused { error: Option<Error>, closes: bool },
        /// Request in progress. It occupies a slot until the response is ready.
        Served {
            #[pin]
            future: CatchUnwind<AssertUnwindSafe<F>>,
            #[pin]
            time: Sleep,
            began: Instant,
            slot: Option<Slot>,
            // For a write, whether it has an Idempotency-Key.
            write: Option<bool>,
        },
    }
}

impl<F: Future<Output = std::result::Result<Response, Infallible>>> Future for Guarded<F> {
    type Output = std::result::Result<Response, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let error = match self.project() {
            GuardedProject::Served { future, mut time, began, slot, write } => {
                let error = match future.poll(cx) {
                    Poll::Ready(Ok(Ok(response))) => {
                        *slot = None;
                        return Poll::Ready(Ok(response));
                    }
                    Poll::Ready(Err(panic)) => panicked(&*panic),
                    Poll::Pending => {
                        loop {
                            ready!(time.as_mut().poll(cx));
                            // The request may have been granted more time meanwhile.
                            let end =
                                *began + REQUEST_TIMEOUT + slot.as_ref().map(Slot::extra_time).unwrap_or_default();
                            if end <= Instant::now() {
                                break;
                            }
                            time.as_mut().reset(end);
                        }
                        // The write continues to its end, but its response is lost.
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
                let error =
                    error.take().unwrap_or_else(|| Error::internal("the response future was polled after completion"));
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
        .unwrap_or_else(|| "panic without a message".into());
    Error::internal(format!("panicked: {message}"))
}

impl Edge {
    /// Checks whether a request is admitted. Returns its slot, or `None` for a path in [`ALWAYS_SERVED`].
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
        if ALWAYS_SERVED.contains(&request.uri().path()) {
            return Ok(None);
        }
        let slot = self.load.admit(self.limits.body_timeout)?;
        if !self.lifecycle.has_started() && request.uri().path().starts_with("/v1/") {
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
