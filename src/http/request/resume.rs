//! Position at which a stream resumes: the `Last-Event-ID` header (HTML standard, server-sent events).

use axum::{
    extract::FromRequestParts,
    http::{HeaderName, request::Parts},
};

use super::extract::single_header;
use crate::{
    base::{
        error::{Code, Error, Result},
        id::EventId,
    },
    http::describe::{Argument, Operation},
};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Id of the last event that the client received, if any.
#[derive(Debug)]
pub struct LastEventId(pub Option<EventId>);

impl<S: Send + Sync> FromRequestParts<S> for LastEventId {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        // An EventSource that has received no id may send an empty header (HTML standard).
        let value = single_header(&parts.headers, &LAST_EVENT_ID)?.filter(|value| !value.is_empty());
        let Some(value) = value else { return Ok(Self(None)) };
        let id = value.to_str().ok().and_then(|text| text.parse().ok());
        id.map(|id| Self(Some(id))).ok_or_else(|| {
            Error::new(
                Code::InvalidCursor,
                "The Last-Event-ID is not the id of an event; send the last 'id' of the stream unchanged, or omit the header to start with new events",
            )
        })
    }
}

impl Argument for LastEventId {
    fn describe(operation: &mut Operation) {
        operation.resumable = true;
    }
}
