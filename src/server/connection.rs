//! Connections: accepted as many as there is room for, each in a task of its own.

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

use super::{
    patient::Patient,
    progress::{Answer, Progress},
    stop::Stop,
    tls::Tls,
    unread,
};
use crate::http::{edge::Limits, framing::BadFraming, reply::Lasting};

/// What the parser takes for a head: above `edge`'s limit, so that one is told as a problem.
const HEAD_BUFFER: usize = 64 * 1024;
/// Requests of one HTTP/2 connection that may be under way at a time: what RFC 9113 §6.5.2 calls the least
/// that does not slow clients down, because each costs memory for as long as its client likes.
const MAX_STREAMS: u32 = 100;
/// How often an HTTP/2 peer is asked whether it lives, and how long it may take to say so. A peer in
/// the middle of a head cannot answer, so this ends slow heads there too.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIME: Duration = Duration::from_secs(10);
/// How long a client has for the last words of an event stream when the server closes.
const PARTING_TIME: Duration = Duration::from_secs(2);
/// How long to wait when no connection can be accepted, for want of file descriptors, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where connections come in: an address, with TLS or without.
#[derive(Debug)]
pub struct Listener {
    /// The address.
    pub tcp: TcpListener,
    /// TLS, if it is ended here.
    pub tls: Option<Tls>,
}

impl From<TcpListener> for Listener {
    fn from(tcp: TcpListener) -> Self {
        Self { tcp, tls: None }
    }
}

/// What all connections share.
#[derive(Clone)]
pub(super) struct Connections<S> {
    service: S,
    builder: Arc<auto::Builder<TokioExecutor>>,
    limits: Limits,
    stop: Stop,
    /// Those that are open.
    pub(super) open: TaskTracker,
    room: Arc<Semaphore>,
}

impl<S> Connections<S>
where
    S: Service<Request, Response = Response, Error = Infallible, Future: Send> + Clone + Send + Sync + 'static,
{
    /// Connections to `service`, each of which is a task of `open`.
    pub(super) fn new(service: S, limits: Limits, stop: Stop, open: TaskTracker) -> Self {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        // `Patient` looks after time.
        builder.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(HEAD_BUFFER);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_header_list_size(HEAD_BUFFER as u32)
            .max_concurrent_streams(MAX_STREAMS)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIME);
        let room = Arc::new(Semaphore::new(limits.max_connections));
        Self { service, builder: Arc::new(builder), limits, stop, open, room }
    }

    /// Accepts connections until the server closes.
    pub(super) async fn accept_from(&self, listener: &Listener) {
        self.stop.closing.run_until_cancelled(self.accept_for_ever(listener)).await;
    }

    async fn accept_for_ever(&self, listener: &Listener) {
        loop {
            // Where there is no room, connections wait in the kernel's backlog, which costs us nothing.
            let Ok(room) = Arc::clone(&self.room).acquire_owned().await else { return };
            match listener.tcp.accept().await {
                Ok((stream, peer)) => {
                    let tls = listener.tls.clone();
                    self.open.spawn(self.clone().meet(stream, peer, tls, room));
                }
                // The client has gone before it was met, which is no reason to keep others waiting.
                Err(error) if is_clients_own(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn meet(self, stream: TcpStream, peer: SocketAddr, tls: Option<Tls>, room: OwnedSemaphorePermit) {
        // Held for as long as the connection is open.
        let _room = room;
        // Answers are small and complete; waiting to fill a packet only delays them.
        let _ = stream.set_nodelay(true);
        let served = async {
            let Some(tls) = tls else { return self.serve(stream, peer).await };
            let handshake = timeout(self.limits.head_time, tls.accept(stream));
            match self.stop.closing.run_until_cancelled(handshake).await {
                Some(Ok(Ok(stream))) => self.serve(stream, peer).await,
                Some(Ok(Err(error))) => tracing::debug!(%error, %peer, "no TLS handshake"),
                Some(Err(_)) => tracing::debug!(%peer, "no TLS handshake in time"),
                None => {}
            }
        };
        let mut now = FuturesUnordered::from_iter([self.stop.now.cancelled()]);
        tokio::select! {
            biased;
            () = served => {}
            _ = now.next() => {}
        }
    }

    async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Unpin + 'static, peer: SocketAddr) {
        let progress = Progress::new();
        let idle = CancellationToken::new();
        let stream = Patient::new(stream, progress.clone(), self.limits, idle.clone());
        let requests = progress.clone();
        let service = hyper::service::service_fn(|request: hyper::Request<Incoming>| {
            let under_way = requests.request_began(request.version());
            let version = request.version();
            let is_held_back = request.headers().contains_key(EXPECT);
            let (head, body) = request.into_parts();
            let (body, unread_body) = unread::wrap(body, is_held_back);
            let mut request = Request::from_parts(head, body);
            request.extensions_mut().insert(ConnectInfo(peer));
            if let Some(fault) = under_way.fault() {
                request.extensions_mut().insert(BadFraming(fault));
            }
            let answer = self.service.clone().call(request);
            let progress = requests.clone();
            async move {
                let Ok(mut answer) = answer.await;
                if let Some(unread_body) = unread_body {
                    unread_body.discard_rest(version, &mut answer, &progress);
                }
                let lasts = answer.extensions().get::<Lasting>().is_some();
                Ok::<_, Infallible>(answer.map(|body| Answer::new(body, under_way, lasts)))
            }
        });
        let mut connection = pin!(self.builder.serve_connection(TokioIo::new(stream), service));
        // Looked at when they have something to say, and not each time that the connection has.
        let closing: BoxFuture<'_, ()> = Box::pin(self.stop.closing.cancelled());
        let mut signals = FuturesUnordered::from_iter([closing, Box::pin(idle.cancelled())]);
        let ended = tokio::select! {
            biased;
            ended = connection.as_mut() => ended,
            _ = signals.next() => {
                let only_lasts = progress.only_lasts();
                // What is under way finishes, and the client is told that no more is taken.
                connection.as_mut().graceful_shutdown();
                match timeout(PARTING_TIME, connection.as_mut()).await {
                    Ok(ended) => ended,
                    // A reader that does not even take a stream's last words is not waited for.
                    Err(_) if only_lasts => return,
                    Err(_) => connection.await,
                }
            }
        };
        // A client that breaks off or sends what is no HTTP has been answered by hyper, if it could.
        if let Err(error) = ended {
            tracing::debug!(%error, %peer, "a connection ended early");
        }
    }
}

fn is_clients_own(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}
