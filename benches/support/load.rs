//! Clients that send requests as fast as they receive responses, or at a given rate. All of them run in one thread,
//! which leaves the other cores to the servers.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::LocalSet,
};

use super::Result;

/// Maximum time until an event stream begins.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(20);
/// How many connections send requests concurrently.
pub const CONNECTIONS: usize = 32;

/// Header of a request with a JSON body.
pub const JSON: &str = "content-type: application/json\r\n";

/// Returns the request with a given number.
pub type Requests = Arc<dyn Fn(u64) -> Arc<[u8]> + Send + Sync>;

/// The same request every time.
pub fn always(request: Vec<u8>) -> Requests {
    let request: Arc<[u8]> = request.into();
    Arc::new(move |_| Arc::clone(&request))
}

/// The bytes of a request.
pub fn request(method: &str, path: &str, secret: &str, more: &str, body: &str) -> Vec<u8> {
    let length = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    format!("{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {secret}\r\n{more}{length}\r\n{body}")
        .into_bytes()
}

/// Responses per second, if each connection sends its next request after each response.
pub fn throughput(address: SocketAddr, status: u16, requests: &Requests, time: Duration) -> Result<f64> {
    let (responses, time) = count_responses(address, status, requests, time)?;
    Ok(responses as f64 / time.as_secs_f64())
}

/// The number of responses and the elapsed time, if each connection sends its next request after each response.
pub fn count_responses(
    address: SocketAddr,
    status: u16,
    requests: &Requests,
    time: Duration,
) -> Result<(u64, Duration)> {
    let requests = Arc::clone(requests);
    in_one_thread(move || async move {
        let began = Instant::now();
        let mut tasks = Vec::new();
        for number in 0..CONNECTIONS {
            let requests = Arc::clone(&requests);
            tasks.push(tokio::task::spawn_local(async move {
                let mut client = Client::open(address).await?;
                let (mut done, mut number) = (0_u64, number as u64);
                while began.elapsed() < time {
                    client.send(&requests(number), status).await?;
                    done += 1;
                    number += CONNECTIONS as u64;
                }
                Ok::<u64, Box<dyn std::error::Error + Send + Sync>>(done)
            }));
        }
        let mut done = 0;
        for task in tasks {
            done += task.await??;
        }
        Ok((done, began.elapsed()))
    })
}

/// Sorted response times in microseconds, at a fixed rate of requests per second. Times start when a request should
/// have been sent.
pub fn latencies(address: SocketAddr, status: u16, requests: &Requests, rate: f64, time: Duration) -> Result<Vec<u64>> {
    let requests = Arc::clone(requests);
    in_one_thread(move || async move {
        let began = Instant::now() + Duration::from_millis(20);
        let each = Duration::from_secs_f64(CONNECTIONS as f64 / rate);
        let mut tasks = Vec::new();
        for number in 0..CONNECTIONS {
            let requests = Arc::clone(&requests);
            tasks.push(tokio::task::spawn_local(async move {
                let mut client = Client::open(address).await?;
                let mut latencies = Vec::new();
                let mut due = began + each.mul_f64(number as f64 / CONNECTIONS as f64);
                while due < began + time {
                    // The timer has a resolution of a millisecond. Requests of the same millisecond are sent together.
                    let now = Instant::now();
                    if due > now {
                        tokio::time::sleep_until(due.into()).await;
                    }
                    let sent = due.max(Instant::now().min(due + Duration::from_millis(1)));
                    client.send(&requests(latencies.len() as u64 * CONNECTIONS as u64 + number as u64), status).await?;
                    latencies.push(u64::try_from(sent.elapsed().as_micros())?);
                    due += each;
                }
                Ok::<Vec<u64>, Box<dyn std::error::Error + Send + Sync>>(latencies)
            }));
        }
        let mut all = Vec::new();
        for task in tasks {
            all.extend(task.await??);
        }
        all.sort_unstable();
        Ok(all)
    })
}

/// Sends each request once.
pub fn once_each(address: SocketAddr, status: u16, requests: &Requests, count: u64) -> Result<()> {
    let requests = Arc::clone(requests);
    in_one_thread(move || async move {
        let mut tasks = Vec::new();
        for first in 0..CONNECTIONS as u64 {
            let requests = Arc::clone(&requests);
            tasks.push(tokio::task::spawn_local(async move {
                let mut client = Client::open(address).await?;
                let mut number = first;
                while number < count {
                    client.send(&requests(number), status).await?;
                    number += CONNECTIONS as u64;
                }
                Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
            }));
        }
        for task in tasks {
            task.await??;
        }
        Ok(())
    })
}

fn in_one_thread<T, F>(work: impl FnOnce() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, work())
}

/// One connection.
pub struct Client {
    stream: TcpStream,
    response: Vec<u8>,
}

impl Client {
    pub async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, response: Vec::with_capacity(16 * 1024) })
    }

    /// Sends a request and reads its response, which must have this status. Returns the body.
    pub async fn send(&mut self, request: &[u8], status: u16) -> Result<&[u8]> {
        self.stream.write_all(request).await?;
        self.response.clear();
        let (head, length) = loop {
            if self.stream.read_buf(&mut self.response).await? == 0 {
                return Err("the server closed the connection".into());
            }
            let Some(head) = self.response.windows(4).position(|part| part == b"\r\n\r\n") else { continue };
            break (head + 4, content_length(&self.response[..head]).ok_or("a response without content-length")?);
        };
        while self.response.len() < head + length {
            if self.stream.read_buf(&mut self.response).await? == 0 {
                return Err("the server closed the connection".into());
            }
        }
        if self.response.get(9..12) != Some(status.to_string().as_bytes()) {
            return Err(String::from_utf8_lossy(&self.response).into_owned().into());
        }
        Ok(&self.response[head..])
    }

    /// A header of the last response.
    pub fn header(&self, name: &str) -> Option<&str> {
        let head = self.response.windows(4).position(|part| part == b"\r\n\r\n")?;
        let lines = std::str::from_utf8(self.response.get(..head)?).ok()?.lines();
        let mut headers = lines.filter_map(|line| line.split_once(": "));
        headers.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Creates an object, and returns the response.
    pub async fn create(&mut self, path: &str, secret: &str, body: &Value) -> Result<Value> {
        let created = self.send(&request("POST", path, secret, JSON, &body.to_string()), 201).await?;
        Ok(serde_json::from_slice(created)?)
    }
}

/// A text in an object.
pub fn text(object: &Value, member: &str) -> Result<String> {
    Ok(object[member].as_str().ok_or_else(|| format!("no text '{member}' in a response"))?.to_owned())
}

/// Opens an event stream, and waits for its first message: from there on it has all events.
pub async fn open_stream(address: SocketAddr, key: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(&request("GET", "/v1/events/stream", key, "", "")).await?;
    let mut first = Vec::with_capacity(2048);
    while !first.ends_with(b"\n\n\r\n") {
        let read = tokio::time::timeout(BEGIN_TIMEOUT, stream.read_buf(&mut first)).await??;
        if read == 0 || !first.starts_with(b"HTTP/1.1 200") {
            return Err(String::from_utf8_lossy(&first).into_owned().into());
        }
    }
    Ok(stream)
}

fn content_length(head: &[u8]) -> Option<usize> {
    let name = b"\r\ncontent-length: ";
    let at = head.windows(name.len()).position(|part| part.eq_ignore_ascii_case(name))? + name.len();
    let digits = head[at..].iter().take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0')))
}
