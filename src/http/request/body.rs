//! Reading of request bodies, with limits on size and time.

use std::{pin::pin, time::Duration};

use axum::{
    body::{Body, Bytes, HttpBody},
    http::request::Parts,
};
use futures_util::future::poll_immediate;
use http_body_util::BodyExt;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    base::{
        error::{Code, Error, Result},
        input::schema::input,
    },
    http::{describe::Operation, layers::concurrency::Slot},
};

/// Maximum size of a body, in bytes.
pub const MAX_BODY: usize = 64 * 1024;
/// Time limit for receiving a body if the request has no own limit.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Body without members: empty, or `{}`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmptyRequest {}

input!(EmptyRequest);

/// Rejects a body on a route that does not accept one. An empty body counts as no body, regardless of its framing
/// (RFC 9112 §6.3): a final chunk only, or an empty DATA frame.
pub async fn reject_unexpected_body(operation: &Operation, head: &Parts, mut body: Body) -> Result<Body> {
    if has_bytes(head, &mut body).await? {
        return Err(Error::new(
            Code::UnexpectedBody,
            format!("{} {} does not accept a body; send the request without one", operation.method, operation.path),
        ));
    }
    Ok(body)
}

/// Returns whether a body has any bytes. Waits for the first bytes, which are lost.
pub(crate) async fn has_bytes(head: &Parts, body: &mut Body) -> Result<bool> {
    if body.size_hint().lower() > 0 {
        return Ok(true);
    }
    let first_byte = async {
        while let Some(frame) = body.frame().await {
            if frame?.into_data().is_ok_and(|data| !data.is_empty()) {
                return Ok(true);
            }
        }
        Ok(false)
    };
    read_with_timeout(head, first_byte).await?.map_err(truncated)
}

/// Waits for a part of the request's body, within the time limit for bodies. Releases the request's slot meanwhile.
async fn read_with_timeout<T>(head: &Parts, reading: impl Future<Output = T>) -> Result<T> {
    let mut reading = pin!(reading);
    // The body has usually arrived with the head.
    if let Some(read) = poll_immediate(reading.as_mut()).await {
        return Ok(read);
    }
    let slot: Option<&Slot> = head.extensions.get();
    let body_timeout = slot.map_or(BODY_TIMEOUT, Slot::body_timeout);
    let reading = tokio::time::timeout(body_timeout, reading);
    let read = match slot {
        Some(slot) => slot.release_during(reading).await?,
        // Health checks have no slot.
        None => reading.await,
    };
    read.map_err(|_| {
        Error::new(
            Code::RequestTimeout,
            format!("The body did not arrive within {} seconds; send the request again", body_timeout.as_secs()),
        )
    })
}

fn truncated(error: axum::Error) -> Error {
    Error::new(Code::MalformedRequest, "The body is truncated; send the request again").caused_by(error)
}

/// Reads a whole body of at most [`MAX_BODY`] bytes.
pub(crate) async fn read_body(head: &Parts, body: Body) -> Result<Bytes> {
    let too_large =
        || Error::new(Code::PayloadTooLarge, format!("The body is larger than {MAX_BODY} bytes; send less"));
    // A body whose announced size is too large is rejected without reading it.
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(too_large());
    }
    match read_with_timeout(head, collect(body)).await? {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(too_large()),
        Err(error) => Err(truncated(error)),
    }
}

/// Collects a body of at most [`MAX_BODY`] bytes. A body that arrives in one piece is not copied.
async fn collect(mut body: Body) -> std::result::Result<Option<Bytes>, axum::Error> {
    let (mut first, mut buffer) = (Bytes::new(), Vec::new());
    while let Some(frame) = body.frame().await {
        // Trailers are ignored.
        let Ok(chunk) = frame?.into_data() else { continue };
        if first.len().max(buffer.len()) + chunk.len() > MAX_BODY {
            return Ok(None);
        }
        if first.is_empty() {
            first = chunk;
            continue;
        }
        if buffer.is_empty() {
            buffer.extend_from_slice(&first);
        }
        buffer.extend_from_slice(&chunk);
    }
    Ok(Some(if buffer.is_empty() { first } else { buffer.into() }))
}
