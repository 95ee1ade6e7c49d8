//! Retries a request that failed because of its database connection, if nothing of it can have been committed. No other
//! code retries a statement on a new connection.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
    http::request::Parts,
    response::Response,
};
use hyper::body::{Frame, SizeHint};
use tower::Service;

use crate::{
    base::runtime::request::RequestContext,
    db::Pool,
    http::{layers::concurrency::Slot, response::problem::ResponseError},
};

/// Whether a request with this response can be retried. Reports a database error of the response to the pool.
pub(crate) fn is_retryable(db: &Pool, context: Option<&Arc<RequestContext>>, response: &Response) -> bool {
    let Some(ResponseError(error)) = response.extensions().get() else { return false };
    db.handle_error(error) && context.is_some_and(|context| !context.is_commit_sent())
}

/// A request that can be sent twice.
pub(crate) struct RequestCopy {
    head: Parts,
    body: Arc<Mutex<Vec<Bytes>>>,
}

impl RequestCopy {
    /// Returns the request, and a copy that can be sent again once the request's body was read.
    pub(crate) fn tee(head: Parts, body: Body) -> (Request, Self) {
        let copy = Self { head: head.clone(), body: Arc::default() };
        let body = match body.is_end_stream() {
            true => body,
            false => Body::new(TeeBody { body, copy: Arc::clone(&copy.body) }),
        };
        (Request::from_parts(head, body), copy)
    }

    /// The request's load slot.
    pub(crate) fn slot(&self) -> Option<Slot> {
        self.head.extensions.get().cloned()
    }

    /// The request's context.
    pub(crate) fn context(&self) -> Option<&Arc<RequestContext>> {
        self.head.extensions.get()
    }

    /// The original request.
    pub(crate) fn into_request(self) -> Request {
        let chunks = std::mem::take(&mut *self.body.lock().unwrap_or_else(PoisonError::into_inner));
        Request::from_parts(self.head, Body::from(chunks.concat()))
    }
}

/// A read that can be retried if its connection causes it to fail.
pub struct ReadRetry<S> {
    inner: S,
    copy: RequestCopy,
    db: Pool,
}

impl<S> ReadRetry<S> {
    /// A copy of the request with this head and no body.
    pub(crate) fn new(inner: &S, head: &Parts, db: &Pool) -> Self
    where
        S: Clone,
    {
        let copy = RequestCopy { head: head.clone(), body: Arc::default() };
        Self { inner: inner.clone(), copy, db: db.clone() }
    }

    /// Whether a request with this response can be retried.
    pub(crate) fn should_retry(&self, response: &Response) -> bool {
        is_retryable(&self.db, self.copy.context(), response)
    }

    /// Sends the request again.
    pub(crate) fn send(mut self) -> S::Future
    where
        S: Service<Request>,
    {
        self.inner.call(self.copy.into_request())
    }
}

/// A body that is copied chunk by chunk while it is read. The body's size is limited, so the copy's is too.
struct TeeBody {
    body: Body,
    copy: Arc<Mutex<Vec<Bytes>>>,
}

impl HttpBody for TeeBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.copy.lock().unwrap_or_else(PoisonError::into_inner).push(data.clone());
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
