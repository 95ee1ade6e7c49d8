//! Cross-origin requests: which web pages' scripts may call the API (the Fetch standard). None, unless
//! the operator names some.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::http::{HeaderName, HeaderValue, Method, Request, header};
use futures_util::future::Either;
use tower::{Layer, Service};
use tower_http::cors::{self, AllowOrigin, CorsLayer};

/// Headers that scripts may send.
const ALLOWED: [HeaderName; 8] = [
    header::AUTHORIZATION,
    header::CONTENT_TYPE,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("last-event-id"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("x-request-id"),
];
/// Headers that scripts may read.
const EXPOSED: [HeaderName; 10] = [
    HeaderName::from_static("x-request-id"),
    header::ALLOW,
    header::ETAG,
    header::LOCATION,
    header::RETRY_AFTER,
    header::WWW_AUTHENTICATE,
    HeaderName::from_static("ratelimit"),
    HeaderName::from_static("ratelimit-policy"),
    HeaderName::from_static("idempotent-replayed"),
    HeaderName::from_static("usage-as-of"),
];
/// How long a browser may remember what it was allowed: an origin taken away is out by then.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// The layer. Without origins it does nothing.
#[derive(Clone, Debug, Default)]
pub struct Cors(Option<Arc<CorsLayer>>);

impl Cors {
    /// For these origins. Credentials of the browser's own, such as cookies, are never asked for: the
    /// API takes none.
    pub fn new(origins: Vec<HeaderValue>) -> Self {
        if origins.is_empty() {
            return Self(None);
        }
        let layer = CorsLayer::new()
            .allow_origin(AllowOrigin::list(origins))
            .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::PATCH, Method::DELETE])
            .allow_headers(ALLOWED)
            .expose_headers(EXPOSED)
            .max_age(REMEMBERED);
        Self(Some(Arc::new(layer)))
    }
}

impl<S: Clone> Layer<S> for Cors {
    type Service = WithCors<S>;

    fn layer(&self, inner: S) -> WithCors<S> {
        WithCors { cors: self.0.as_ref().map(|layer| layer.layer(inner.clone())), inner }
    }
}

/// The service that [`Cors`] makes.
#[derive(Clone, Debug)]
pub struct WithCors<S> {
    cors: Option<cors::Cors<S>>,
    inner: S,
}

impl<S, B, R> Service<Request<B>> for WithCors<S>
where
    S: Service<Request<B>, Response = axum::http::Response<R>>,
    R: Default,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<cors::ResponseFuture<S::Future>, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        // It is the same service twice, so both are asked.
        if let Some(cors) = &mut self.cors {
            ready!(cors.poll_ready(cx))?;
        }
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match &mut self.cors {
            Some(cors) if !is_plain_options(&request) => Either::Left(cors.call(request)),
            _ => Either::Right(self.inner.call(request)),
        }
    }
}

/// An OPTIONS that is no preflight, which is ours to answer: tower-http takes every one for itself.
fn is_plain_options<B>(request: &Request<B>) -> bool {
    request.method() == Method::OPTIONS && !request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}
