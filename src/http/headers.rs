//! Headers that every answer has, for browsers that meet the API in ways nobody meant.

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

/// On every answer that does not say otherwise itself.
const DEFAULTS: [(HeaderName, HeaderValue); 3] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    // An answer is no page: should one be opened as such, it loads nothing and is framed by nobody.
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")),
];
/// A year, and this host alone: what else runs under its domain is not ours to decide.
const STRICT_TRANSPORT: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// The layer.
#[derive(Clone, Debug)]
pub struct HeadersLayer(pub Edge);

impl<S> Layer<S> for HeadersLayer {
    type Service = Headers<S>;

    fn layer(&self, inner: S) -> Headers<S> {
        Headers { edge: self.0.clone(), inner }
    }
}

/// The service that [`HeadersLayer`] makes.
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
    type Future = Adding<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        // What is under /v1 is somebody's own, and may be secret.
        let is_private = request.uri().path().starts_with("/v1/");
        let is_http1 = request.version() < Version::HTTP_2;
        Adding { answer: self.inner.call(request), edge: self.edge.clone(), is_private, is_http1 }
    }
}

pin_project! {
    /// An answer on its way, to which the headers are added.
    #[derive(Debug)]
    pub struct Adding<F> {
        #[pin]
        answer: F,
        edge: Edge,
        is_private: bool,
        is_http1: bool,
    }
}

impl<F: Future<Output = Result<Response, Infallible>>> Future for Adding<F> {
    type Output = Result<Response, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Ok(mut response) = ready!(this.answer.poll(cx));
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
        // Clients that are told beforehand do not run into a connection that is just closing. HTTP/2 has
        // a frame for that.
        if *this.is_http1 && this.edge.lifecycle.is_draining() {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Poll::Ready(Ok(response))
    }
}
