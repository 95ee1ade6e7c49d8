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

use super::journal::slot::Counted;
use crate::{
    base::{
        net::client_address,
        request::{Awaited, RequestContext},
        secret::Secret,
        trace::TraceContext,
    },
    http::{
        edge::ALWAYS,
        problem::{self, Failure},
    },
    metrics::requests::{NO_ROUTE, UnderWay, method_name},
    state::App,
};

const FORWARDED_FOR: &str = "x-forwarded-for";
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const MAX_USER_AGENT: usize = 1024;
/// Number of requests per second that are all logged. Beyond it, one in [`SAMPLE`] is logged, and every fault.
const LOGGED_PER_SECOND: u32 = 100;
const SAMPLE: u32 = 100;

/// The layer.
#[derive(Clone, Debug)]
pub struct RecordLayer(Arc<Recorder>);

/// State that all requests share.
#[derive(Debug)]
pub struct Recorder {
    app: App,
    sampler: Sampler,
}

impl RecordLayer {
    /// Creates the layer for `app`.
    pub fn new(app: &App) -> Self {
        Self(Arc::new(Recorder { app: app.clone(), sampler: Sampler::new() }))
    }
}

impl<S> Layer<S> for RecordLayer {
    type Service = Record<S>;

    fn layer(&self, inner: S) -> Record<S> {
        Record { recorder: Arc::clone(&self.0), inner }
    }
}

/// Service of [`RecordLayer`].
#[derive(Clone, Debug)]
pub struct Record<S> {
    recorder: Arc<Recorder>,
    inner: S,
}

impl<S> Service<Request> for Record<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Recording<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let started = Instant::now();
        let context = RequestContext::new(self.recorder.client_of(&request), user_agent(&request));
        let context = Arc::new(context.in_trace(trace_of(&request)));
        request.extensions_mut().insert(Arc::clone(&context));
        let awaited = Awaited::by_client(&context);
        let method = request.method().clone();
        let client_request_id = client_request_id(&request);
        let under_way = self.recorder.app.requests.began();
        let answer = self.inner.call(request);
        let recorder = Arc::clone(&self.recorder);
        Recording { answer, recorder, context, awaited, under_way, method, client_request_id, started }
    }
}

pin_project! {
    /// Response future that records the response.
    #[derive(Debug)]
    pub struct Recording<F> {
        #[pin]
        answer: F,
        recorder: Arc<Recorder>,
        context: Arc<RequestContext>,
        // Dropped with the other fields: when the response is ready, or when the client has disconnected.
        awaited: Awaited,
        under_way: UnderWay,
        method: Method,
        client_request_id: Option<String>,
        started: Instant,
    }
}

impl<F: Future<Output = Result<Response, Infallible>>> Future for Recording<F> {
    type Output = Result<Response, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Ok(mut response) = ready!(this.answer.poll(cx));
        problem::render(&mut response, this.context.id, &this.recorder.app.public_url);
        if let Ok(id) = HeaderValue::try_from(this.context.id.to_string()) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        let (status, took) = (response.status(), this.started.elapsed());
        let code = response.extensions().get::<Failure>().map(|Failure(error)| error.code());
        this.under_way.answered(this.context.route.get(), this.method, status, code, took);
        this.recorder.count(this.context, this.method, status);
        this.recorder.tally(this.context, this.method, &response);
        this.recorder.log(this.context, this.method, this.client_request_id.as_deref(), &response, took);
        Poll::Ready(Ok(response))
    }
}

impl Recorder {
    /// Returns the address of the client that sent `request`.
    fn client_of(&self, request: &Request) -> Option<IpAddr> {
        let ConnectInfo(peer) = request.extensions().get::<ConnectInfo<SocketAddr>>()?;
        if self.app.trusted_proxies.is_empty() {
            return Some(peer.ip().to_canonical());
        }
        // Several lines of a list header are one list (RFC 9110 §5.3). Invalid bytes in a line are the client's; the
        // proxy's addition to that line is still valid.
        let lines = request.headers().get_all(FORWARDED_FOR).iter();
        let forwarded: Vec<_> = lines.map(|line| String::from_utf8_lossy(line.as_bytes())).collect();
        Some(client_address(*peer, &forwarded.join(","), &self.app.trusted_proxies))
    }

