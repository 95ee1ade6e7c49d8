//! The event stream: a reader that follows it, and continues at another node with `Last-Event-ID` after a cut, receives
//! each sealed event of the project once, in order.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use cloudapi::base::{id::EventId, runtime::clock::Clock};
use futures_util::future::{BoxFuture, LocalBoxFuture};
use serde_json::Value;
use tokio::time::timeout;

use super::{Invariant, RunEnd, Verdict, sealed::Sealed};
use crate::{
    harness::{client::Client, stream::EventStream},
    servers::cluster::{Cluster, Credentials},
};

/// Three readers: of all events with a key, of all events with a session, and of one event type.
const READERS: usize = 3;
const ONE_TYPE: &str = "token.created";

/// Enough events to notice a missing one, and enough streams in which it can get lost.
const MIN_EVENTS: usize = 300;
const MIN_STREAMS: usize = 30;

/// How long no event may arrive while one is missing.
const LONGEST_SILENCE: Duration = Duration::from_secs(15);

/// Problem codes with which a server ends or refuses a stream, after which readers try another node.
const TRANSIENT_ERRORS: [&str; 5] =
    ["overloaded", "database_unavailable", "auth_unavailable", "timeout", "limit_reached"];

pub struct Followed {
    credentials: Credentials,
    /// Readers by client number.
    readers: Mutex<BTreeMap<usize, Reader>>,
    /// How many events all readers have seen so far, and on how many streams.
    seen: AtomicUsize,
    streams: AtomicUsize,
}

/// The state of one reader.
#[derive(Clone, Debug)]
struct Reader {
    path: String,
    secret: String,
    only: Option<&'static str>,
    /// The `Last-Event-ID` to continue from.
    last: String,
    seen: Vec<(String, String, Value)>,
    streams: usize,
    /// How many streams ended before the reader left.
    cut: usize,
    wrong: Vec<String>,
}

impl Followed {
    pub fn new(credentials: &Credentials) -> Self {
        let none = AtomicUsize::default;
        Self { credentials: credentials.clone(), readers: Mutex::default(), seen: none(), streams: none() }
    }

    fn reader(&self, index: usize) -> Reader {
        let Credentials { session, key, project } = &self.credentials;
        let (secret, query, only) = match index % READERS {
            0 => (key, String::new(), None),
            1 => (session, format!("?project_id={project}"), None),
            _ => (key, format!("?type={ONE_TYPE}"), Some(ONE_TYPE)),
        };
        // A point before the first event, so that the reader receives everything.
        let before = Clock::system().now().minus(Duration::from_secs(3600)).unix_millis();
        Reader {
            path: format!("/v1/events/stream{query}"),
            secret: secret.clone(),
            only,
            last: EventId::min_at(before.try_into().unwrap()).to_string(),
            seen: Vec::new(),
            streams: 0,
            cut: 0,
            wrong: Vec::new(),
        }
    }
}

impl Reader {
    /// Follows at a random node, until the stream is cut, no event arrives for a while, or enough events have arrived.
    async fn follow(&mut self, client: &mut Client) {
        let wait_limit = client.random.millis(200, 2000);
        let enough = self.seen.len() + 1 + client.random.below(150);
        let node = client.any_node();
        let opening = async {
            let address = client.address(node)?;
            EventStream::open(address, &self.path, &self.secret, &self.last).await.ok()
        };
        let mut stream = match timeout(wait_limit, opening).await.ok().flatten() {
            Some(Ok(stream)) => stream,
            other => {
                if let Some(Err(refusal)) = other
                    && refusal.status != 503
                {
                    self.wrong.push(format!("no stream for {}: {} {}", self.path, refusal.status, refusal.body));
                }
                return tokio::time::sleep(client.random.millis(5, 40)).await;
            }
        };
        self.streams += 1;
        while self.seen.len() < enough {
            let Ok(next) = timeout(wait_limit, stream.next()).await else { return };
            let Some(message) = next else {
                self.cut += 1;
                return;
            };
            self.last = message.id.unwrap_or_else(|| self.last.clone());
            let data: Value = serde_json::from_str(&message.data).unwrap_or_default();
            match message.event.as_str() {
                "" => {}
                "error" => {
                    self.cut += 1;
                    if !TRANSIENT_ERRORS.contains(&data["code"].as_str().unwrap_or_default()) {
                        self.wrong.push(format!("a stream ended with {data}"));
                    }
                    return;
                }
                _ => self.seen.push((self.last.clone(), message.event, data)),
            }
        }
    }

