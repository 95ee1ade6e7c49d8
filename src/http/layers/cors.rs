//! Cross-origin requests (Fetch standard). Scripts of web pages cannot call the API unless the operator allows their
//! origin.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::http::{HeaderName, HeaderValue, Method, Request, header};
use futures_util::future::Either;
use tower::{Layer, Service};
use tower_http::cors::{self, AllowOrigin, CorsLayer};

/// Request headers that scripts may send.
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
/// Response headers that scripts may read.
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
/// Time for which a browser may cache a preflight response. A removed origin loses access after that time at the
/// latest.
const MAX_AGE: Duration = Duration::from_secs(3600);

/// CORS layer. Without origins, it does nothing.
#[derive(Clone, Debug, Default)]
pub struct Cors(Option<Arc<CorsLayer>>);

impl Cors {
    /// Creates the layer for these origins. Browser credentials, such as cookies, are not allowed, because the API does
    /// not use them.
    pub fn new(origins: Vec<HeaderValue>) -> Self {
        if origins.is_empty() {
            return Self(None);
        }
        let layer = CorsLayer::new()
            .allow_origin(AllowOrigin::list(origins))
            .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::PATCH, Method::DELETE])
            .allow_headers(ALLOWED)
            .expose_headers(EXPOSED)
            .max_age(MAX_AGE);
        Self(Some(Arc::new(layer)))
    }
}

impl<S: Clone> Layer<S> for Cors {
    type Service = CorsService<S>;

    fn layer(&self, inner: S) -> CorsService<S> {
        CorsService { cors: self.0.as_ref().map(|layer| layer.layer(inner.clone())), inner }
    }
}

/// Service of [`Cors`].
#[derive(Clone, Debug)]
pub struct CorsService<S> {
    cors: Option<cors::Cors<S>>,
    inner: S,
}

impl<S, B, R> Service<Request<B>> for CorsService<S>
where
    S: Service<Request<B>, Response = axum::http::Response<R>>,
    R: Default,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<cors::ResponseFuture<S::Future>, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        // `cors` wraps a clone of `inner`, so both must be ready.
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

/// Returns whether an OPTIONS request is not a preflight. The route responds to it, while tower-http would respond to
/// every OPTIONS request.
fn is_plain_options<B>(request: &Request<B>) -> bool {
    request.method() == Method::OPTIONS && !request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}
