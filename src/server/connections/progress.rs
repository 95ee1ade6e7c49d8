//! State of one connection, to distinguish a slow client from an idle one.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use axum::body::{Body, HttpBody};
use hyper::{
    Version,
    body::{Bytes, Frame, SizeHint},
};
use tokio::time::Instant;

use super::framing::Fault;
use crate::http::layers::edge::EdgeLimits;

/// Shared by the connection's stream, which sees bytes, and its service, which sees requests.
#[derive(Clone, Debug)]
pub struct Progress(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    activity: Activity,
    /// Time when a request last began, made progress or ended. Initially, the time of the connection.
    last: Instant,
    /// Requests whose response hyper does not have completely. Tracked one by one, because an HTTP/2 client can leave
    /// one response unread and send further requests. A vector, because there is rarely more than one.
    in_flight: Vec<Request>,
    /// Whether the response that ended last is a stream. The client may not have received its end.
    has_ended_stream: bool,
    next: u64,
    /// Number of the first request that must be refused, and the reason.
    fault: Option<(u64, Fault)>,
}

#[derive(Clone, Copy, Debug)]
struct Request {
    id: u64,
    /// Time of the last progress.
    last: Instant,
    /// Whether the response is a stream without an end.
    is_streaming: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Activity {
    /// No request has arrived yet.
    First,
    /// Between HTTP/1 requests.
    Idle,
    /// In the head of an HTTP/1 request, since this time.
    Head(Instant),
    /// HTTP/2: its frames cannot be distinguished here, and its pings find dead peers.
    Multiplexed,
}

/// Deadline of the client's current activity, and what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadDeadline {
    /// The client is slow: at the deadline it is disconnected.
    Slow(Instant),
    /// The client is idle: at the deadline the connection is closed gracefully.
    Idle(Instant),
}

impl State {
    fn new() -> Self {
        Self {
            activity: Activity::First,
            last: Instant::now(),
            in_flight: Vec::new(),
            has_ended_stream: false,
            next: 0,
            fault: None,
        }
    }
}

impl Progress {
    /// State of a new connection.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(State::new())))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that bytes arrived. Between HTTP/1 requests they begin a head.
    pub fn bytes_received(&self) {
        let mut state = self.state();
        if state.activity == Activity::Idle && state.in_flight.is_empty() {
            state.activity = Activity::Head(Instant::now());
        }
    }

    /// Records a complete request head. The request is in flight until the guard is dropped.
    pub fn begin_request(&self, version: Version) -> RequestGuard {
        let mut state = self.state();
        state.activity = if version == Version::HTTP_2 { Activity::Multiplexed } else { Activity::Idle };
        let (now, id) = (Instant::now(), state.next);
        state.last = now;
        state.next += 1;
        state.has_ended_stream = false;
        state.in_flight.push(Request { id, last: now, is_streaming: false });
        RequestGuard { progress: self.clone(), id, is_streaming: false }
    }

    /// Records that the rest of the last request's body was read after its response ended.
    pub fn finish_draining(&self) {
        let mut state = self.state();
        if state.in_flight.is_empty() {
            state.activity = Activity::Idle;
            state.last = Instant::now();
        }
    }

    /// Refuses the request with this number (from 0) and all later ones.
    pub fn refuse(&self, fault: (u64, Fault)) {
        self.state().fault = Some(fault);
    }

    /// Reports whether all responses in flight are streams without an end, or the last response was one: the server may
    /// have ended it just now, without the client reading the end.
    pub fn has_only_streams(&self) -> bool {
        let state = self.state();
        match &*state.in_flight {
            [] => state.has_ended_stream,
            requests => requests.iter().all(|request| request.is_streaming),
        }
    }

    /// Deadline for more bytes.
    pub fn read_deadline(&self, limits: &EdgeLimits) -> ReadDeadline {
        let state = self.state();
        // The time limit of a request is enforced elsewhere. This one is for responses that the client does not
        // receive.
        if let Some(oldest) = state.in_flight.iter().map(|request| request.last).min() {
            return ReadDeadline::Slow(oldest + limits.stall_timeout);
        }
        match state.activity {
            Activity::First => ReadDeadline::Slow(state.last + limits.head_timeout),
            Activity::Head(since) => ReadDeadline::Slow(since + limits.head_timeout),
            Activity::Idle | Activity::Multiplexed => ReadDeadline::Idle(state.last + limits.idle_timeout),
        }
    }
}

/// Guard of a request in flight.
#[derive(Debug)]
pub struct RequestGuard {
    progress: Progress,
    id: u64,
    is_streaming: bool,
}

impl RequestGuard {
    /// Reason why the request must be refused, if any.
    pub fn fault(&self) -> Option<Fault> {
        self.progress.state().fault.filter(|(first, _)| *first <= self.id).map(|(_, fault)| fault)
    }

    fn record_progress(&self) {
        let mut state = self.progress.state();
        let now = Instant::now();
        state.last = now;
        if let Some(request) = state.in_flight.iter_mut().find(|request| request.id == self.id) {
            (request.last, request.is_streaming) = (now, self.is_streaming);
        }
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        let mut state = self.progress.state();
        state.last = Instant::now();
        state.in_flight.retain(|request| request.id != self.id);
        state.has_ended_stream = self.is_streaming;
    }
}

/// Response body. Its request is in flight until hyper has all of it.
#[derive(Debug)]
pub struct TrackedBody {
    body: Body,
    /// Part of `body` that hyper does not have yet.
    rest: Bytes,
    guard: RequestGuard,
}

/// Size of the pieces for hyper. Over HTTP/2 it requests the next piece when the client has room, so a response that
/// the client does not receive stays here, where it is noticed.
const CHUNK: usize = 16 * 1024;

impl TrackedBody {
    /// Wraps `body`, whose end drops `guard`. `is_streaming` marks a stream without an end, which a closing server does
    /// not wait for.
    pub fn new(body: Body, mut guard: RequestGuard, is_streaming: bool) -> Self {
        guard.is_streaming = is_streaming;
        guard.record_progress();
        Self { body, rest: Bytes::new(), guard }
    }
}

impl HttpBody for TrackedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => self.rest = data,
                Some(Ok(Err(trailers))) => return Poll::Ready(Some(Ok(trailers))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        self.guard.record_progress();
        let length = self.rest.len().min(CHUNK);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (body, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower() + rest);
        if let Some(upper) = body.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn respond(progress: &Progress, is_streaming: bool) -> TrackedBody {
        TrackedBody::new(Body::empty(), progress.begin_request(Version::HTTP_11), is_streaming)
    }

    #[test]
    fn closing_server_waits_for_no_stream_whether_or_not_it_has_ended() {
        let progress = Progress::new();
        assert!(!progress.has_only_streams(), "no request yet");
        let stream = respond(&progress, true);
        assert!(progress.has_only_streams());
        let other = respond(&progress, false);
        assert!(!progress.has_only_streams(), "another response is in flight");
        drop(other);
        assert!(progress.has_only_streams());
        drop(stream);
        assert!(progress.has_only_streams(), "its end may not have been received");
        drop(respond(&progress, false));
        assert!(!progress.has_only_streams(), "the last response must be received");
    }
}
