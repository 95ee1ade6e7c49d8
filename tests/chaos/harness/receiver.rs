//! An unreliable webhook receiver: now and then it refuses, disconnects or hangs. It records each acknowledgment before
//! it sends it, so every delivery that the server marks as delivered is recorded here.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use reqwest::header::{HeaderMap, HeaderName};
use serde_json::Value;
use standardwebhooks::Webhook;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::task::AbortOnDropHandle;

use crate::harness::random::Random;

/// How it treats a complete request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behavior {
    Acknowledge,
    Refuse,
    /// Closes the connection without a response.
    Drop,
    /// Closes it in the middle of the response.
    Truncate,
    /// Sends nothing until the sender disconnects.
    Hang,
}

impl Behavior {
    fn any(random: &mut Random) -> Self {
        match random.below(200) {
            0..6 => Self::Refuse,
            6..9 => Self::Drop,
            9..12 => Self::Truncate,
            12 => Self::Hang,
            _ => Self::Acknowledge,
        }
    }
}

/// What the receiver has recorded.
#[derive(Clone, Debug, Default)]
pub struct Deliveries {
    /// Complete requests.
    pub received: usize,
    /// Requests that were not acknowledged.
    pub rejected: usize,
    /// How often each event was acknowledged, by the webhook's number and `webhook-id`.
    pub acknowledged: HashMap<(usize, String), usize>,
    /// Each event as first received.
    pub events: HashMap<String, Value>,
    /// Invalid requests.
    pub wrong: Vec<String>,
}

/// The address of a receiver that does not respond yet.
pub struct Bound(TcpListener);

impl Bound {
    pub async fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    /// The URL of the webhook with this number.
    pub fn url(&self, number: usize) -> String {
        let address: SocketAddr = self.0.local_addr().unwrap();
        format!("http://{address}/{number}")
    }

    /// Starts to receive for webhooks with these secrets.
    pub fn receive(self, secrets: &[String], mut random: Random) -> Receiver {
        let verifiers: Arc<[Webhook]> = secrets.iter().map(|secret| Webhook::new(secret).unwrap()).collect();
        let deliveries = Arc::<Mutex<Deliveries>>::default();
        let recording = Arc::clone(&deliveries);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = self.0.accept().await {
                let behavior = Behavior::any(&mut random);
                let (verifiers, deliveries) = (Arc::clone(&verifiers), Arc::clone(&recording));
                tokio::spawn(async move { drop(serve(stream, behavior, &verifiers, &deliveries).await) });
            }
        });
        Receiver { deliveries, _serving: AbortOnDropHandle::new(serving) }
    }
}

/// A running receiver. Dropping it stops it.
pub struct Receiver {
    deliveries: Arc<Mutex<Deliveries>>,
    _serving: AbortOnDropHandle<()>,
}

impl Receiver {
    pub fn deliveries(&self) -> Deliveries {
        self.deliveries.lock().unwrap().clone()
    }

    /// How many events it has acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.deliveries.lock().unwrap().acknowledged.len()
    }
}

async fn serve(
    mut stream: TcpStream,
    behavior: Behavior,
    verifiers: &[Webhook],
    deliveries: &Mutex<Deliveries>,
) -> io::Result<()> {
    let request = Request::read(&mut stream).await?;
    deliveries.lock().unwrap().record(&request, behavior, verifiers);
    match behavior {
        Behavior::Acknowledge => stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await?,
        Behavior::Refuse => stream.write_all(b"HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n").await?,
        Behavior::Truncate => stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-le").await?,
        Behavior::Drop => {}
        Behavior::Hang => drop(stream.read(&mut [0]).await?),
    }
    stream.shutdown().await
}

impl Deliveries {
    fn record(&mut self, request: &Request, behavior: Behavior, verifiers: &[Webhook]) {
        self.received += 1;
        match request.read_by(verifiers) {
            Ok((number, id, event)) => {
                let first = self.events.entry(id.clone()).or_insert_with(|| event.clone());
                if without_host(first) != without_host(&event) {
                    self.wrong.push(format!("{id} was received as {first} and as {event}"));
                }
                if behavior == Behavior::Acknowledge {
                    *self.acknowledged.entry((number, id)).or_default() += 1;
                } else {
                    self.rejected += 1;
                }
            }
            Err(wrong) => self.wrong.push(format!("{wrong}: {request:?}")),
        }
    }
}

/// An event without the address of its server: here each server has its own.
fn without_host(event: &Value) -> Value {
    let mut event = event.clone();
    let source = event["source"].as_str().and_then(|source| source.find("/v1/").map(|at| source[at..].to_owned()));
    event["source"] = source.into();
    event
}

#[derive(Debug)]
struct Request {
    /// Without the leading slash.
    path: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Request {
    async fn read(stream: &mut TcpStream) -> io::Result<Self> {
        let invalid = || io::Error::new(io::ErrorKind::InvalidData, "a request without content-length");
        let mut bytes = Vec::new();
        let end = loop {
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut bytes).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        let mut body = bytes.split_off(end);
        let head = String::from_utf8(bytes).map_err(|_| invalid())?;
        let mut lines = head.lines();
        let path = lines.next().and_then(|line| line.split(' ').nth(1)).ok_or_else(invalid)?;
        let headers: HeaderMap = lines
            .filter_map(|line| line.split_once(": "))
            .filter_map(|(name, value)| Some((name.parse::<HeaderName>().ok()?, value.parse().ok()?)))
            .collect();
        let length = headers.get("content-length").and_then(|length| length.to_str().ok()?.parse().ok());
        let length: usize = length.ok_or_else(invalid)?;
        while body.len() < length {
            if stream.read_buf(&mut body).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(Self { path: path.trim_start_matches('/').to_owned(), headers, body })
    }

    /// The webhook's number, the event's ID and the event, if it is signed and its `webhook-id` is the event's ID.
    fn read_by(&self, verifiers: &[Webhook]) -> Result<(usize, String, Value), &'static str> {
        let number: usize = self.path.parse().map_err(|_| "no such webhook")?;
        let verifier = verifiers.get(number).ok_or("no such webhook")?;
        verifier.verify(&self.body, &self.headers).map_err(|_| "not signed with the webhook's secret")?;
        let id = self.headers.get("webhook-id").and_then(|id| id.to_str().ok()).ok_or("no webhook-id")?;
        let event: Value = serde_json::from_slice(&self.body).map_err(|_| "not JSON")?;
        if event["id"] != id {
            return Err("webhook-id is not the event's ID");
        }
        Ok((number, id.to_owned(), event))
    }
}