    fn position(&self) -> EventId {
        self.last.parse().expect("an event ID")
    }

    /// Continues until the reader has received everything up to `last`.
    async fn read_up_to(&mut self, last: EventId, cluster: &Cluster) {
        let mut client = cluster.client(self.streams as u64);
        let (mut seen, mut since) = (self.seen.len(), Instant::now());
        while self.position() < last && since.elapsed() < LONGEST_SILENCE {
            self.follow(&mut client).await;
            if self.seen.len() > seen {
                (seen, since) = (self.seen.len(), Instant::now());
            }
        }
    }

    /// The reader has seen exactly the sealed events, each once and in order.
    fn check(&self, sealed: &[Sealed], last: EventId, verdict: &mut Verdict) {
        let what = format!("the reader of {}", self.path);
        verdict.require(self.position() >= last, || format!("{what} stays at {}, before {last}", self.last));
        for wrong in &self.wrong {
            verdict.require(false, || wrong.clone());
        }
        let wanted = |event: &&Sealed| self.only.is_none_or(|only| only == event.action);
        let expected: Vec<&Sealed> = sealed.iter().filter(wanted).collect();
        let seen = self.seen.len();
        verdict.require(seen == expected.len(), || format!("{what} saw {seen} of {} events", expected.len()));
        let first = self.seen.iter().zip(&expected).find(|((id, kind, event), sealed)| {
            *id != sealed.id.to_string() || *kind != sealed.action || !sealed.is_recorded_by(event)
        });
        verdict.require(first.is_none(), || match first {
            Some(((id, kind, _), sealed)) if *id != sealed.id.to_string() => {
                format!("{what} received {id}, {kind}, instead of {}, {}", sealed.id, sealed.action)
            }
            _ => format!("{what} received different content: {first:?}"),
        });
    }
}

impl Invariant for Followed {
    fn clients(&self) -> usize {
        READERS
    }

    fn act<'a>(&'a self, client: &'a mut Client) -> BoxFuture<'a, ()> {
        Box::pin(async {
            let known = self.readers.lock().unwrap().remove(&client.number);
            let mut reader = known.unwrap_or_else(|| self.reader(client.number));
            let seen = reader.seen.len();
            reader.follow(client).await;
            self.seen.fetch_add(reader.seen.len() - seen, Ordering::SeqCst);
            self.streams.fetch_add(1, Ordering::SeqCst);
            self.readers.lock().unwrap().insert(client.number, reader);
        })
    }

    fn is_exercised(&self) -> bool {
        self.seen.load(Ordering::SeqCst) >= MIN_EVENTS && self.streams.load(Ordering::SeqCst) >= MIN_STREAMS
    }

    fn check<'a>(&'a self, end: &'a RunEnd<'a>) -> LocalBoxFuture<'a, Verdict> {
        Box::pin(async {
            let mut verdict = Verdict::default();
            let mut readers: Vec<Reader> = self.readers.lock().unwrap().values().cloned().collect();
            for reader in &mut readers {
                let last_wanted = async || {
                    let wanted = |event: &Sealed| reader.only.is_none_or(|only| only == event.action);
                    let sealed = Sealed::all_of(&end.cluster.db, &self.credentials.project).await;
                    sealed.into_iter().rfind(wanted).expect("an event").id
                };
                let last = last_wanted().await;
                reader.read_up_to(last, end.cluster).await;
                // The reader may have seen some of the events sealed meanwhile.
                let mut sealed = Sealed::all_of(&end.cluster.db, &self.credentials.project).await;
                sealed.retain(|event| event.id <= reader.position());
                reader.check(&sealed, last, &mut verdict);
            }
            let count = |figure: fn(&Reader) -> usize| readers.iter().map(figure).sum::<usize>();
            verdict.record("events streamed", count(|reader| reader.seen.len()));
            verdict.record("streams", count(|reader| reader.streams));
            verdict.record("streams that were cut", count(|reader| reader.cut));
            verdict
        })
    }
}
