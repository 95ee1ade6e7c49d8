//! Clients that log every complete response, and every request whose outcome they never learned.

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

/// How long a client retries before the server counts as hanging. Longer than any fault, and than PostgreSQL keeps the
/// transaction of a dead server (30 s).
const INSISTENCE: Duration = Duration::from_secs(60);

/// What clients know about a node.
#[derive(Debug)]
pub struct Address {
    /// None while the node is down.
    now: Mutex<Option<SocketAddr>>,
    /// When the latest served request began, in microseconds since the start of the run.
    served: AtomicU64,
}

/// State shared by all clients of a run.
#[derive(Debug)]
pub struct Field {
    pub nodes: Vec<Address>,
    begun: Instant,
    log: Mutex<Vec<Entry>>,
    /// How many successes the log contains.
    successes: AtomicUsize,
}

/// One request that was sent, or could not be sent.
#[derive(Clone, Debug)]
pub struct Entry {
    pub node: usize,
    pub request: Arc<Request>,
    /// None if the outcome is unknown.
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

    /// The current time, on the same clock as the nodes' `served`.
    pub fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap()
    }

    /// Whether a node has served a request that began after `since`.
    pub fn has_served(&self, node: usize, since: u64) -> bool {
        self.nodes[node].served.load(Ordering::SeqCst) > since
    }

    /// How many requests have been served so far.
    pub fn served(&self) -> usize {
        self.successes.load(Ordering::SeqCst)
    }

    /// All log entries so far.
    pub fn log(&self) -> Vec<Entry> {
        self.log.lock().unwrap().clone()
    }
}

/// A response with the times of its request and its end, on one clock for all nodes.
#[derive(Clone, Debug)]
pub struct Asked<A> {
    pub node: usize,
    /// Whether any byte of the request was written. If not, the node was unreachable.
    pub sent: bool,
    /// Just before the first byte of the request was written.
    pub begun: Instant,
    /// Just after the last byte of the response was read.
    pub over: Instant,
    pub answer: A,
}

/// One client. It sends one request at a time.
pub struct Client {
    pub number: usize,
    pub random: Random,
    field: Arc<Field>,
    /// The open connection to each node, with the address it was opened to.
    connections: Vec<Option<(SocketAddr, Connection)>>,
    /// How long the client waits for a response before it tries another node.
    pub patience: Duration,
}

impl Client {
    pub fn new(field: &Arc<Field>, number: usize, random: Random) -> Self {
        let (field, patience) = (Arc::clone(field), Duration::from_secs(2));
        let connections = field.nodes.iter().map(|_| None).collect();
        Self { number, random, field, connections, patience }
    }

    /// A second client with the same number.
    pub fn fork(&mut self) -> Self {
        Self::new(&self.field, self.number, self.random.fork())
    }

    pub fn node_count(&self) -> usize {
        self.field.nodes.len()
    }

    /// A random node, up or down: clients cannot tell.
    pub fn any_node(&mut self) -> usize {
        self.random.below(self.field.nodes.len())
    }

    /// The address of `node`; None while it is down.
    pub fn address(&self, node: usize) -> Option<SocketAddr> {
        *self.field.nodes[node].now.lock().unwrap()
    }

    /// Sends a request to `node` once. None if the outcome is unknown.
    pub async fn ask(&mut self, node: usize, request: &Arc<Request>) -> Option<Answer> {
        self.ask_timed(node, request).await.answer
    }

    async fn ask_timed(&mut self, node: usize, request: &Arc<Request>) -> Asked<Option<Answer>> {
        let asked = self.ask_unlogged(node, request).await;
        let entry = Entry { node, request: Arc::clone(request), answer: asked.answer.clone() };
        self.field.log.lock().unwrap().push(entry);
        asked
    }

    /// As [`Client::ask`], but only successes are recorded: for callers whose requests are too many to log.
    pub async fn ask_unlogged(&mut self, node: usize, request: &Request) -> Asked<Option<Answer>> {
        let begun = self.field.now();
        let asked = self.probe(node, request).await;
        if asked.answer.as_ref().is_some_and(Answer::is_success) {
            self.field.nodes[node].served.fetch_max(begun, Ordering::SeqCst);
            self.field.successes.fetch_add(1, Ordering::SeqCst);
        }
        asked
    }

    /// As [`Client::ask`], but without any record: for callers that send many requests and expect refusals.
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

    /// Takes out the connection to `node`. A connection whose request is abandoned halfway is not reused.
    pub async fn connect(&mut self, node: usize) -> Option<(SocketAddr, Connection)> {
        let kept = self.connections[node].take();
        let address = self.address(node)?;
        match kept.filter(|(there, _)| *there == address) {
            Some(kept) => Some(kept),
            None => Some((address, Connection::open(address).await.ok()?)),
        }
    }

    /// Retries a request, at random nodes, until the response is final.
    pub async fn insist(&mut self, request: &Arc<Request>) -> Answer {
        self.insist_timed(request).await.answer
    }

    /// The same, with the times of the request that received the final response.
    pub async fn insist_timed(&mut self, request: &Arc<Request>) -> Asked<Answer> {
        let deadline = Instant::now() + INSISTENCE;
        loop {
            let node = self.any_node();
            let Asked { sent, begun, over, answer, .. } = self.ask_timed(node, request).await;
            match answer {
                Some(answer) if !says_later(&answer) => return Asked { node, sent, begun, over, answer },
                // Shorter than Retry-After asks for, so that clients do not delay the run.
                _ => tokio::time::sleep(self.random.millis(5, 40)).await,
            }
            assert!(Instant::now() < deadline, "no response in {INSISTENCE:?}: {request:?}");
        }
    }
}

/// Whether a response asks the client to retry.
pub fn says_later(answer: &Answer) -> bool {
    answer.status == 503 || answer.status == 409 && answer.code() == "idempotency_in_progress"
}
