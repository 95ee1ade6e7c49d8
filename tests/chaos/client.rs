//! Clients that log every complete answer, and every request of which they never learned what became.

use std::{
    collections::HashMap,
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

/// One client: it asks one thing at a time.
pub struct Client {
    pub number: usize,
    pub random: Random,
    field: Arc<Field>,
    connections: HashMap<SocketAddr, Connection>,
    /// How long it waits for an answer before it asks another node.
    pub patience: Duration,
}

impl Client {
    pub fn new(field: &Arc<Field>, number: usize, random: Random) -> Self {
        let (field, patience) = (Arc::clone(field), Duration::from_secs(2));
        Self { number, random, field, connections: HashMap::new(), patience }
    }

    /// A second one that works for the same purpose.
    pub fn fork(&mut self) -> Self {
        Self::new(&self.field, self.number, self.random.fork())
    }

    /// Any node, up or down: a client does not know.
    pub fn any_node(&mut self) -> usize {
        self.random.below(self.field.nodes.len())
    }

    /// Asks `node` once; nothing if it is not known what became of it.
    pub async fn ask(&mut self, node: usize, request: &Arc<Request>) -> Option<Answer> {
        let begun = self.field.now();
        let answer = tokio::time::timeout(self.patience, self.attempt(node, request)).await.ok().flatten();
        if answer.as_ref().is_some_and(Answer::is_success) {
            self.field.nodes[node].served.fetch_max(begun, Ordering::SeqCst);
            self.field.successes.fetch_add(1, Ordering::SeqCst);
        }
        let entry = Entry { node, request: Arc::clone(request), answer: answer.clone() };
        self.field.log.lock().unwrap().push(entry);
        answer
    }

    async fn attempt(&mut self, node: usize, request: &Request) -> Option<Answer> {
        let address = (*self.field.nodes[node].now.lock().unwrap())?;
        // Taken out, so that one that is given up in the middle is not used again.
        let mut connection = match self.connections.remove(&address) {
            Some(connection) => connection,
            None => Connection::open(address).await.ok()?,
        };
        let answer = connection.ask(request).await.ok()?;
        if answer.header("connection") != Some("close") {
            self.connections.insert(address, connection);
        }
        Some(answer)
    }

    /// Repeats a request, at any node, until the answer is one that repeating would not change.
    pub async fn insist(&mut self, request: &Arc<Request>) -> Answer {
        let deadline = Instant::now() + INSISTENCE;
        loop {
            let node = self.any_node();
            let answer = self.ask(node, request).await;
            match answer {
                Some(answer) if !says_later(&answer) => return answer,
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
