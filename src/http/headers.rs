//! Headers that every answer has, for browsers that meet the API in ways nobody meant.

use axum::{
    extract::{Request, State},
    http::{HeaderName, HeaderValue, Version, header},
    middleware::Next,
    response::Response,
};

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

/// The middleware.
pub async fn add(State(edge): State<Edge>, request: Request, next: Next) -> Response {
    // What is under /v1 is somebody's own, and may be secret.
    let is_private = request.uri().path().starts_with("/v1/");
    let is_http1 = request.version() < Version::HTTP_2;
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in DEFAULTS {
        headers.entry(name).or_insert(value);
    }
    if is_private {
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    }
    if edge.https {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, STRICT_TRANSPORT);
    }
    // Clients that are told beforehand do not run into a connection that is just closing. HTTP/2 has
    // a frame for that.
    if is_http1 && edge.lifecycle.is_draining() {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
