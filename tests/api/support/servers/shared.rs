//! One server with one database for all tests that only see projects and users of their own. A separate server costs a
//! test a fifth of a second of CPU time: a database, connections, and PostgreSQL's caches and plans in each of them.
//!
//! Whenever no test uses the shared server any more, and so at the end of the run, its log and its database are searched
//! for secrets, as those of other servers are at the end of their tests.

use std::{
    sync::{LazyLock, Mutex, PoisonError},
    thread,
};

use cloudapi::{
    base::{
        input::limit::{LimitSettings, RateLimit},
        runtime::clock::Clock,
    },
    server::state::{App, AppOptions},
};
use tokio::runtime::{self, Runtime};

use crate::support::{
    app::{self, PULSE_INTERVAL},
    cloud, cluster,
    leak_detector::LeakDetector,
    worker_faults,
};

/// The runtime of the server and of connections that outlive the runtimes of tests.
pub static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    runtime::Builder::new_multi_thread().worker_threads(2).thread_name("shared-server").enable_all().build().unwrap()
});

static SERVER: LazyLock<SharedServer> =
    LazyLock::new(|| thread::spawn(|| RUNTIME.block_on(start())).join().expect("a server"));

/// Connections of its pool: more than tests that run next to each other.
const CONNECTIONS: u32 = 8;

/// How many tests are using the server.
static USERS: Mutex<usize> = Mutex::new(0);

/// The server.
pub struct SharedServer {
    pub app: App,
    pub url: String,
    pub leak_detector: LeakDetector,
    pub runtime: runtime::Handle,
}

/// Held by a test that uses the server.
#[must_use = "must be released"]
pub struct UseGuard(());

impl UseGuard {
    /// Ends the use. If no other test uses the server, returns the length of the log: all secrets that can be in what was
    /// logged before are recorded.
    pub fn release(self) -> Option<usize> {
        let mut users = USERS.lock().unwrap_or_else(PoisonError::into_inner);
        *users -= 1;
        (*users == 0).then(LeakDetector::log_len)
    }
}

/// Starts the server if no test has used it before. Blocks.
pub fn acquire() -> (&'static SharedServer, UseGuard) {
    let server = &*SERVER;
    *USERS.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    (server, UseGuard(()))
}

async fn start() -> SharedServer {
    // All tests have the same address.
    let unlimited = RateLimit::new(1_000_000, 1);
    let limits = LimitSettings { failures: unlimited, sign_ins: unlimited, ..LimitSettings::default() };
    // Usage is not flushed: the time of a credential's last use would change between two reads of a test.
    let workers = worker_faults::only(|worker| worker != "usage_flush");
    let options = AppOptions {
        cloud: cloud::fast_provider(),
        limits,
        workers,
        pulse_interval: PULSE_INTERVAL,
        ..AppOptions::default()
    };
    let database = cluster::fresh_database().await;
    let leak_detector = LeakDetector::new(database.clone());
    let (app, url, _) = app::serve(database, Clock::system(), options, CONNECTIONS).await;
    SharedServer { app, url, leak_detector, runtime: runtime::Handle::current() }
}
