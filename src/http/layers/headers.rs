//! Security headers of every response. They protect browsers that open API responses in unintended ways.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::{
    extract::Request,
    http::{HeaderName, HeaderValue, Version, header},
    response::Response,
};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::edge::Edge;

/// Defaults for responses that do not set these headers.
const DEFAULTS: [(HeaderName, HeaderValue); 3] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    // A response is not a page: if a browser opens it as one, it loads nothing and cannot be framed.
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")),
];
/// One year, for this host only: subdomains can belong to other services.
const STRICT_TRANSPORT: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// Layer that adds [`Headers`].
#[derive(Clone, Debug)]
pub struct HeadersLayer(pub Edge);

impl<S> Layer<S> for HeadersLayer {
    type Service = Headers<S>;

    fn layer(&self, inner: S) -> Headers<S> {
        Headers { edge: self.0.clone(), inner }
    }
}

/// Service of [`HeadersLayer`].
#[derive(Clone, Debug)]
pub struct Headers<S> {
    edge: Edge,
    inner: S,
}

impl<S> Service<Request> for Headers<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = HeadersFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        // Responses under /v1 are private and can contain secrets.
        let is_private = request.uri().path().starts_with("/v1/");
        let is_http1 = request.version() < Version::HTTP_2;
        HeadersFuture { future: self.inner.call(request), edge: self.edge.clone(), is_private, is_http1 }
    }
}

pin_project! {
    /// Response future that adds the headers.
    #[derive(Debug)]
    pub struct HeadersFuture<F> {
        #[pin]
        future: F,
        edge: Edge,
        is_private: bool,
        is_http1: bool,
    }
}

impl<F: Future<Output = Result<Response, Infallible>>> Future for HeadersFuture<F> {
    type Output = Result<Response, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Ok(mut response) = ready!(this.future.poll(cx));
        let headers = response.headers_mut();
        for (name, value) in DEFAULTS {
            headers.entry(name).or_insert(value);
        }
        if *this.is_private {
            headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        }
        if this.edge.https {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, STRICT_TRANSPORT);
        }
        // Announces the close, so that clients do not send a request on a connection that is closing. HTTP/2 has a
        // frame for this.
        if *this.is_http1 && this.edge.lifecycle.is_draining() {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Poll::Ready(Ok(response))
    }
}
