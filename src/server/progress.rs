//! What one connection is doing, so that it can be told a slow client from an idle one.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use axum::body::{Body, HttpBody};
use hyper::{
    Version,
    body::{Bytes, Frame, SizeHint},
};
use tokio::time::Instant;

use crate::http::edge::Limits;

/// Shared by the connection's stream, which sees bytes, and its service, which sees requests.
#[derive(Clone, Debug)]
pub struct Progress(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    doing: Doing,
    /// When a request last began, got on or ended; at first, when the connection was made.
    last: Instant,
    /// Requests whose answer is not all with hyper yet.
    under_way: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    /// No request has come yet.
    First,
    /// Between requests of HTTP/1.
    Idle,
    /// In the head of a request of HTTP/1, since then.
    Head(Instant),
    /// HTTP/2: its frames look alike from outside, and its pings find dead peers.
    Multiplexed,
}

/// Until when the client may go on as it does, and what then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// It is slow: until then, then it is cut off.
    Slow(Instant),
    /// It is idle: until then, then it is parted from politely.
    Idle(Instant),
}

impl Progress {
    /// Of a connection just made.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(State { doing: Doing::First, last: Instant::now(), under_way: 0 })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes have come. Between requests of HTTP/1 they begin a head.
    pub fn bytes_came(&self) {
        let mut state = self.state();
        if state.doing == Doing::Idle && state.under_way == 0 {
            state.doing = Doing::Head(Instant::now());
        }
    }

    /// A request's head is there. It is under way until the guard is dropped.
    pub fn request_began(&self, version: Version) -> UnderWay {
        let mut state = self.state();
        state.doing = if version == Version::HTTP_2 { Doing::Multiplexed } else { Doing::Idle };
        state.last = Instant::now();
        state.under_way += 1;
        UnderWay(self.clone())
    }

    /// How long to wait for more bytes.
    pub fn patience(&self, limits: &Limits) -> Patience {
        let state = self.state();
        match state.doing {
            // A request's own time is looked after where it is served. This is about answers that
            // the client does not take.
            _ if state.under_way > 0 => Patience::Slow(state.last + limits.stall_time),
            Doing::First => Patience::Slow(state.last + limits.head_time),
            Doing::Head(since) => Patience::Slow(since + limits.head_time),
            Doing::Idle | Doing::Multiplexed => Patience::Idle(state.last + limits.idle_time),
        }
    }
}

/// A request under way.
#[derive(Debug)]
pub struct UnderWay(Progress);

impl UnderWay {
    fn got_on(&self) {
        self.0.state().last = Instant::now();
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.last = Instant::now();
        state.under_way -= 1;
    }
}

/// An answer's body. Its request is under way until hyper has all of it.
#[derive(Debug)]
pub struct Answer {
    body: Body,
    under_way: UnderWay,
}

impl Answer {
    /// `body`, which ends `under_way`.
    pub fn new(body: Body, under_way: UnderWay) -> Self {
        under_way.got_on();
        Self { body, under_way }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if frame.is_ready() {
            self.under_way.got_on();
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
