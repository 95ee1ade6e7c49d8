//! Accepts connections up to a limit, and serves each in its own task.

pub mod file_limit;
pub(crate) mod framing;
pub(crate) mod progress;
pub(crate) mod timeout_stream;
pub mod tls;
pub(crate) mod unread;

use std::{convert::Infallible, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::{
    extract::{ConnectInfo, Request},
    response::Response,
};
use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use hyper::{body::Incoming, header::EXPECT};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::Service;

use super::shutdown::Shutdown;
use crate::http::{
    layers::{edge::EdgeLimits, framing::BadFraming},
    response::Streaming,
};
use progress::{Progress, TrackedBody};
use timeout_stream::{Protocol, TimeoutStream};
use tls::Tls;

/// Size of the parser's head buffer. It exceeds the limit in `edge`, so that an oversized head gets a problem response.
const HEAD_BUFFER: usize = 64 * 1024;
/// Concurrent streams of one HTTP/2 connection. RFC 9113 §6.5.2 recommends at least 100. The limit is the minimum
/// because each stream costs memory for as long as the client likes.
const MAX_STREAMS: u32 = 100;
/// Interval between HTTP/2 pings, and the time limit for the response. A peer in the middle of a head cannot respond,
/// so pings also end slow heads.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit for a client to read the end of an event stream when the server closes.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause after a failed accept, for example because file descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Listening socket, with or without TLS.
#[derive(Debug)]
pub struct Listener {
    /// TCP listener.
    pub tcp: TcpListener,
    /// TLS configuration. None if the server does not terminate TLS.
    pub tls: Option<Tls>,
}

impl From<TcpListener> for Listener {
    fn from(tcp: TcpListener) -> Self {
        Self { tcp, tls: None }
    }
}

/// State that all connections share.
#[derive(Clone)]
pub(super) struct Connections<S> {
    service: S,
    http1: Arc<auto::Builder<TokioExecutor>>,
    http2: Arc<auto::Builder<TokioExecutor>>,
    limits: EdgeLimits,
    stop: Shutdown,
    /// Tasks of open connections.
    pub(super) open: TaskTracker,
    permits: Arc<Semaphore>,
}

impl<S> Connections<S>
where
    S: Service<Request, Response = Response, Error = Infallible, Future: Send> + Clone + Send + Sync + 'static,
{
    /// Creates the state for connections to `service`. Each connection becomes a task of `open`.
    pub(super) fn new(service: S, limits: EdgeLimits, stop: Shutdown, open: TaskTracker) -> Self {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        // `TimeoutStream` enforces the timeouts.
        builder.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(HEAD_BUFFER);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_header_list_size(HEAD_BUFFER as u32)
            .max_concurrent_streams(MAX_STREAMS)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT);
        let permits = Arc::new(Semaphore::new(limits.max_connections));
        let (http1, http2) = (Arc::new(builder.clone().http1_only()), Arc::new(builder.http2_only()));
        Self { service, http1, http2, limits, stop, open, permits }
    }

    /// Accepts connections until the server closes.
    pub(super) async fn accept_from(&self, listener: &Listener) {
        self.stop.closing.run_until_cancelled(self.accept_loop(listener)).await;
    }

    async fn accept_loop(&self, listener: &Listener) {
        loop {
            // Beyond the limit, connections wait in the kernel's backlog, which costs the server nothing.
            let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else { return };
            match listener.tcp.accept().await {
                Ok((stream, peer)) => {
                    let tls = listener.tls.clone();
                    self.open.spawn(self.clone().handle(stream, peer, tls, permit));
                }
                // The client disconnected before the accept. Do not delay the next connection.
                Err(error) if is_client_error(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn handle(self, stream: TcpStream, peer: SocketAddr, tls: Option<Tls>, permit: OwnedSemaphorePermit) {
        // Held as long as the connection is open.
        let _permit = permit;
        // Responses are small and complete, so waiting to fill a packet only delays them.
        let _ = stream.set_nodelay(true);
        let served = async {
            let Some(tls) = tls else { return self.serve(stream, peer).await };
            // Boxed, because it is larger than a connection without TLS.
            Box::pin(self.serve_tls(&tls, stream, peer)).await;
        };
        let mut aborted = FuturesUnordered::from_iter([self.stop.abort.cancelled()]);
        tokio::select! {
            biased;
            () = served => {}
            _ = aborted.next() => {}
        }
    }

    async fn serve_tls(&self, tls: &Tls, stream: TcpStream, peer: SocketAddr) {
        let handshake = timeout(self.limits.head_timeout, tls.accept(stream));
        match self.stop.closing.run_until_cancelled(handshake).await {
            Some(Ok(Ok(stream))) => self.serve(stream, peer).await,
            Some(Ok(Err(error))) => tracing::debug!(%error, %peer, "TLS handshake failed"),
            Some(Err(_)) => tracing::debug!(%peer, "TLS handshake timed out"),
            None => {}
        }
    }

    async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Unpin + 'static, peer: SocketAddr) {
        let progress = Progress::new();
        let idle = CancellationToken::new();
        // In a `FuturesUnordered`, these futures are polled only when they are woken, not each time the connection is.
        let closing: BoxFuture<'_, ()> = Box::pin(self.stop.closing.cancelled());
        let mut signals = FuturesUnordered::from_iter([closing, Box::pin(idle.cancelled())]);
        let mut stream = TimeoutStream::new(stream, progress.clone(), self.limits, idle.clone());
        let detected = tokio::select! {
            biased;
            detected = stream.detect_protocol() => detected,
            // No request has begun.
            _ = signals.next() => return,
        };
        let builder = match detected {
            Ok(Protocol::Http1) => &self.http1,
            Ok(Protocol::Http2) => &self.http2,
            Err(error) => {
                tracing::debug!(%error, %peer, "connection ended early");
                return;
            }
        };
        let requests = progress.clone();
        let service = hyper::service::service_fn(|request: hyper::Request<Incoming>| {
            let guard = requests.begin_request(request.version());
            let version = request.version();
            let expects_continue = request.headers().contains_key(EXPECT);
            let (head, body) = request.into_parts();
            let (body, unread_body) = unread::wrap(body, expects_continue);
            let mut request = Request::from_parts(head, body);
            request.extensions_mut().insert(ConnectInfo(peer));
            if let Some(fault) = guard.fault() {
                request.extensions_mut().insert(BadFraming(fault));
            }
            let response = self.service.clone().call(request);
            let progress = requests.clone();
            async move {
                let Ok(mut response) = response.await;
                if let Some(unread_body) = unread_body {
                    unread_body.discard_rest(version, &mut response, &progress);
                }
                let is_streaming = response.extensions().get::<Streaming>().is_some();
                Ok::<_, Infallible>(response.map(|body| TrackedBody::new(body, guard, is_streaming)))
            }
        });
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            biased;
            ended = connection.as_mut() => ended,
            _ = signals.next() => {
                let has_only_streams = progress.has_only_streams();
                // Requests in flight finish, and the client learns that no more are accepted.
                connection.as_mut().graceful_shutdown();
                match timeout(CLOSE_TIMEOUT, connection.as_mut()).await {
                    Ok(ended) => ended,
                    // Do not wait for a stream reader that does not even read the end of its stream.
                    Err(_) if has_only_streams => return,
                    Err(_) => connection.await,
                }
            }
        };
        // hyper has already responded, if it could, to a client that disconnected or sent invalid HTTP.
        if let Err(error) = ended {
            tracing::debug!(%error, %peer, "connection ended early");
        }
    }
}

fn is_client_error(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}
