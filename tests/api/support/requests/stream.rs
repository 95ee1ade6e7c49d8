//! A strict reader of Server-Sent Events.

use reqwest::Response;
use serde_json::Value;
use tokio::time::timeout;

use crate::support::{WAIT_LIMIT, contract, reply::Reply};

/// One block of the stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SseMessage {
    pub id: Option<String>,
    pub event: Option<String>,
    pub data: Option<String>,
    pub retry: Option<String>,
    pub comment: Option<String>,
}

impl SseMessage {
    /// The data as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(self.data.as_deref().unwrap()).unwrap()
    }
}

/// An open stream.
pub struct EventStream {
    response: Response,
    buffer: String,
    /// The `Last-Event-ID` that a client would send now.
    pub last_id: String,
}

impl EventStream {
    /// Starts to read a response, which must be an event stream.
    pub async fn new(response: Response, path: &str) -> Self {
        if response.headers()["content-type"] != "text/event-stream" {
            panic!("{}", response.text().await.unwrap());
        }
        let head = Reply::of_head(&response);
        assert_eq!((head.status, head.header("cache-control")), (200, Some("no-store")));
        contract::check("GET", path, &head);
        let mut stream = Self { response, buffer: String::new(), last_id: String::new() };
        // The first block has the ID to continue from if the stream ends before the first event.
        let greeting = stream.next_block().await.unwrap();
        assert!(greeting.retry.is_some() && greeting.id.is_some() && greeting.data.is_none(), "{greeting:?}");
        stream
    }

    /// The next block. None when the stream has ended.
    pub async fn next_block(&mut self) -> Option<SseMessage> {
        loop {
            if let Some((block, rest)) = self.buffer.split_once("\n\n") {
                let message = read(block);
                self.buffer = rest.to_owned();
                if let Some(id) = &message.id {
                    self.last_id.clone_from(id);
                }
                return Some(message);
            }
            let chunk = timeout(WAIT_LIMIT, self.response.chunk()).await.expect("a block before the timeout");
            match chunk {
                Ok(Some(chunk)) => self.buffer.push_str(std::str::from_utf8(&chunk).unwrap()),
                // An interrupted stream counts as ended.
                Ok(None) | Err(_) => return None,
            }
        }
    }

    /// The next event, without keep-alive comments. None when the stream has ended.
    pub async fn event(&mut self) -> Option<SseMessage> {
        loop {
            let block = self.next_block().await?;
            if block.data.is_some() {
                if block.event.as_deref() != Some("error") {
                    contract::check_event(&block.json());
                }
                return Some(block);
            }
            assert!(block.comment.is_some(), "{block:?}");
        }
    }

    /// The next `count` events.
    pub async fn events(&mut self, count: usize) -> Vec<SseMessage> {
        let mut events = Vec::new();
        while events.len() < count {
            events.push(self.event().await.expect("an open stream"));
        }
        events
    }

    /// All events until the end of the stream, and the reason for the end, if given.
    pub async fn read_to_end(&mut self) -> (Vec<SseMessage>, Option<Value>) {
        let mut events = Vec::new();
        while let Some(message) = self.event().await {
            if message.event.as_deref() == Some("error") {
                let reason = message.json();
                assert!(
                    reason["detail"].as_str().unwrap().contains(';'),
                    "detail does not say what to do next: {reason}"
                );
                assert_eq!(self.event().await, None, "data after the reason");
                return (events, Some(reason));
            }
            events.push(message);
        }
        (events, None)
    }
}

fn read(block: &str) -> SseMessage {
    let mut message = SseMessage::default();
    for line in block.lines() {
        let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("no field: {line:?}"));
        let field = match name {
            "id" => &mut message.id,
            "event" => &mut message.event,
            "data" => &mut message.data,
            "retry" => &mut message.retry,
            "" => &mut message.comment,
            _ => panic!("unknown field: {line:?}"),
        };
        assert!(field.replace(value.to_owned()).is_none(), "duplicate field: {line:?}");
    }
    message
}
