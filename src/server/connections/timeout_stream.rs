//! A stream with timeouts for a client that is idle, or slow to send or receive.
//!
//! hyper has one timeout for a head and the pause before it, and none for the first bytes, which distinguish HTTP/1
//! from HTTP/2. Here each has a timeout.
//!
//! The stream also distinguishes the protocols. `hyper_util` would do so, too, but passes on these bytes alone, which
//! doubles the size of each connection's buffer.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::body::Bytes;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    framing::Framing,
    progress::{Progress, ReadDeadline},
    unread::{DISCARD_TIMEOUT, MAX_DISCARDED},
};
use crate::http::layers::edge::EdgeLimits;

/// The first bytes of HTTP/2 (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Size of the first read. Most heads are smaller.
const FIRST_READ: usize = 4096;

/// Version of HTTP on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// The stream.
#[derive(Debug)]
pub struct TimeoutStream<S> {
    inner: S,
    /// Bytes that were read to detect the protocol, until they are read again.
    first: Bytes,
    progress: Progress,
    limits: EdgeLimits,
    /// Canceled when the connection has been idle for too long.
    idle: CancellationToken,
    read_timer: LazyTimer,
    write_timer: LazyTimer,
    /// Time since which the client has not received pending bytes.
    stalled_since: Option<Instant>,
    framing: Framing,
    is_shut: bool,
    /// Timer while the rest of a request is discarded, and the number of discarded bytes.
    linger_timer: Option<Pin<Box<Sleep>>>,
    discarded: u64,
}

impl<S> TimeoutStream<S> {
    /// Wraps `inner`. `progress` says what the client is doing.
    pub fn new(inner: S, progress: Progress, limits: EdgeLimits, idle: CancellationToken) -> Self {
        let (read_timer, write_timer) = (LazyTimer::default(), LazyTimer::default());
        Self {
            inner,
            first: Bytes::new(),
            progress,
            limits,
            idle,
            read_timer,
            write_timer,
            stalled_since: None,
            framing: Framing::new(),
            is_shut: false,
            linger_timer: None,
            discarded: 0,
        }
    }

    /// Called when no bytes have arrived. Fails after the timeout.
    fn check_read_deadline(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        loop {
            let deadline = self.progress.read_deadline(&self.limits);
            let end = match deadline {
                ReadDeadline::Slow(end) => end,
                // Doubled for closing the connection, which takes two round trips on HTTP/2.
                ReadDeadline::Idle(end) if self.idle.is_cancelled() => end + self.limits.head_timeout,
                ReadDeadline::Idle(end) => end,
            };
            // Check again by then, because a request that ends does not wake this task.
            let wake_at = end.min(Instant::now() + self.limits.idle_timeout);
            if !self.read_timer.poll_expired(cx, wake_at) {
                return Ok(());
            }
            match deadline {
                _ if Instant::now() < end => {}
                ReadDeadline::Idle(_) if !self.idle.is_cancelled() => self.idle.cancel(),
                _ => return Err(io::Error::new(io::ErrorKind::TimedOut, "the client took too long to send")),
            }
        }
    }

    /// Called after a write. Fails if the client has received nothing for too long.
    fn check_write_progress<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.stalled_since = None;
            return poll;
        }
        let end = *self.stalled_since.get_or_insert_with(Instant::now) + self.limits.stall_timeout;
        if self.write_timer.poll_expired(cx, end) {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client took too long to receive")));
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> TimeoutStream<S> {
    /// Reads the first bytes of the connection, which the next reads return.
    pub async fn detect_protocol(&mut self) -> io::Result<Protocol> {
        let mut first = Vec::with_capacity(FIRST_READ);
        let protocol = loop {
            let read = self.read_buf(&mut first).await?;
            if first.starts_with(PREFACE) {
                break Protocol::Http2;
            }
            if read == 0 || !PREFACE.starts_with(&first) {
                break Protocol::Http1;
            }
        };
        self.first = first.into();
        Ok(protocol)
    }

    /// Discards what the client sends until it closes or the time is up. Beyond the bound nothing more is read, which
    /// the client notices; it can still read the response.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let until = self.linger_timer.get_or_insert_with(|| Box::pin(sleep(DISCARD_TIMEOUT)));
        if until.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let mut bytes = [0; 8192];
        while self.discarded <= MAX_DISCARDED {
            let mut buf = ReadBuf::new(&mut bytes);
            match ready!(Pin::new(&mut self.inner).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => self.discarded += buf.filled().len() as u64,
                _ => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimeoutStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.first.is_empty() {
            let length = self.first.len().min(buf.remaining());
            buf.put_slice(&self.first.split_to(length));
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        if Pin::new(&mut self.inner).poll_read(cx, buf)?.is_pending() {
            self.check_read_deadline(cx)?;
            return Poll::Pending;
        }
        let bytes = buf.filled().get(before..).unwrap_or_default();
        if !bytes.is_empty() {
            self.progress.bytes_received();
            if let Some(fault) = self.framing.read(bytes) {
                self.progress.refuse(fault);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TimeoutStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.check_write_progress(cx, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.inner).poll_write_vectored(cx, slices);
        self.check_write_progress(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.inner).poll_flush(cx);
        self.check_write_progress(cx, poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_shut {
            let poll = Pin::new(&mut self.inner).poll_shutdown(cx);
            ready!(self.check_write_progress(cx, poll))?;
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
struct LazyTimer(Option<Pin<Box<Sleep>>>);

impl LazyTimer {
    /// Returns whether `end` has passed; if not, wakes the task by then. A later `end` does not reset the timer until
    /// it fires, because each request moves `end`, and setting timers costs more.
    fn poll_expired(&mut self, cx: &mut Context<'_>, end: Instant) -> bool {
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
