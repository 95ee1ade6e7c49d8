//! Handles request bodies that are not read completely when the response is ready. Closing immediately would reset the
//! connection, and the client could lose the response (RFC 9112 §9.6), so the rest is read and dropped, up to a bound.

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

/// Maximum number of discarded bytes of a body.
pub(crate) const MAX_DISCARDED: u64 = 8 << 20;
/// Time limit for discarding.
pub(crate) const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);

type SharedBody = Arc<Mutex<Option<Incoming>>>;

/// Handle of a body that the request's handler reads. The body comes back if the handler drops it before its end.
#[derive(Debug)]
pub(crate) struct UnreadBody {
    back: SharedBody,
    /// Whether the client waits for 100 Continue before it sends the body (RFC 9110 §10.1.1).
    expects_continue: bool,
}

/// Wraps `body`, and returns the body to read instead. There is no handle for an empty body.
pub(crate) fn wrap(body: Incoming, expects_continue: bool) -> (Body, Option<UnreadBody>) {
    if body.is_end_stream() {
        return (Body::new(body), None);
    }
    let back = SharedBody::default();
    (
        Body::new(ReturningBody { body: Some(body), back: Arc::clone(&back) }),
        Some(UnreadBody { back, expects_continue }),
    )
}

impl UnreadBody {
    /// Discards the rest of the body, if any, while `response` is sent. If the rest is too long, the response announces
    /// that the connection closes.
    pub(crate) fn discard_rest<B>(self, version: Version, response: &mut Response<B>, progress: &Progress) {
        let Some(body) = self.back.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let is_http1 = version < Version::HTTP_2;
        if is_http1 && (self.expects_continue || body.size_hint().lower() > MAX_DISCARDED) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            return;
        }
        let progress = progress.clone();
        tokio::spawn(async move {
            // hyper ends the connection or the stream when the body is dropped before its end.
            if timeout(DISCARD_TIMEOUT, read_and_discard(body)).await.is_ok_and(|is_at_end| is_at_end) && is_http1 {
                progress.finish_draining();
            }
        });
    }
}

/// Reports whether the body ended before the bound.
async fn read_and_discard(mut body: Incoming) -> bool {
    let mut discarded = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return false };
        discarded += frame.data_ref().map_or(0, Bytes::len) as u64;
        if discarded > MAX_DISCARDED {
            return false;
        }
    }
    true
}

/// Body that handlers read, and that returns the inner body when it is dropped.
#[derive(Debug)]
struct ReturningBody {
    body: Option<Incoming>,
    back: SharedBody,
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
