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

use super::{contract, eventually, https::Certificate};

/// How a receiver responds.
#[derive(Clone, Debug)]
pub enum Manner {
    /// With this status, followed by these headers.
    Answer(&'static str, String),
    /// With exactly these bytes.
    Raw(Vec<u8>),
    /// Sends nothing until it is configured otherwise.
    Hang,
}

/// The default response, and responses to individual requests by their number.
#[derive(Clone, Debug)]
struct Manners {
    all: Manner,
    one: HashMap<usize, Manner>,
}

impl Manners {
    fn of(&self, number: usize) -> &Manner {
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
struct Notes {
    connections: usize,
    received: Vec<Received>,
    at_a_time: usize,
}

/// A running receiver. Dropping it stops it.
pub struct Receiver {
    pub address: SocketAddr,
    notes: Arc<Mutex<Notes>>,
    manner: watch::Sender<Manners>,
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
        let (manner, notes) =
            (watch::Sender::new(Manners { all: ok(), one: HashMap::new() }), Arc::<Mutex<Notes>>::default());
        let (manners, noting) = (manner.subscribe(), Arc::clone(&notes));
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                lock(&noting).connections += 1;
                let (manners, noting, tls) = (manners.clone(), Arc::clone(&noting), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, manners, noting).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, manners, noting).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, notes, manner, _serving: AbortOnDropHandle::new(serving) }
    }

    pub fn url(&self) -> String {
        format!("http://{}/hooks", self.address)
    }

    /// Sets the default response.
    pub fn set(&self, manner: Manner) {
        self.manner.send_modify(|manners| manners.all = manner);
    }

    /// Responds to the request with this number (from 0) with this status.
    pub fn answers_one(&self, number: usize, status: &'static str) {
        self.set_one(number, Manner::Answer(status, String::new()));
    }

    /// Responds to the request with this number (from 0) in this way.
    pub fn set_one(&self, number: usize, manner: Manner) {
        self.manner.send_modify(|manners| drop(manners.one.insert(number, manner)));
    }

    /// Sets the status of the default response.
    pub fn answers(&self, status: &'static str) {
        self.set(Manner::Answer(status, String::new()));
    }

    pub fn received(&self) -> Vec<Received> {
        lock(&self.notes).received.clone()
    }

    /// How many connections were opened to it.
    pub fn connections(&self) -> usize {
        lock(&self.notes).connections
    }

    /// The received requests with this event type.
    pub fn of_type(&self, event_type: &str) -> Vec<Received> {
        self.received().into_iter().filter(|received| received.event_type() == event_type).collect()
    }

    /// How many requests are currently open.
    pub fn at_a_time(&self) -> usize {
        lock(&self.notes).at_a_time
    }

    /// Waits for the `count`th request of this type.
    pub async fn wait_for(&self, event_type: &str, count: usize) -> Received {
        let what = format!("{count} of {event_type}");
        eventually(&what, async || self.of_type(event_type).into_iter().nth(count - 1)).await
    }
}

fn lock(notes: &Mutex<Notes>) -> MutexGuard<'_, Notes> {
    notes.lock().unwrap_or_else(PoisonError::into_inner)
}

fn ok() -> Manner {
    Manner::Answer("200 OK", String::new())
}

/// Reads one request and responds to it.
async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    mut manner: watch::Receiver<Manners>,
    notes: Arc<Mutex<Notes>>,
) {
    let Some(received) = read(&mut stream).await else { return };
    let number = {
        let mut notes = lock(&notes);
        notes.received.push(received);
        notes.at_a_time += 1;
        notes.received.len() - 1
    };
    let manner = manner.wait_for(|manners| !matches!(manners.of(number), Manner::Hang)).await;
    let manner = manner.map(|manners| manners.of(number).clone());
    let answer = match manner {
        Ok(Manner::Answer(status, headers)) => {
            format!("HTTP/1.1 {status}\r\n{headers}content-length: 5\r\n\r\nhello").into_bytes()
        }
        Ok(Manner::Raw(bytes)) => bytes,
        _ => return,
    };
    lock(&notes).at_a_time -= 1;
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
