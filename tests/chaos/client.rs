//! Clients that log every complete answer, and every request of which they never learned what became.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    http::{Answer, Connection, Request},
    random::Random,
};

/// How long a client insists before that is a hang. Longer than any fault, and than what PostgreSQL lets
/// a dead server's transaction hold (30 s).
const INSISTENCE: Duration = Duration::from_secs(60);

/// What clients know of a node.
#[derive(Debug)]
pub struct Address {
    /// None while it is down.
    now: Mutex<Option<SocketAddr>>,
    /// When the latest request began that it has served, in microseconds of the run.
    served: AtomicU64,
}

/// What all clients of a run share.
#[derive(Debug)]
pub struct Field {
    pub nodes: Vec<Address>,
    begun: Instant,
    log: Mutex<Vec<Entry>>,
    /// How many successes there are in the log.
    successes: AtomicUsize,
}

/// One request that left, or could not.
#[derive(Clone, Debug)]
pub struct Entry {
    pub node: usize,
    pub request: Arc<Request>,
    /// None if it is not known what became of it.
    pub answer: Option<Answer>,
}

impl Field {
    pub fn new(nodes: usize) -> Arc<Self> {
        let node = || Address { now: Mutex::default(), served: AtomicU64::new(0) };
        let nodes = std::iter::repeat_with(node).take(nodes).collect();
        Arc::new(Self { nodes, begun: Instant::now(), log: Mutex::default(), successes: AtomicUsize::new(0) })
    }

    pub fn set_address(&self, node: usize, address: Option<SocketAddr>) {
        *self.nodes[node].now.lock().unwrap() = address;
    }

    /// The time, as the nodes' `served` counts it.
    pub fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap()
    }

    /// Whether a node has served a request that began after `since`.
    pub fn has_served(&self, node: usize, since: u64) -> bool {
        self.nodes[node].served.load(Ordering::SeqCst) > since
    }

    /// How many requests were served so far.
    pub fn served(&self) -> usize {
        self.successes.load(Ordering::SeqCst)
    }

    /// All that clients have logged so far.
    pub fn log(&self) -> Vec<Entry> {
        self.log.lock().unwrap().clone()
    }
}

/// An answer, and when it was asked for and given: all on one clock, whichever node it was.
#[derive(Clone, Debug)]
pub struct Asked<A> {
    pub node: usize,
    /// Whether any of the request was written. Else the node was not there.
    pub sent: bool,
    /// Just before the first byte of the request was written.
    pub begun: Instant,
    /// Just after the last byte of the answer was read.
    pub over: Instant,
    pub answer: A,
}

/// One client: it asks one thing at a time.
pub struct Client {
    pub number: usize,
    pub random: Random,
    field: Arc<Field>,
    /// The one to each node, and where that was when it was opened.
    connections: Vec<Option<(SocketAddr, Connection)>>,
    /// How long it waits for an answer before it asks another node.
    pub patience: Duration,
}

impl Client {
    pub fn new(field: &Arc<Field>, number: usize, random: Random) -> Self {
        let (field, patience) = (Arc::clone(field), Duration::from_secs(2));
        let connections = field.nodes.iter().map(|_| None).collect();
        Self { number, random, field, connections, patience }
    }

    /// A second one that works for the same purpose.
    pub fn fork(&mut self) -> Self {
        Self::new(&self.field, self.number, self.random.fork())
    }

    pub fn node_count(&self) -> usize {
        self.field.nodes.len()
    }

    /// Any node, up or down: a client does not know.
    pub fn any_node(&mut self) -> usize {
        self.random.below(self.field.nodes.len())
    }

    /// Where `node` is; nothing while it is down.
    pub fn address(&self, node: usize) -> Option<SocketAddr> {
        *self.field.nodes[node].now.lock().unwrap()
    }

    /// Asks `node` once; nothing if it is not known what became of it.
    pub async fn ask(&mut self, node: usize, request: &Arc<Request>) -> Option<Answer> {
        self.ask_timed(node, request).await.answer
    }

    async fn ask_timed(&mut self, node: usize, request: &Arc<Request>) -> Asked<Option<Answer>> {
        let asked = self.ask_unlogged(node, request).await;
        let entry = Entry { node, request: Arc::clone(request), answer: asked.answer.clone() };
        self.field.log.lock().unwrap().push(entry);
        asked
    }

    /// As [`Client::ask`], but only that it was served is noted: for whoever asks too often to have all of it kept.
    pub async fn ask_unlogged(&mut self, node: usize, request: &Request) -> Asked<Option<Answer>> {
        let begun = self.field.now();
        let asked = self.probe(node, request).await;
        if asked.answer.as_ref().is_some_and(Answer::is_success) {
            self.field.nodes[node].served.fetch_max(begun, Ordering::SeqCst);
            self.field.successes.fetch_add(1, Ordering::SeqCst);
        }
        asked
    }

    /// As [`Client::ask`], but not logged: for whoever asks often, and expects refusals.
    pub async fn probe(&mut self, node: usize, request: &Request) -> Asked<Option<Answer>> {
        let (patience, asked, mut sent) = (self.patience, Instant::now(), None);
        let attempt = self.attempt(node, request, &mut sent);
        let answer = tokio::time::timeout(patience, attempt).await.ok().flatten();
        Asked { node, sent: sent.is_some(), begun: sent.unwrap_or(asked), over: Instant::now(), answer }
    }

    async fn attempt(&mut self, node: usize, request: &Request, sent: &mut Option<Instant>) -> Option<Answer> {
        let (address, mut connection) = self.connect(node).await?;
        *sent = Some(Instant::now());
        let answer = connection.ask(request).await.ok()?;
        if answer.header("connection") != Some("close") {
            self.connections[node] = Some((address, connection));
        }
        Some(answer)
    }

    /// A connection to `node`, taken out: one that is given up in the middle is not used again.
    pub async fn connect(&mut self, node: usize) -> Option<(SocketAddr, Connection)> {
        let kept = self.connections[node].take();
        let address = self.address(node)?;
        match kept.filter(|(there, _)| *there == address) {
            Some(kept) => Some(kept),
            None => Some((address, Connection::open(address).await.ok()?)),
        }
    }

    /// Repeats a request, at any node, until the answer is one that repeating would not change.
    pub async fn insist(&mut self, request: &Arc<Request>) -> Answer {
        self.insist_timed(request).await.answer
    }

    /// The same, and when the request that was answered at last began and was over.
    pub async fn insist_timed(&mut self, request: &Arc<Request>) -> Asked<Answer> {
        let deadline = Instant::now() + INSISTENCE;
        loop {
            let node = self.any_node();
            let Asked { sent, begun, over, answer, .. } = self.ask_timed(node, request).await;
            match answer {
                Some(answer) if !says_later(&answer) => return Asked { node, sent, begun, over, answer },
                // Not as long as Retry-After says: the run is not to wait for its clients.
                _ => tokio::time::sleep(self.random.millis(5, 40)).await,
            }
            assert!(Instant::now() < deadline, "no answer in {INSISTENCE:?}: {request:?}");
        }
    }
}

/// Whether an answer asks to try again.
pub fn says_later(answer: &Answer) -> bool {
    answer.status == 503 || answer.status == 409 && answer.code() == "idempotency_in_progress"
}
