//! A stream with timeouts for a client that is idle, or slow to send or receive.
//!
//! hyper has one timeout for a head and the pause before it, and none for the first bytes, which distinguish HTTP/1
//! from HTTP/2. Here each has a timeout.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    framing::Framing,
    progress::{Patience, Progress},
    unread::{DISCARD_TIME, MAX_DISCARDED},
};
use crate::http::edge::Limits;

/// The stream.
#[derive(Debug)]
pub struct Patient<S> {
    inner: S,
    progress: Progress,
    limits: Limits,
    /// Canceled when the connection has been idle for too long.
    idle: CancellationToken,
    read_alarm: Alarm,
    write_alarm: Alarm,
    /// Time since which the client has not received pending bytes.
    stuck: Option<Instant>,
    framing: Framing,
    is_shut: bool,
    /// Timer while the rest of a request is discarded, and the number of discarded bytes.
    lingering: Option<Pin<Box<Sleep>>>,
    dropped: u64,
}

impl<S> Patient<S> {
    /// Wraps `inner`. `progress` says what the client is doing.
    pub fn new(inner: S, progress: Progress, limits: Limits, idle: CancellationToken) -> Self {
        let (read_alarm, write_alarm) = (Alarm::default(), Alarm::default());
        Self {
            inner,
            progress,
            limits,
            idle,
            read_alarm,
            write_alarm,
            stuck: None,
            framing: Framing::new(),
            is_shut: false,
            lingering: None,
            dropped: 0,
        }
    }

    /// Called when no bytes have arrived. Fails after the timeout.
    fn wait_for_bytes(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        loop {
            let patience = self.progress.patience(&self.limits);
            let end = match patience {
                Patience::Slow(end) => end,
                // Doubled for closing the connection, which takes two round trips on HTTP/2.
                Patience::Idle(end) if self.idle.is_cancelled() => end + self.limits.head_time,
                Patience::Idle(end) => end,
            };
            // Check again by then, because a request that ends does not wake this task.
            let look = end.min(Instant::now() + self.limits.idle_time);
            if !self.read_alarm.rings(cx, look) {
                return Ok(());
            }
            match patience {
                _ if Instant::now() < end => {}
                Patience::Idle(_) if !self.idle.is_cancelled() => self.idle.cancel(),
                _ => return Err(io::Error::new(io::ErrorKind::TimedOut, "the client took too long to send")),
            }
        }
    }

    /// Called after a write. Fails if the client has received nothing for too long.
    fn wait_for_room<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.stuck = None;
            return poll;
        }
        let end = *self.stuck.get_or_insert_with(Instant::now) + self.limits.stall_time;
        if self.write_alarm.rings(cx, end) {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client took too long to receive")));
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> Patient<S> {
    /// Discards what the client sends until it closes or the time is up. Beyond the bound nothing more is read, which
    /// the client notices; it can still read the response.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let until = self.lingering.get_or_insert_with(|| Box::pin(sleep(DISCARD_TIME)));
        if until.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let mut bytes = [0; 8192];
        while self.dropped <= MAX_DISCARDED {
            let mut buf = ReadBuf::new(&mut bytes);
            match ready!(Pin::new(&mut self.inner).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => self.dropped += buf.filled().len() as u64,
                _ => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if Pin::new(&mut self.inner).poll_read(cx, buf)?.is_pending() {
            self.wait_for_bytes(cx)?;
            return Poll::Pending;
        }
        let bytes = buf.filled().get(before..).unwrap_or_default();
        if !bytes.is_empty() {
            self.progress.bytes_came();
            if let Some(fault) = self.framing.read(bytes) {
                self.progress.refuse(fault);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.wait_for_room(cx, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.inner).poll_write_vectored(cx, slices);
        self.wait_for_room(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.inner).poll_flush(cx);
        self.wait_for_room(cx, poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_shut {
            let poll = Pin::new(&mut self.inner).poll_shutdown(cx);
            ready!(self.wait_for_room(cx, poll))?;
            self.is_shut = true;
        }
        // A client in the middle of a request reads the response after sending the rest, or learns that it need not
        // send it.
        if !self.framing.is_between_requests() {
            ready!(self.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}

/// Timer that is created when it is first needed.
#[derive(Debug, Default)]
struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Returns whether `end` has passed; if not, wakes the task by then. A later `end` does not reset the timer until
    /// it fires, because each request moves `end`, and setting timers costs more.
    fn rings(&mut self, cx: &mut Context<'_>, end: Instant) -> bool {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(end)));
        if sleep.deadline() > end {
            sleep.as_mut().reset(end);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if sleep.deadline() >= end {
                return true;
            }
            sleep.as_mut().reset(end);
        }
        false
    }
}
