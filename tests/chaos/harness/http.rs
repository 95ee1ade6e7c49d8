//! HTTP/1.1 on a plain socket: a client library may retry requests on its own, and here every sent request counts.

use std::{fmt, io, net::SocketAddr};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A request of a client.
#[derive(Clone)]
pub struct Request {
    pub method: &'static str,
    pub path: String,
    pub secret: String,
    /// The `Idempotency-Key`.
    pub key: Option<String>,
    pub body: Option<Value>,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { method, path, key, body, .. } = self;
        let (key, body) = (key.as_deref().unwrap_or("no key"), body.clone().unwrap_or_default());
        write!(f, "{method} {path} {body} ({key})")
    }
}

impl Request {
    fn text(&self) -> String {
        let Self { method, path, secret, key, body } = self;
        let mut text = format!("{method} {path} HTTP/1.1\r\nhost: chaos\r\nauthorization: Bearer {secret}\r\n");
        if let Some(key) = key {
            text += &format!("idempotency-key: {key}\r\n");
        }
        let body = body.as_ref().map(Value::to_string).unwrap_or_default();
        if !body.is_empty() {
            text += &format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
        }
        text + "\r\n" + &body
    }
}

/// A complete response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    /// Names are in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Whether it replays the response to an earlier request with the same key.
    pub fn is_replayed(&self) -> bool {
        self.header("idempotent-replayed") == Some("true")
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// A problem's code; empty for other responses.
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// A connection to a server, reused for several requests.
pub struct Connection {
    stream: TcpStream,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream })
    }

    /// Sends a request once. An error means that its outcome is unknown.
    pub async fn exchange(&mut self, request: &Request) -> io::Result<Response> {
        self.send(request).await?;
        self.receive().await
    }

    pub async fn send(&mut self, request: &Request) -> io::Result<()> {
        self.stream.write_all(request.text().as_bytes()).await
    }

    pub async fn receive(&mut self) -> io::Result<Response> {
        let mut bytes = Vec::new();
        loop {
            if let Some(response) = parse(&bytes)? {
                return Ok(response);
            }
            let mut buffer = [0; 4096];
            let read = self.stream.read(&mut buffer).await?;
            if read == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed before the response was complete"));
            }
            bytes.extend_from_slice(&buffer[..read]);
        }
    }
}

/// A response, once it is complete. All of ours have a `content-length`.
fn parse(bytes: &[u8]) -> io::Result<Option<Response>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| invalid("head is not UTF-8"))?;
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let status = status.ok_or_else(|| invalid("no status"))?;
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length").and_then(|(_, value)| value.parse().ok());
    let length: usize = length.ok_or_else(|| invalid("no content-length"))?;
    let Some(body) = bytes[end + 4..].get(..length) else { return Ok(None) };
    let body = String::from_utf8(body.to_vec()).map_err(|_| invalid("body is not UTF-8"))?;
    Ok(Some(Response { status, headers, body }))
}
