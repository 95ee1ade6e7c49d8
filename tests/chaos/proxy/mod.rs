//! The connection between a server and PostgreSQL, which can fail: one proxy for each node.

mod frames;
mod link;
mod rounds;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    net::{TcpListener, UnixStream},
    sync::{oneshot, watch},
    task::JoinHandle,
};

/// The state of the network between a node and PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkCondition {
    Normal,
    /// New connections are refused.
    Refusing,
    /// All data is delayed by this much, in each direction.
    Slow(Duration),
    /// Requests of the server arrive, responses of PostgreSQL do not. TCP cannot lose bytes and continue, so a
    /// connection that lost some is cut when the weather changes.
    Blackholed,
    /// Notifications of PostgreSQL do not arrive; everything else does.
    NotificationsLost,
}

/// A point in a write's transaction at which to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrapPoint {
    /// PostgreSQL has responded to this many round trips after BEGIN, which is number 0. The last response is withheld
    /// from the server.
    RoundTrip(usize),
    /// PostgreSQL has committed, and the response is withheld from the server.
    Committed,
    /// The same for a flush of usage.
    Flushed,
}

/// The transactions in which a server flushes its usage counters.
#[derive(Debug, Default)]
pub struct Flushes {
    /// Whether every flush is sent twice.
    twice: AtomicBool,
    /// For each kind of flush, whether the next one is a retry.
    is_again: [AtomicBool; rounds::WRITES_USAGE.len()],
    /// How many flushes were committed while their response was lost.
    doubled: AtomicUsize,
}

impl Flushes {
    /// How many flushes were committed while their response was lost, so that the server sent them again.
    pub fn doubled(&self) -> usize {
        self.doubled.load(Ordering::SeqCst)
    }

    /// Whether to lose the response to the current flush: every other time.
    fn is_to_be_doubled(&self, kind: usize) -> bool {
        self.twice.load(Ordering::SeqCst) && !self.is_again[kind].fetch_xor(true, Ordering::SeqCst)
    }
}

/// What a triggered trap has caught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caught {
    /// Whether it was a COMMIT.
    pub committed: bool,
}

struct Trap {
    point: TrapPoint,
    sender: oneshot::Sender<Caught>,
}

struct Shared {
    /// The socket of the PostgreSQL for new connections.
    upstream: Mutex<PathBuf>,
    condition: watch::Sender<NetworkCondition>,
    /// Which connections are cut. Incrementing a counter cuts them.
    cuts: watch::Sender<Cuts>,
    trap: Mutex<Option<Trap>>,
    /// How many notifications were lost.
    lost: AtomicUsize,
    flushes: Arc<Flushes>,
}

/// How often connections were cut: those of the pool, and the one that holds the lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cuts {
    pool: u64,
    keeper: u64,
}

/// One node's connection to PostgreSQL. Dropping it closes the listener and cuts all connections.
pub struct Proxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    pub async fn start(upstream: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            upstream: Mutex::new(upstream),
            condition: watch::Sender::new(NetworkCondition::Normal),
            cuts: watch::Sender::default(),
            trap: Mutex::default(),
            lost: AtomicUsize::new(0),
            flushes: Arc::default(),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { address, shared, accepting }
    }

    pub fn set(&self, condition: NetworkCondition) {
        self.shared.condition.send_replace(condition);
    }

    /// Cuts all open connections.
    pub fn cut(&self) {
        self.cut_pool();
        self.cut_keeper();
    }

    /// Cuts all connections except the one that holds the lease.
    pub fn cut_pool(&self) {
        self.shared.cuts.send_modify(|cuts| cuts.pool += 1);
    }

    /// Cuts the connection that holds the lease.
    pub fn cut_keeper(&self) {
        self.shared.cuts.send_modify(|cuts| cuts.keeper += 1);
    }

    /// Directs new connections to another PostgreSQL. Open connections stay where they are.
    pub fn redirect(&self, upstream: PathBuf) {
        *self.shared.upstream.lock().unwrap() = upstream;
    }

    /// From now on, makes the server send every flush twice: the first is committed, its connection is cut before the
    /// server gets the response, and the second arrives.
    pub fn double_flushes(&self) -> Arc<Flushes> {
        self.shared.flushes.twice.store(true, Ordering::SeqCst);
        Arc::clone(&self.shared.flushes)
    }

    /// How many notifications were lost so far.
    pub fn lost_notifications(&self) -> usize {
        self.shared.lost.load(Ordering::SeqCst)
    }

    /// Stops the next transaction that reaches `point`: its responses are withheld from then on, and the returned
    /// receiver is notified.
    pub fn trap(&self, point: TrapPoint) -> oneshot::Receiver<Caught> {
        let (sender, receiver) = oneshot::channel();
        *self.shared.trap.lock().unwrap() = Some(Trap { point, sender });
        receiver
    }

    /// Stops a transaction at `point` and then returns. False if none reached it within five seconds.
    pub async fn catch(&self, point: TrapPoint) -> bool {
        let caught = tokio::time::timeout(Duration::from_secs(5), self.trap(point)).await;
        self.shared.trap.lock().unwrap().take();
        matches!(caught, Ok(Ok(_)))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        if *shared.condition.borrow() == NetworkCondition::Refusing {
            // A reset, as from a firewall that rejects connections.
            let _ = client.set_zero_linger();
            continue;
        }
        let shared = Arc::clone(&shared);
        let mut cuts = shared.cuts.subscribe();
        tokio::spawn(async move {
            let upstream = shared.upstream.lock().unwrap().clone();
            let Ok(postgres) = UnixStream::connect(&upstream).await else {
                let _ = client.set_zero_linger();
                return;
            };
            let _ = client.set_nodelay(true);
            let begun = *cuts.borrow_and_update();
            // The link sets this once the connection executes LISTEN.
            let is_keeper = AtomicBool::new(false);
            let is_cut = |now: &Cuts| match is_keeper.load(Ordering::SeqCst) {
                true => now.keeper != begun.keeper,
                false => now.pool != begun.pool,
            };
            tokio::select! {
                () = link::carry(&shared, &is_keeper, client, postgres) => {}
                _ = cuts.wait_for(is_cut) => {}
            }
        });
    }
}
