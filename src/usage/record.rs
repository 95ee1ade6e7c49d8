//! The outermost layer: gives each request its id, counts it, writes its one log line, and turns a
//! failure into the problem that tells of it.

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
/// So many requests in a second are all logged; of the rest, one in [`SAMPLE`] is, and every fault.
const LOGGED_PER_SECOND: u32 = 100;
const SAMPLE: u32 = 100;

/// The layer.
#[derive(Clone, Debug)]
pub struct RecordLayer(Arc<Recorder>);

/// What all requests share.
#[derive(Debug)]
pub struct Recorder {
    app: App,
    sampler: Sampler,
}

impl RecordLayer {
    /// The layer of `app`.
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

/// The service that [`RecordLayer`] makes.
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
    /// An answer on its way, which is recorded when it is there.
    #[derive(Debug)]
    pub struct Recording<F> {
        #[pin]
        answer: F,
        recorder: Arc<Recorder>,
        context: Arc<RequestContext>,
        // Dropped with the rest: when the answer is there, and when the client has gone.
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
    /// The address of the client that sent `request`.
    fn client_of(&self, request: &Request) -> Option<IpAddr> {
        let ConnectInfo(peer) = request.extensions().get::<ConnectInfo<SocketAddr>>()?;
        if self.app.trusted_proxies.is_empty() {
            return Some(peer.ip().to_canonical());
        }
        // Several lines of a list header are one list (RFC 9110 §5.3). What is no text in a line is the
        // client's; what the proxy has added to that line counts all the same.
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

    /// Counts a refusal for the audit trail.
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
                    "answered"
                )
            };
        }
        // Probes come every few seconds from each load balancer. What they find out is logged when it changes.
        let is_probe = context.route.get().is_some_and(|route| ALWAYS.contains(&route.template));
        match (severity, failure) {
            (_, None) if is_probe => line!(tracing::Level::DEBUG),
            (Severity::Fault, _) | (Severity::Refusal, Some(_)) => line!(tracing::Level::ERROR),
            (Severity::Refusal, None) => line!(tracing::Level::WARN),
            (Severity::Ordinary, _) => line!(tracing::Level::INFO),
        }
    }
}

/// How much an answer matters to whoever reads the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Severity {
    /// Something of ours is broken.
    Fault,
    /// It could not be served now: the server is full, is stopping, or waits for its database. A flood
    /// brings as many of these as it has requests.
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

/// The trace that the client continues, if it names one as the standard has it: once, and valid. Else one begins.
fn trace_of(request: &Request) -> TraceContext {
    let mut given = request.headers().get_all(TRACEPARENT).iter();
    let only = given.next().filter(|_| given.next().is_none());
    only.and_then(|text| TraceContext::following(text.to_str().ok()?)).unwrap_or_else(TraceContext::begin)
}

/// What the client says that it is; none if it says a great deal.
fn user_agent(request: &Request) -> Option<Box<str>> {
    let value = request.headers().get(header::USER_AGENT).filter(|value| value.len() <= MAX_USER_AGENT)?;
    Some(String::from_utf8_lossy(value.as_bytes()).into())
}

/// The client's own name for its request, for the log alone, if it is one that cannot do harm there.
fn client_request_id(request: &Request) -> Option<String> {
    let text = request.headers().get(REQUEST_ID)?.to_str().ok()?;
    let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    // Somebody who mixes up headers has not meant to publish it.
    let is_secret = || Secret::parse(text).is_some();
    (is_plain && (1..=64).contains(&text.len()) && !is_secret()).then(|| text.to_owned())
}

/// Decides which requests are logged, so that a flood does not drown the log or cost more than it.
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
        // Two threads at a second's turn may both reset; that costs a few lines more.
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
    fn the_first_hundred_of_a_second_are_logged_and_then_one_in_a_hundred() {
        let sampler = Sampler::new();
        let logged = (0..1000).filter(|_| sampler.admits()).count();
        // All within one second, as a rule; at each turn of one they begin anew.
        let turns = usize::try_from(sampler.began.elapsed().as_secs()).unwrap();
        assert!((109..=109 * (turns + 1)).contains(&logged), "{logged}");
    }
}
