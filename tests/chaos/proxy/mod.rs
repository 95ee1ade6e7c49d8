//! What stands between a server and PostgreSQL, and can fail: one proxy for each node.

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

/// What the network does to all connections of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    Fair,
    /// Whoever connects is turned away.
    Refusing,
    /// Whatever is sent takes so much longer, in each direction.
    Slow(Duration),
    /// What servers ask arrives, what PostgreSQL answers does not. TCP cannot lose a byte and go on, so a
    /// connection that lost some is cut when the weather changes.
    Mute,
    /// PostgreSQL's notifications do not arrive; all else does.
    Unnotified,
}

/// A moment in a write's transaction at which to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// PostgreSQL has answered so many rounds, counted from BEGIN, which is 0; the server does not know of
    /// the last one.
    Answered(usize),
    /// PostgreSQL has committed, and the server does not know.
    Committed,
    /// The same, where it was usage that was written.
    Flushed,
}

/// The transactions in which a server writes down what it has counted.
#[derive(Debug, Default)]
pub struct Flushes {
    /// Whether each is to be sent twice.
    twice: AtomicBool,
    /// Of each kind, whether the next one is one that was sent before.
    is_again: [AtomicBool; rounds::WRITES_USAGE.len()],
    /// How many were committed without the server hearing of it.
    doubled: AtomicUsize,
}

impl Flushes {
    /// How many were committed without the server hearing of it, which then sent all of it again.
    pub fn doubled(&self) -> usize {
        self.doubled.load(Ordering::SeqCst)
    }

    /// Whether the answer of the one that is being sent shall not arrive: every other time.
    fn is_to_be_doubled(&self, kind: usize) -> bool {
        self.twice.load(Ordering::SeqCst) && !self.is_again[kind].fetch_xor(true, Ordering::SeqCst)
    }
}

/// What was going on when a trap closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caught {
    /// Whether it was in COMMIT.
    pub committed: bool,
}

struct Trap {
    moment: Moment,
    tell: oneshot::Sender<Caught>,
}

struct Shared {
    /// The socket of the PostgreSQL that new connections lead to.
    upstream: Mutex<PathBuf>,
    weather: watch::Sender<Weather>,
    /// Which connections are cut, counted up to do so.
    cuts: watch::Sender<Cuts>,
    trap: Mutex<Option<Trap>>,
    /// How many notifications were lost.
    lost: AtomicUsize,
    flushes: Arc<Flushes>,
}

/// How often connections were cut: those of the pool, and the one that keeps the lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cuts {
    pool: u64,
    keeper: u64,
}

/// One node's way to PostgreSQL. Dropped, it takes no more connections, and cuts those it has.
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
            weather: watch::Sender::new(Weather::Fair),
            cuts: watch::Sender::default(),
            trap: Mutex::default(),
            lost: AtomicUsize::new(0),
            flushes: Arc::default(),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { address, shared, accepting }
    }

    pub fn set(&self, weather: Weather) {
        self.shared.weather.send_replace(weather);
    }

    /// Cuts all connections there are.
    pub fn cut(&self) {
        self.cut_pool();
        self.cut_keeper();
    }

    /// Cuts all connections but the one that keeps the lease.
    pub fn cut_pool(&self) {
        self.shared.cuts.send_modify(|cuts| cuts.pool += 1);
    }

    /// Cuts the connection that keeps the lease.
    pub fn cut_keeper(&self) {
        self.shared.cuts.send_modify(|cuts| cuts.keeper += 1);
    }

    /// Leads new connections to another PostgreSQL; those that are open stay where they are.
    pub fn steer(&self, upstream: PathBuf) {
        *self.shared.upstream.lock().unwrap() = upstream;
    }

    /// From now on lets every flush be sent twice: it is committed, its connection is cut before the server hears of
    /// that, and the next one arrives.
    pub fn double_flushes(&self) -> Arc<Flushes> {
        self.shared.flushes.twice.store(true, Ordering::SeqCst);
        Arc::clone(&self.shared.flushes)
    }

    /// How many notifications were lost so far.
    pub fn lost_notifications(&self) -> usize {
        self.shared.lost.load(Ordering::SeqCst)
    }

    /// Stops the next transaction that comes to `moment`: its answers are withheld from then on, and the
    /// receiver is told.
    pub fn trap(&self, moment: Moment) -> oneshot::Receiver<Caught> {
        let (tell, told) = oneshot::channel();
        *self.shared.trap.lock().unwrap() = Some(Trap { moment, tell });
        told
    }

    /// Stops a transaction at `moment` and returns then; false if none came to it in five seconds.
    pub async fn catch(&self, moment: Moment) -> bool {
        let caught = tokio::time::timeout(Duration::from_secs(5), self.trap(moment)).await;
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
        if *shared.weather.borrow() == Weather::Refusing {
            // A reset, as from a firewall that rejects.
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
            // Said by the link once it is seen to listen.
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
