//! A strict reader of Server-Sent Events.

use reqwest::Response;
use serde_json::Value;
use tokio::time::timeout;

use super::{PATIENCE, contract, reply::Reply};

/// One block of the stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Told {
    pub id: Option<String>,
    pub event: Option<String>,
    pub data: Option<String>,
    pub retry: Option<String>,
    pub comment: Option<String>,
}

impl Told {
    /// The data as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(self.data.as_deref().unwrap()).unwrap()
    }
}

/// An open stream.
pub struct EventStream {
    response: Response,
    unread: String,
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
        let mut stream = Self { response, unread: String::new(), last_id: String::new() };
        // The first block has the ID to continue from if the stream ends before the first event.
        let greeting = stream.block().await.unwrap();
        assert!(greeting.retry.is_some() && greeting.id.is_some() && greeting.data.is_none(), "{greeting:?}");
        stream
    }

    /// The next block. None when the stream has ended.
    pub async fn block(&mut self) -> Option<Told> {
        loop {
            if let Some((block, rest)) = self.unread.split_once("\n\n") {
                let told = read(block);
                self.unread = rest.to_owned();
                if let Some(id) = &told.id {
                    self.last_id.clone_from(id);
                }
                return Some(told);
            }
            let chunk = timeout(PATIENCE, self.response.chunk()).await.expect("a block before the timeout");
            match chunk {
                Ok(Some(chunk)) => self.unread.push_str(std::str::from_utf8(&chunk).unwrap()),
                // An interrupted stream counts as ended.
                Ok(None) | Err(_) => return None,
            }
        }
    }

    /// The next event, without keep-alive comments. None when the stream has ended.
    pub async fn event(&mut self) -> Option<Told> {
        loop {
            let block = self.block().await?;
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
    pub async fn events(&mut self, count: usize) -> Vec<Told> {
        let mut events = Vec::new();
        while events.len() < count {
            events.push(self.event().await.expect("an open stream"));
        }
        events
    }

    /// All events until the end of the stream, and the reason for the end, if given.
    pub async fn read_to_end(&mut self) -> (Vec<Told>, Option<Value>) {
        let mut events = Vec::new();
        while let Some(told) = self.event().await {
            if told.event.as_deref() == Some("error") {
                let reason = told.json();
                assert!(
                    reason["detail"].as_str().unwrap().contains(';'),
                    "detail does not say what to do next: {reason}"
                );
                assert_eq!(self.event().await, None, "data after the reason");
                return (events, Some(reason));
            }
            events.push(told);
        }
        (events, None)
    }
}

fn read(block: &str) -> Told {
    let mut told = Told::default();
    for line in block.lines() {
        let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("no field: {line:?}"));
        let field = match name {
            "id" => &mut told.id,
            "event" => &mut told.event,
            "data" => &mut told.data,
            "retry" => &mut told.retry,
            "" => &mut told.comment,
            _ => panic!("unknown field: {line:?}"),
        };
        assert!(field.replace(value.to_owned()).is_none(), "duplicate field: {line:?}");
    }
    told
}
