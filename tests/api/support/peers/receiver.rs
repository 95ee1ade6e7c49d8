//! A webhook receiver on a real socket, which records requests and sends configurable responses.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use reqwest::header::{HeaderMap, HeaderName};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    sync::watch,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use crate::support::{contract, eventually, https::Certificate};

/// How a receiver responds.
#[derive(Clone, Debug)]
pub enum Behavior {
    /// With this status, followed by these headers.
    Respond(&'static str, String),
    /// With exactly these bytes.
    Raw(Vec<u8>),
    /// Sends nothing until it is configured otherwise.
    Hang,
}

/// The default response, and responses to individual requests by their number.
#[derive(Clone, Debug)]
struct Behaviors {
    all: Behavior,
    one: HashMap<usize, Behavior>,
}

impl Behaviors {
    fn of(&self, number: usize) -> &Behavior {
        self.one.get(&number).unwrap_or(&self.all)
    }
}

/// A recorded request.
#[derive(Clone, Debug)]
pub struct Received {
    pub target: String,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Received {
    pub fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    /// The event, checked against the schema of its type.
    pub fn event(&self) -> Value {
        let event = serde_json::from_slice(&self.body).unwrap();
        contract::check_event(&event);
        event
    }

    pub fn event_type(&self) -> String {
        self.event()["type"].as_str().unwrap().to_owned()
    }

    /// Whether the independent Standard Webhooks verifier accepts its signature.
    pub fn is_signed_by(&self, secret: &str) -> bool {
        standardwebhooks::Webhook::new(secret).unwrap().verify(&self.body, &self.headers).is_ok()
    }
}

#[derive(Debug, Default)]
struct Recorded {
    connections: usize,
    received: Vec<Received>,
    max_concurrent: usize,
}

/// A running receiver. Dropping it stops it.
pub struct Receiver {
    pub address: SocketAddr,
    recorded: Arc<Mutex<Recorded>>,
    behavior: watch::Sender<Behaviors>,
    _serving: AbortOnDropHandle<()>,
}

impl Receiver {
    /// A receiver that acknowledges everything.
    pub async fn start() -> Self {
        Self::serve_on(TcpListener::bind("127.0.0.1:0").await.unwrap(), None)
    }

    /// Two receivers on the same port, at 127.0.0.2 and at 127.0.0.1.
    pub async fn start_pair() -> (Self, Self) {
        loop {
            let one = TcpListener::bind("127.0.0.2:0").await.unwrap();
            // A port that is free at one address may be in use at the other.
            if let Ok(other) = TcpListener::bind(("127.0.0.1", one.local_addr().unwrap().port())).await {
                return (Self::serve_on(one, None), Self::serve_on(other, None));
            }
        }
    }

    /// A receiver with TLS.
    pub async fn start_with_tls(certificate: &Certificate) -> Self {
        Self::serve_on(TcpListener::bind("127.0.0.1:0").await.unwrap(), Some(certificate.acceptor()))
    }

    fn serve_on(listener: TcpListener, tls: Option<TlsAcceptor>) -> Self {
        let address = listener.local_addr().unwrap();
        let (behavior, recorded) =
            (watch::Sender::new(Behaviors { all: ok(), one: HashMap::new() }), Arc::<Mutex<Recorded>>::default());
        let (behaviors, recording) = (behavior.subscribe(), Arc::clone(&recorded));
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                lock(&recording).connections += 1;
                let (behaviors, recording, tls) = (behaviors.clone(), Arc::clone(&recording), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, behaviors, recording).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, behaviors, recording).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, recorded, behavior, _serving: AbortOnDropHandle::new(serving) }
    }

    pub fn url(&self) -> String {
        format!("http://{}/hooks", self.address)
    }

    /// Sets the default response.
    pub fn set(&self, behavior: Behavior) {
        self.behavior.send_modify(|behaviors| behaviors.all = behavior);
    }

    /// Responds to the request with this number (from 0) with this status.
    pub fn respond_to_one_with(&self, number: usize, status: &'static str) {
        self.set_one(number, Behavior::Respond(status, String::new()));
    }

    /// Responds to the request with this number (from 0) in this way.
    pub fn set_one(&self, number: usize, behavior: Behavior) {
        self.behavior.send_modify(|behaviors| drop(behaviors.one.insert(number, behavior)));
    }

    /// Sets the status of the default response.
    pub fn respond_with(&self, status: &'static str) {
        self.set(Behavior::Respond(status, String::new()));
    }

    pub fn received(&self) -> Vec<Received> {
        lock(&self.recorded).received.clone()
    }

    /// How many connections were opened to it.
    pub fn connections(&self) -> usize {
        lock(&self.recorded).connections
    }

    /// The received requests with this event type.
    pub fn of_type(&self, event_type: &str) -> Vec<Received> {
        self.received().into_iter().filter(|received| received.event_type() == event_type).collect()
    }

    /// How many requests are currently open.
    pub fn max_concurrent(&self) -> usize {
        lock(&self.recorded).max_concurrent
    }

    /// Waits for the `count`th request of this type.
    pub async fn wait_for(&self, event_type: &str, count: usize) -> Received {
        let what = format!("{count} of {event_type}");
        eventually(&what, async || self.of_type(event_type).into_iter().nth(count - 1)).await
    }
}

fn lock(recorded: &Mutex<Recorded>) -> MutexGuard<'_, Recorded> {
    recorded.lock().unwrap_or_else(PoisonError::into_inner)
}

fn ok() -> Behavior {
    Behavior::Respond("200 OK", String::new())
}

/// Reads one request and responds to it.
async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    mut behavior: watch::Receiver<Behaviors>,
    recorded: Arc<Mutex<Recorded>>,
) {
    let Some(received) = read(&mut stream).await else { return };
    let number = {
        let mut recorded = lock(&recorded);
        recorded.received.push(received);
        recorded.max_concurrent += 1;
        recorded.received.len() - 1
    };
    let behavior = behavior.wait_for(|behaviors| !matches!(behaviors.of(number), Behavior::Hang)).await;
    let behavior = behavior.map(|behaviors| behaviors.of(number).clone());
    let answer = match behavior {
        Ok(Behavior::Respond(status, headers)) => {
            format!("HTTP/1.1 {status}\r\n{headers}content-length: 5\r\n\r\nhello").into_bytes()
        }
        Ok(Behavior::Raw(bytes)) => bytes,
        _ => return,
    };
    lock(&recorded).max_concurrent -= 1;
    let _ = stream.write_all(&answer).await;
    let _ = stream.shutdown().await;
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<Received> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break String::from_utf8(bytes.drain(..end + 4).collect()).ok()?;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let mut lines = head.split("\r\n");
    let target = lines.next()?.to_owned();
    let pairs = lines.filter_map(|line| line.split_once(": "));
    let headers: HeaderMap =
        pairs.map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect();
    let length: usize = headers.get("content-length")?.to_str().ok()?.parse().ok()?;
    while bytes.len() < length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    Some(Received { target, headers, body: bytes })
}
