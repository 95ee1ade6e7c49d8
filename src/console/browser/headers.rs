//! Headers of every page.

use axum::{
    http::{HeaderName, HeaderValue, header},
    response::Response,
};

use crate::console::pages::Page;

const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// Adds the headers. A page loads only files of this server, is not framed, not stored, and shares nothing with pages of
/// other sites.
pub fn add(mut response: Response, page: Option<&Page>) -> Response {
    // With `no-referrer`, browsers send no origin with a form either. Pages whose URL can have a secret need it.
    let referrer = if page.is_some_and(|page| page.has_secret_url) { "no-referrer" } else { "same-origin" };
    let fixed: [(HeaderName, &'static str); 8] = [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, referrer),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    ];
    for (name, value) in fixed {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response.headers_mut().append(header::VARY, HeaderValue::from_static("cookie"));
    response
}
