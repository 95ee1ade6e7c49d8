//! Conditional requests (RFC 9110 §13): parsing of the headers, and evaluation for reads.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use crate::base::{
    error::Result,
    etag::{EntityTag, Preconditions, ReadOutcome},
};

/// Parses the preconditions in `headers`, if any. Dates are ignored, because no response has a `Last-Modified`.
pub fn preconditions_of(headers: &HeaderMap) -> Result<Option<Preconditions>> {
    let (if_match, if_none_match) = (lines(headers, &header::IF_MATCH), lines(headers, &header::IF_NONE_MATCH));
    if if_match.is_none() && if_none_match.is_none() {
        return Ok(None);
    }
    Preconditions::parse(if_match.as_deref(), if_none_match.as_deref()).map(Some)
}

/// Joins the lines of a list header into one list (RFC 9110 §5.3).
fn lines(headers: &HeaderMap, name: &HeaderName) -> Option<Vec<u8>> {
    let lines: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    (!lines.is_empty()).then(|| lines.join(&b','))
}

/// Entity tag of the same content in the other encoding; attached to a response that exists in two encodings.
#[derive(Clone, Debug)]
pub struct AlternateTag(pub EntityTag);

/// Applies the preconditions of a read to its unconditional `response`.
pub fn apply(preconditions: &Preconditions, mut response: Response) -> Response {
    let tag = response.headers().get(header::ETAG).and_then(|tag| EntityTag::parse(tag.as_bytes()));
    let (StatusCode::OK, Some(tag)) = (response.status(), tag) else { return response };
    let mut outcome = preconditions.check_read(&tag);
    if !matches!(outcome, Ok(ReadOutcome::NotModified))
        && let Some(AlternateTag(other)) = response.extensions_mut().remove()
    {
        match preconditions.check_read(&other) {
            Ok(ReadOutcome::NotModified) => {
                // A cache finds its copy by the tag that it sent.
                if let Ok(other) = HeaderValue::from_str(&other.to_string()) {
                    response.headers_mut().insert(header::ETAG, other);
                }
                outcome = Ok(ReadOutcome::NotModified);
            }
            of_other => outcome = outcome.or(of_other),
        }
    }
    match outcome {
        Ok(ReadOutcome::Send) => response,
        Ok(ReadOutcome::NotModified) => {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            *response.body_mut() = Body::empty();
            for name in [header::CONTENT_TYPE, header::CONTENT_LENGTH, header::CONTENT_ENCODING] {
                response.headers_mut().remove(name);
            }
            response
        }
        Err(error) => error.into_response(),
    }
}
