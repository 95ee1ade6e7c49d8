//! The outermost layer: assigns the request ID, counts the request, writes its log line, and renders errors as
//! problems.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use axum::{
    extract::{ConnectInfo, Request},
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    response::Response,
};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::{journal::slot::CounterKey, meter::Meter};
use crate::{
    audit::denial_counts::DenialCounts,
    auth::console::ConsoleRequest,
    base::{
        identity::secret::Secret,
        input::net::{Cidr, client_address},
        runtime::{
            clock::Clock,
            request::{DisconnectGuard, RequestContext},
            trace::TraceContext,
        },
    },
    http::{
        PublicUrl,
        layers::edge::ALWAYS_SERVED,
        response::problem::{self, ResponseError},
    },
    metrics::requests::{NO_ROUTE, RequestInFlight, Requests, method_name},
};

const X_FORWARDED_FOR: &str = "x-forwarded-for";
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const MAX_USER_AGENT: usize = 1024;
/// Number of requests per second that are all logged. Beyond it, one in [`SAMPLE_RATE`] is logged, and every server
/// error.
const LOGGED_PER_SECOND: u32 = 100;
const SAMPLE_RATE: u32 = 100;

/// The layer.
#[derive(Clone, Debug)]
pub struct RecordLayer(Arc<Recorder>);

/// What the layer counts in, and what it needs to know.
#[derive(Debug)]
pub struct RecordParts {
    /// Clock.
    pub clock: Clock,
    /// Counts requests for usage.
    pub meter: Arc<Meter>,
    /// Metrics of requests and responses.
    pub requests: Arc<Requests>,
    /// Counts denied requests for the audit trail.
    pub denials: Arc<DenialCounts>,
    /// URL where clients reach this server.
    pub public_url: PublicUrl,
    /// Proxies whose forwarded client address is trusted.
    pub trusted_proxies: Vec<Cidr>,
}

/// State that all requests share.
#[derive(Debug)]
struct Recorder {
    parts: RecordParts,
    sampler: Sampler,
}

impl RecordLayer {
    /// Creates the layer.
    pub fn new(parts: RecordParts) -> Self {
        Self(Arc::new(Recorder { parts, sampler: Sampler::new() }))
    }
}

impl<S> Layer<S> for RecordLayer {
    type Service = RecordService<S>;

    fn layer(&self, inner: S) -> RecordService<S> {
        RecordService { recorder: Arc::clone(&self.0), inner }
    }
}

/// Service of [`RecordLayer`].
#[derive(Clone, Debug)]
pub struct RecordService<S> {
    recorder: Arc<Recorder>,
    inner: S,
}

impl<S> Service<Request> for RecordService<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = RecordFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let started = Instant::now();
        let context = RequestContext::new(self.recorder.client_ip(&request), user_agent(&request));
        let is_console = request.extensions().get::<ConsoleRequest>().is_some();
        let context = Arc::new(context.with_trace(trace_context(&request)).with_console(is_console));
        request.extensions_mut().insert(Arc::clone(&context));
        let awaited = DisconnectGuard::new(&context);
        let method = request.method().clone();
        let client_request_id = client_request_id(&request);
        let in_flight = self.recorder.parts.requests.start();
        let response = self.inner.call(request);
        let recorder = Arc::clone(&self.recorder);
        RecordFuture { response, recorder, context, awaited, in_flight, method, client_request_id, started }
    }
}

pin_project! {
    /// Response future that records the response.
    #[derive(Debug)]
    pub struct RecordFuture<F> {
        #[pin]
        response: F,
        recorder: Arc<Recorder>,
        context: Arc<RequestContext>,
        // Dropped with the other fields: when the response is ready, or when the client has disconnected.
        awaited: DisconnectGuard,
        in_flight: RequestInFlight,
        method: Method,
        client_request_id: Option<String>,
        started: Instant,
    }
}

impl<F: Future<Output = Result<Response, Infallible>>> Future for RecordFuture<F> {
    type Output = Result<Response, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Ok(mut response) = ready!(this.response.poll(cx));
        problem::render(&mut response, this.context.id, &this.recorder.parts.public_url);
        if let Ok(id) = HeaderValue::try_from(this.context.id.to_string()) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        let (status, elapsed) = (response.status(), this.started.elapsed());
        let code = response.extensions().get::<ResponseError>().map(|ResponseError(error)| error.code());
        this.in_flight.finish(this.context.route.get(), this.method, status, code, elapsed);
        this.recorder.count(this.context, this.method, status);
        this.recorder.count_denial(this.context, this.method, &response);
        this.recorder.log(this.context, this.method, this.client_request_id.as_deref(), &response, elapsed);
        Poll::Ready(Ok(response))
    }
}

impl Recorder {
    /// Returns the address of the client that sent `request`.
    fn client_ip(&self, request: &Request) -> Option<IpAddr> {
        let ConnectInfo(peer) = request.extensions().get::<ConnectInfo<SocketAddr>>()?;
        if self.parts.trusted_proxies.is_empty() {
            return Some(peer.ip().to_canonical());
        }
        // Several lines of a list header are one list (RFC 9110 §5.3). Invalid bytes in a line are the client's; the
        // proxy's addition to that line is still valid.
        let lines = request.headers().get_all(X_FORWARDED_FOR).iter();
        let forwarded: Vec<_> = lines.map(|line| String::from_utf8_lossy(line.as_bytes())).collect();
        Some(client_address(*peer, &forwarded.join(","), &self.parts.trusted_proxies))
    }

