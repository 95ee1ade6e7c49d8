//! Clients that log every complete response, and every request whose outcome they never learned.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::harness::{
    http::{Connection, Request, Response},
    random::Random,
};

/// How long a client retries before the server counts as hanging. Longer than any fault, and than PostgreSQL keeps the
/// transaction of a dead server (30 s).
const RETRY_LIMIT: Duration = Duration::from_secs(60);

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
pub struct RunState {
    pub nodes: Vec<Address>,
    started_at: Instant,
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
    pub response: Option<Response>,
}

impl RunState {
    pub fn new(nodes: usize) -> Arc<Self> {
        let node = || Address { now: Mutex::default(), served: AtomicU64::new(0) };
        let nodes = std::iter::repeat_with(node).take(nodes).collect();
        Arc::new(Self { nodes, started_at: Instant::now(), log: Mutex::default(), successes: AtomicUsize::new(0) })
    }

    pub fn set_address(&self, node: usize, address: Option<SocketAddr>) {
        *self.nodes[node].now.lock().unwrap() = address;
    }

    /// The current time, on the same clock as the nodes' `served`.
    pub fn now(&self) -> u64 {
        u64::try_from(self.started_at.elapsed().as_micros()).unwrap()
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
pub struct TimedResponse<A> {
    pub node: usize,
    /// Whether any byte of the request was written. If not, the node was unreachable.
    pub was_sent: bool,
    /// Just before the first byte of the request was written.
    pub sent_at: Instant,
    /// Just after the last byte of the response was read.
    pub received_at: Instant,
    pub response: A,
}

/// One client. It sends one request at a time.
pub struct Client {
    pub number: usize,
    pub random: Random,
    run_state: Arc<RunState>,
    /// The open connection to each node, with the address it was opened to.
    connections: Vec<Option<(SocketAddr, Connection)>>,
    /// How long the client waits for a response before it tries another node.
    pub timeout: Duration,
}

impl Client {
    pub fn new(run_state: &Arc<RunState>, number: usize, random: Random) -> Self {
        let (run_state, timeout) = (Arc::clone(run_state), Duration::from_secs(2));
        let connections = run_state.nodes.iter().map(|_| None).collect();
        Self { number, random, run_state, connections, timeout }
    }

    /// A second client with the same number.
    pub fn fork(&mut self) -> Self {
        Self::new(&self.run_state, self.number, self.random.fork())
    }

    pub fn node_count(&self) -> usize {
        self.run_state.nodes.len()
    }

    /// A random node, up or down: clients cannot tell.
    pub fn any_node(&mut self) -> usize {
        self.random.below(self.run_state.nodes.len())
    }

    /// The address of `node`; None while it is down.
    pub fn address(&self, node: usize) -> Option<SocketAddr> {
        *self.run_state.nodes[node].now.lock().unwrap()
    }

    /// Sends a request to `node` once. None if the outcome is unknown.
    pub async fn send(&mut self, node: usize, request: &Arc<Request>) -> Option<Response> {
        self.send_timed(node, request).await.response
    }

    async fn send_timed(&mut self, node: usize, request: &Arc<Request>) -> TimedResponse<Option<Response>> {
        let asked = self.send_unlogged(node, request).await;
        let entry = Entry { node, request: Arc::clone(request), response: asked.response.clone() };
        self.run_state.log.lock().unwrap().push(entry);
        asked
    }

    /// As [`Client::send`], but only successes are recorded: for callers whose requests are too many to log.
    pub async fn send_unlogged(&mut self, node: usize, request: &Request) -> TimedResponse<Option<Response>> {
        let begun = self.run_state.now();
        let asked = self.probe(node, request).await;
        if asked.response.as_ref().is_some_and(Response::is_success) {
            self.run_state.nodes[node].served.fetch_max(begun, Ordering::SeqCst);
            self.run_state.successes.fetch_add(1, Ordering::SeqCst);
        }
        asked
    }

    /// As [`Client::send`], but without any record: for callers that send many requests and expect refusals.
    pub async fn probe(&mut self, node: usize, request: &Request) -> TimedResponse<Option<Response>> {
        let (timeout, asked, mut sent) = (self.timeout, Instant::now(), None);
        let attempt = self.attempt(node, request, &mut sent);
        let response = tokio::time::timeout(timeout, attempt).await.ok().flatten();
        TimedResponse {
            node,
            was_sent: sent.is_some(),
            sent_at: sent.unwrap_or(asked),
            received_at: Instant::now(),
            response,
        }
    }

    async fn attempt(&mut self, node: usize, request: &Request, sent: &mut Option<Instant>) -> Option<Response> {
        let (address, mut connection) = self.connect(node).await?;
        *sent = Some(Instant::now());
        let response = connection.exchange(request).await.ok()?;
        if response.header("connection") != Some("close") {
            self.connections[node] = Some((address, connection));
        }
        Some(response)
    }

    /// Takes out the connection to `node`. A connection whose request is abandoned halfway is not reused.
    pub async fn connect(&mut self, node: usize) -> Option<(SocketAddr, Connection)> {
        let pooled = self.connections[node].take();
        let address = self.address(node)?;
        match pooled.filter(|(open_address, _)| *open_address == address) {
            Some(pooled) => Some(pooled),
            None => Some((address, Connection::open(address).await.ok()?)),
        }
    }

    /// Retries a request, at random nodes, until the response is final.
    pub async fn send_until_final(&mut self, request: &Arc<Request>) -> Response {
        self.send_until_final_timed(request).await.response
    }

    /// The same, with the times of the request that received the final response.
    pub async fn send_until_final_timed(&mut self, request: &Arc<Request>) -> TimedResponse<Response> {
        let deadline = Instant::now() + RETRY_LIMIT;
        loop {
            let node = self.any_node();
            let TimedResponse { was_sent, sent_at, received_at, response, .. } = self.send_timed(node, request).await;
            match response {
                Some(response) if !is_retryable(&response) => {
                    return TimedResponse { node, was_sent, sent_at, received_at, response };
                }
                // Shorter than Retry-After asks for, so that clients do not delay the run.
                _ => tokio::time::sleep(self.random.millis(5, 40)).await,
            }
            assert!(Instant::now() < deadline, "no response in {RETRY_LIMIT:?}: {request:?}");
        }
    }
}

/// Whether a response asks the client to retry.
pub fn is_retryable(response: &Response) -> bool {
    response.status == 503 || response.status == 409 && response.code() == "idempotency_in_progress"
}
