//! What one connection is doing, so that it can be told a slow client from an idle one.

use std::{
    collections::HashMap,
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
use crate::http::edge::Limits;

/// Shared by the connection's stream, which sees bytes, and its service, which sees requests.
#[derive(Clone, Debug)]
pub struct Progress(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    doing: Doing,
    /// When a request last began, got on or ended; at first, when the connection was made.
    last: Instant,
    /// Requests whose answer is not all with hyper yet. Each by itself, because HTTP/2 lets a client leave one
    /// answer lying and ask for others.
    under_way: HashMap<u64, Request>,
    next: u64,
    /// The first request that must be refused, by its number, and why.
    fault: Option<(u64, Fault)>,
}

#[derive(Clone, Copy, Debug)]
struct Request {
    /// When it last got on.
    last: Instant,
    /// Whether its answer goes on until somebody ends it.
    lasts: bool,
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

impl State {
    fn new() -> Self {
        Self { doing: Doing::First, last: Instant::now(), under_way: HashMap::new(), next: 0, fault: None }
    }
}

impl Progress {
    /// Of a connection just made.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(State::new())))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes have come. Between requests of HTTP/1 they begin a head.
    pub fn bytes_came(&self) {
        let mut state = self.state();
        if state.doing == Doing::Idle && state.under_way.is_empty() {
            state.doing = Doing::Head(Instant::now());
        }
    }

    /// A request's head is there. It is under way until the guard is dropped.
    pub fn request_began(&self, version: Version) -> UnderWay {
        let mut state = self.state();
        state.doing = if version == Version::HTTP_2 { Doing::Multiplexed } else { Doing::Idle };
        let (now, id) = (Instant::now(), state.next);
        state.last = now;
        state.next += 1;
        state.under_way.insert(id, Request { last: now, lasts: false });
        UnderWay { progress: self.clone(), id, lasts: false }
    }

    /// What came of the last request's body after its response has ended, too.
    pub fn request_drained(&self) {
        let mut state = self.state();
        if state.under_way.is_empty() {
            state.doing = Doing::Idle;
            state.last = Instant::now();
        }
    }

    /// Refuses the request with this number, from 0, and all after it.
    pub fn refuse(&self, fault: (u64, Fault)) {
        self.state().fault = Some(fault);
    }

    /// Whether nothing is under way but answers that go on until somebody ends them.
    pub fn only_lasts(&self) -> bool {
        let state = self.state();
        !state.under_way.is_empty() && state.under_way.values().all(|request| request.lasts)
    }

    /// How long to wait for more bytes.
    pub fn patience(&self, limits: &Limits) -> Patience {
        let state = self.state();
        // A request's own time is looked after where it is served. This is about answers that the client
        // does not take.
        if let Some(oldest) = state.under_way.values().map(|request| request.last).min() {
            return Patience::Slow(oldest + limits.stall_time);
        }
        match state.doing {
            Doing::First => Patience::Slow(state.last + limits.head_time),
            Doing::Head(since) => Patience::Slow(since + limits.head_time),
            Doing::Idle | Doing::Multiplexed => Patience::Idle(state.last + limits.idle_time),
        }
    }
}

/// A request under way.
#[derive(Debug)]
pub struct UnderWay {
    progress: Progress,
    id: u64,
    lasts: bool,
}

impl UnderWay {
    /// What is wrong with the request's head, if it must be refused.
    pub fn fault(&self) -> Option<Fault> {
        self.progress.state().fault.filter(|(first, _)| *first <= self.id).map(|(_, fault)| fault)
    }

    fn got_on(&self) {
        let mut state = self.progress.state();
        state.last = Instant::now();
        let request = Request { last: state.last, lasts: self.lasts };
        state.under_way.insert(self.id, request);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut state = self.progress.state();
        state.last = Instant::now();
        state.under_way.remove(&self.id);
    }
}

/// An answer's body. Its request is under way until hyper has all of it.
#[derive(Debug)]
pub struct Answer {
    body: Body,
    /// What has come of `body` and is not with hyper yet.
    rest: Bytes,
    under_way: UnderWay,
}

/// So much is given to hyper at a time. Over HTTP/2 it asks for more when the client has room for it, so that
/// an answer that is not taken stays here, where it is seen.
const PIECE: usize = 16 * 1024;

impl Answer {
    /// `body`, which ends `under_way`. Whether it `lasts` until somebody ends it is for the time of parting.
    pub fn new(body: Body, mut under_way: UnderWay, lasts: bool) -> Self {
        under_way.lasts = lasts;
        under_way.got_on();
        Self { body, rest: Bytes::new(), under_way }
    }
}

impl HttpBody for Answer {
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
        self.under_way.got_on();
        let length = self.rest.len().min(PIECE);
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
