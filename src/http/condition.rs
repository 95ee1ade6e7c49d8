//! Conditional requests (RFC 9110 §13): parsing of the headers, and evaluation for reads.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use crate::base::{
    error::Result,
    etag::{Conditions, EntityTag, ReadOutcome},
};

/// Parses the preconditions in `headers`, if any. Dates are ignored, because no response has a `Last-Modified`.
pub fn conditions_of(headers: &HeaderMap) -> Result<Option<Conditions>> {
    let (if_match, if_none_match) = (lines(headers, &header::IF_MATCH), lines(headers, &header::IF_NONE_MATCH));
    if if_match.is_none() && if_none_match.is_none() {
        return Ok(None);
    }
    Conditions::parse(if_match.as_deref(), if_none_match.as_deref()).map(Some)
}

/// Joins the lines of a list header into one list (RFC 9110 §5.3).
fn lines(headers: &HeaderMap, name: &HeaderName) -> Option<Vec<u8>> {
    let lines: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    (!lines.is_empty()).then(|| lines.join(&b','))
}

/// Applies the preconditions of a read to its unconditional `response`.
pub fn apply(conditions: &Conditions, mut response: Response) -> Response {
    let tag = response.headers().get(header::ETAG).and_then(|tag| EntityTag::parse(tag.as_bytes()));
    let (StatusCode::OK, Some(tag)) = (response.status(), tag) else { return response };
    match conditions.check_read(&tag) {
        Ok(ReadOutcome::Send) => response,
        Ok(ReadOutcome::NotModified) => {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            *response.body_mut() = Body::empty();
            response.headers_mut().remove(header::CONTENT_TYPE);
            response.headers_mut().remove(header::CONTENT_LENGTH);
            response
        }
        Err(error) => error.into_response(),
    }
}