    fn count(&self, context: &RequestContext, method: &Method, status: StatusCode) {
        let is_counted = method != Method::OPTIONS
            && status != StatusCode::UNAUTHORIZED
            && status != StatusCode::TOO_MANY_REQUESTS
            && !status.is_server_error();
        let (true, Some(caller)) = (is_counted, context.caller.get()) else { return };
        let Some(route) = context.route.get() else { return };
        let now = self.parts.clock.now();
        let counter = CounterKey {
            // The console's requests are not the project's usage. They are counted to know when the session was used.
            project: context.project.get().copied().filter(|_| !context.is_console),
            credential: caller.credential_id(),
            route: route.number,
            day: now.date(),
        };
        self.parts.meter.count(&counter, now);
    }

    /// Counts a denied request for the audit trail.
    fn count_denial(&self, context: &RequestContext, method: &Method, response: &Response) {
        if let StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN = response.status()
            && let Some(ResponseError(error)) = response.extensions().get()
        {
            self.parts.denials.count(context, method_name(method), error.code());
        }
    }

    fn log(
        &self,
        context: &RequestContext,
        method: &Method,
        client_request_id: Option<&str>,
        response: &Response,
        elapsed: Duration,
    ) {
        let status = response.status();
        let failure = response.extensions().get::<ResponseError>();
        let severity = Severity::from_status(status);
        if !self.sampler.should_log() && severity != Severity::ServerError {
            return;
        }
        let cause = failure.and_then(|ResponseError(error)| error.cause());
        macro_rules! line {
            ($level:expr) => {
                tracing::event!(
                    target: "cloudapi::request",
                    $level,
                    request_id = %context.id,
                    trace_id = %context.trace.trace_id(),
                    client_request_id,
                    method = method_name(method),
                    route = context.route.get().map_or(NO_ROUTE, |route| route.template),
                    status = status.as_u16(),
                    code = failure.map(|ResponseError(error)| error.code().as_str()),
                    cause = cause.map(tracing::field::display),
                    project_id = context.project.get().map(tracing::field::display),
                    credential_id = context.caller.get().map(|caller| tracing::field::display(caller.credential_id())),
                    client = context.client.map(tracing::field::display),
                    duration_ms = elapsed.as_secs_f64() * 1e3,
                    "request completed"
                )
            };
        }
        // Load balancers send probes every few seconds. Changes of their results are logged elsewhere.
        let is_probe = context.route.get().is_some_and(|route| ALWAYS_SERVED.contains(&route.template));
        match (severity, failure) {
            (_, None) if is_probe => line!(tracing::Level::DEBUG),
            (Severity::ServerError, _) | (Severity::Unavailable, Some(_)) => line!(tracing::Level::ERROR),
            (Severity::Unavailable, None) => line!(tracing::Level::WARN),
            (Severity::Normal, _) => line!(tracing::Level::INFO),
        }
    }
}

/// Severity of a response in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Severity {
    /// A server error of CloudAPI.
    ServerError,
    /// The request could not be served now: the server is overloaded, is stopping, or waits for its database. A flood
    /// causes many of these.
    Unavailable,
    /// Everything else.
    Normal,
}

impl Severity {
    fn from_status(status: StatusCode) -> Self {
        match status {
            StatusCode::SERVICE_UNAVAILABLE => Self::Unavailable,
            status if status.is_server_error() => Self::ServerError,
            _ => Self::Normal,
        }
    }
}

/// Returns the client's trace if its `traceparent` is valid and occurs once. Otherwise a new trace.
fn trace_context(request: &Request) -> TraceContext {
    let mut values = request.headers().get_all(TRACEPARENT).iter();
    let only = values.next().filter(|_| values.next().is_none());
    only.and_then(|text| TraceContext::child_of(text.to_str().ok()?)).unwrap_or_else(TraceContext::new_root)
}

/// Returns the client's `User-Agent`, unless it is too long.
fn user_agent(request: &Request) -> Option<Box<str>> {
    let value = request.headers().get(header::USER_AGENT).filter(|value| value.len() <= MAX_USER_AGENT)?;
    Some(String::from_utf8_lossy(value.as_bytes()).into())
}

/// Returns the client's request ID, which is only logged, if it is safe to log.
fn client_request_id(request: &Request) -> Option<String> {
    let text = request.headers().get(REQUEST_ID)?.to_str().ok()?;
    let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    // A client that confuses headers may have sent a secret.
    let is_secret = || Secret::parse(text).is_some();
    (is_plain && (1..=64).contains(&text.len()) && !is_secret()).then(|| text.to_owned())
}

/// Samples requests for the log, so that a flood does not fill it or cost more than the requests.
#[derive(Debug)]
struct Sampler {
    started: Instant,
    second: AtomicU64,
    count: AtomicU32,
}

impl Sampler {
    fn new() -> Self {
        Self { started: Instant::now(), second: AtomicU64::new(0), count: AtomicU32::new(0) }
    }

    fn should_log(&self) -> bool {
        let second = self.started.elapsed().as_secs();
        // Two threads at the change of a second may both reset, which adds a few lines.
        if self.second.swap(second, Ordering::Relaxed) != second {
            self.count.store(0, Ordering::Relaxed);
        }
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        count < LOGGED_PER_SECOND || count.is_multiple_of(SAMPLE_RATE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_hundred_requests_per_second_are_logged_then_one_in_a_hundred() {
        let sampler = Sampler::new();
        let logged = (0..1000).filter(|_| sampler.should_log()).count();
        // Usually all within one second. Each new second starts again.
        let seconds = usize::try_from(sampler.started.elapsed().as_secs()).unwrap();
        assert!((109..=109 * (seconds + 1)).contains(&logged), "{logged}");
    }
}