    fn count(&self, context: &RequestContext, method: &Method, status: StatusCode) {
        let counted = method != Method::OPTIONS
            && status != StatusCode::UNAUTHORIZED
            && status != StatusCode::TOO_MANY_REQUESTS
            && !status.is_server_error();
        let (true, Some(caller)) = (counted, context.caller.get()) else { return };
        let Some(route) = context.route.get() else { return };
        let now = self.app.clock.now();
        let counted = Counted {
            project: context.project.get().copied(),
            credential: caller.credential_id(),
            route: route.number,
            day: now.date(),
        };
        self.app.meter.count(&counted, now);
    }

    /// Counts a denied request for the audit trail.
    fn tally(&self, context: &RequestContext, method: &Method, response: &Response) {
        if let StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN = response.status()
            && let Some(Failure(error)) = response.extensions().get()
        {
            self.app.refusals.count(context, method_name(method), error.code());
        }
    }

    fn log(
        &self,
        context: &RequestContext,
        method: &Method,
        client_request_id: Option<&str>,
        response: &Response,
        took: Duration,
    ) {
        let status = response.status();
        let failure = response.extensions().get::<Failure>();
        let severity = Severity::of(status);
        if !self.sampler.admits() && severity != Severity::Fault {
            return;
        }
        let cause = failure.and_then(|Failure(error)| error.cause());
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
                    code = failure.map(|Failure(error)| error.code().as_str()),
                    cause = cause.map(tracing::field::display),
                    project_id = context.project.get().map(tracing::field::display),
                    credential_id = context.caller.get().map(|caller| tracing::field::display(caller.credential_id())),
                    client = context.client.map(tracing::field::display),
                    duration_ms = took.as_secs_f64() * 1e3,
                    "request completed"
                )
            };
        }
        // Load balancers send probes every few seconds. Changes of their results are logged elsewhere.
        let is_probe = context.route.get().is_some_and(|route| ALWAYS.contains(&route.template));
        match (severity, failure) {
            (_, None) if is_probe => line!(tracing::Level::DEBUG),
            (Severity::Fault, _) | (Severity::Refusal, Some(_)) => line!(tracing::Level::ERROR),
            (Severity::Refusal, None) => line!(tracing::Level::WARN),
            (Severity::Ordinary, _) => line!(tracing::Level::INFO),
        }
    }
}

/// Severity of a response in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Severity {
    /// A fault of CloudAPI.
    Fault,
    /// The request could not be served now: the server is overloaded, is stopping, or waits for its database. A flood
    /// causes many of these.
    Refusal,
    /// Everything else.
    Ordinary,
}

impl Severity {
    fn of(status: StatusCode) -> Self {
        match status {
            StatusCode::SERVICE_UNAVAILABLE => Self::Refusal,
            status if status.is_server_error() => Self::Fault,
            _ => Self::Ordinary,
        }
    }
}

/// Returns the client's trace if its `traceparent` is valid and occurs once. Otherwise a new trace.
fn trace_of(request: &Request) -> TraceContext {
    let mut given = request.headers().get_all(TRACEPARENT).iter();
    let only = given.next().filter(|_| given.next().is_none());
    only.and_then(|text| TraceContext::following(text.to_str().ok()?)).unwrap_or_else(TraceContext::begin)
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
    began: Instant,
    second: AtomicU64,
    seen: AtomicU32,
}

impl Sampler {
    fn new() -> Self {
        Self { began: Instant::now(), second: AtomicU64::new(0), seen: AtomicU32::new(0) }
    }

    fn admits(&self) -> bool {
        let second = self.began.elapsed().as_secs();
        // Two threads at the change of a second may both reset, which adds a few lines.
        if self.second.swap(second, Ordering::Relaxed) != second {
            self.seen.store(0, Ordering::Relaxed);
        }
        let seen = self.seen.fetch_add(1, Ordering::Relaxed);
        seen < LOGGED_PER_SECOND || seen.is_multiple_of(SAMPLE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_hundred_requests_per_second_are_logged_then_one_in_a_hundred() {
        let sampler = Sampler::new();
        let logged = (0..1000).filter(|_| sampler.admits()).count();
        // Usually all within one second. Each new second starts again.
        let turns = usize::try_from(sampler.began.elapsed().as_secs()).unwrap();
        assert!((109..=109 * (turns + 1)).contains(&logged), "{logged}");
    }
}
