//! The event stream on a bare socket, read as the standard of Server-Sent Events has it.

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// What a server sends between two empty lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    pub id: Option<String>,
    pub event: String,
    /// Empty where there is nothing to tell but an id.
    pub data: String,
}

/// Why there is no stream.
#[derive(Debug)]
pub struct Refusal {
    pub status: u16,
    pub body: String,
}

/// An open stream.
pub struct EventStream {
    socket: TcpStream,
    /// As it came, in chunks.
    raw: Vec<u8>,
    /// What was in them and was not given yet.
    text: Vec<u8>,
}

impl EventStream {
    /// Asks for what comes after `last`.
    pub async fn open(address: SocketAddr, path: &str, secret: &str, last: &str) -> io::Result<Result<Self, Refusal>> {
        let mut socket = TcpStream::connect(address).await?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: chaos\r\nauthorization: Bearer {secret}\r\nlast-event-id: {last}\r\nconnection: close\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).await?;
        let mut raw = Vec::new();
        let head = loop {
            if let Some(end) = find(&raw, b"\r\n\r\n") {
                break raw.drain(..end + 4).collect::<Vec<u8>>();
            }
            if socket.read_buf(&mut raw).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or(io::ErrorKind::InvalidData)?;
        if status != 200 {
            socket.read_to_end(&mut raw).await?;
            return Ok(Err(Refusal { status, body: String::from_utf8_lossy(&raw).into_owned() }));
        }
        assert!(head.contains("text/event-stream") && head.contains("transfer-encoding: chunked"), "{head}");
        Ok(Ok(Self { socket, raw, text: Vec::new() }))
    }

    /// The next message; none when the stream has ended. What it ended in the middle of was not said.
    pub async fn next(&mut self) -> Option<Message> {
        loop {
            if let Some(end) = find(&self.text, b"\n\n") {
                let block: Vec<u8> = self.text.drain(..end + 2).collect();
                return Some(Message::parse(&String::from_utf8(block).expect("a stream of text")));
            }
            while let Some(chunk) = take_chunk(&mut self.raw) {
                self.text.extend(chunk);
            }
            if find(&self.text, b"\n\n").is_none() && self.socket.read_buf(&mut self.raw).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }
}

impl Message {
    fn parse(block: &str) -> Self {
        let mut message = Self::default();
        for line in block.lines() {
            match line.split_once(": ") {
                Some(("id", id)) => message.id = Some(id.to_owned()),
                Some(("event", event)) => event.clone_into(&mut message.event),
                Some(("data", data)) => message.data.push_str(data),
                // A comment, or how long to wait.
                _ => {}
            }
        }
        message
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// What is in the first chunk, once that is there as a whole.
fn take_chunk(raw: &mut Vec<u8>) -> Option<Vec<u8>> {
    let begin = find(raw, b"\r\n")? + 2;
    let size = std::str::from_utf8(&raw[..begin - 2]).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
    let end = begin + size.expect("a chunk's size");
    // The last one is empty, and nothing comes after it.
    if raw.len() < end + 2 || end == begin {
        return None;
    }
    let chunk = raw[begin..end].to_vec();
    raw.drain(..end + 2);
    Some(chunk)
}

#[test]
fn a_stream_is_read_by_its_chunks_wherever_they_are_cut() {
    let mut raw = b"8\r\nid: evt_\r\n13\r\n1\nevent: a\ndata: {}\r\n2\r\n\n\n\r\n5\r\n: hi\n".to_vec();
    let text: Vec<u8> = std::iter::from_fn(|| take_chunk(&mut raw)).flatten().collect();
    let message = Message::parse(std::str::from_utf8(&text).unwrap());
    assert_eq!(message, Message { id: Some("evt_1".into()), event: "a".into(), data: "{}".into() });
    assert_eq!(raw, b"5\r\n: hi\n");
}
