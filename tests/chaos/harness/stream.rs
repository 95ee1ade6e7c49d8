//! The event stream on a plain socket, parsed as Server-Sent Events.

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// One message of the stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    pub id: Option<String>,
    pub event: String,
    /// Empty if the message has only an ID.
    pub data: String,
}

/// An error response instead of a stream.
#[derive(Debug)]
pub struct RejectedStream {
    pub status: u16,
    pub body: String,
}

/// An open stream.
pub struct EventStream {
    socket: TcpStream,
    /// Received bytes, in chunks.
    raw: Vec<u8>,
    /// Decoded text that was not returned yet.
    text: Vec<u8>,
}

impl EventStream {
    /// Opens a stream of the events after `last`.
    pub async fn open(
        address: SocketAddr,
        path: &str,
        secret: &str,
        last: &str,
    ) -> io::Result<Result<Self, RejectedStream>> {
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
            return Ok(Err(RejectedStream { status, body: String::from_utf8_lossy(&raw).into_owned() }));
        }
        assert!(head.contains("text/event-stream") && head.contains("transfer-encoding: chunked"), "{head}");
        Ok(Ok(Self { socket, raw, text: Vec::new() }))
    }

    /// The next message. None when the stream has ended; an incomplete message at its end is dropped.
    pub async fn next(&mut self) -> Option<Message> {
        loop {
            if let Some(end) = find(&self.text, b"\n\n") {
                let block: Vec<u8> = self.text.drain(..end + 2).collect();
                return Some(Message::parse(&String::from_utf8(block).expect("a stream of UTF-8")));
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
                // A comment, or the retry time.
                _ => {}
            }
        }
        message
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// The content of the first chunk, once it is complete.
fn take_chunk(raw: &mut Vec<u8>) -> Option<Vec<u8>> {
    let begin = find(raw, b"\r\n")? + 2;
    let size = std::str::from_utf8(&raw[..begin - 2]).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
    let end = begin + size.expect("a chunk size");
    // The last chunk is empty.
    if raw.len() < end + 2 || end == begin {
        return None;
    }
    let chunk = raw[begin..end].to_vec();
    raw.drain(..end + 2);
    Some(chunk)
}

#[test]
fn stream_is_parsed_wherever_its_chunks_are_cut() {
    let mut raw = b"8\r\nid: evt_\r\n13\r\n1\nevent: a\ndata: {}\r\n2\r\n\n\n\r\n5\r\n: hi\n".to_vec();
    let text: Vec<u8> = std::iter::from_fn(|| take_chunk(&mut raw)).flatten().collect();
    let message = Message::parse(std::str::from_utf8(&text).unwrap());
    assert_eq!(message, Message { id: Some("evt_1".into()), event: "a".into(), data: "{}".into() });
    assert_eq!(raw, b"5\r\n: hi\n");
}
