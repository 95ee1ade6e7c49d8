//! What to do with a request's body that nobody has read when the response is there. A server that closes at once resets
//! the connection, and the client may lose the response (RFC 9112 §9.6): so the rest is read and dropped, up to a bound.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::body::{Body, HttpBody};
use http_body_util::BodyExt;
use hyper::{
    Response, Version,
    body::{Bytes, Frame, Incoming, SizeHint},
    header::{CONNECTION, HeaderValue},
};
use tokio::time::timeout;

use super::progress::Progress;

/// How much of a body is read only to be dropped.
pub(super) const MAX_DISCARDED: u64 = 8 << 20;
/// For how long.
pub(super) const DISCARD_TIME: Duration = Duration::from_secs(2);

type Place = Arc<Mutex<Option<Incoming>>>;

/// A body that was handed to whoever serves the request, and comes back if they drop it before its end.
#[derive(Debug)]
pub(super) struct UnreadBody {
    back: Place,
    /// Whether the client waits to be told to send it (RFC 9110 §10.1.1).
    is_held_back: bool,
}

/// Wraps `body`; gives what is read in its place. None for one that has nothing in it.
pub(super) fn wrap(body: Incoming, is_held_back: bool) -> (Body, Option<UnreadBody>) {
    if body.is_end_stream() {
        return (Body::new(body), None);
    }
    let back = Place::default();
    (Body::new(ReturningBody { body: Some(body), back: Arc::clone(&back) }), Some(UnreadBody { back, is_held_back }))
}

impl UnreadBody {
    /// Drops the rest of the body if there is one, while `response` is sent. One that is too long for that ends the
    /// connection, and the client is told so.
    pub(super) fn discard_rest<B>(self, version: Version, response: &mut Response<B>, progress: &Progress) {
        let Some(body) = self.back.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let is_http1 = version < Version::HTTP_2;
        if is_http1 && (self.is_held_back || body.size_hint().lower() > MAX_DISCARDED) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            return;
        }
        let progress = progress.clone();
        tokio::spawn(async move {
            // hyper ends the connection or the stream when the body is dropped before its end.
            if timeout(DISCARD_TIME, read_and_discard(body)).await.is_ok_and(|is_at_end| is_at_end) && is_http1 {
                progress.request_drained();
            }
        });
    }
}

/// Whether the body came to its end before the bound.
async fn read_and_discard(mut body: Incoming) -> bool {
    let mut dropped = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return false };
        dropped += frame.data_ref().map_or(0, Bytes::len) as u64;
        if dropped > MAX_DISCARDED {
            return false;
        }
    }
    true
}

/// What is read in place of a body.
#[derive(Debug)]
struct ReturningBody {
    body: Option<Incoming>,
    back: Place,
}

impl Drop for ReturningBody {
    fn drop(&mut self) {
        if let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) {
            *self.back.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
        }
    }
}

impl HttpBody for ReturningBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Incoming::size_hint).unwrap_or_default()
    }
}
