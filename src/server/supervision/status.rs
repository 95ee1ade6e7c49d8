//! Status of each background worker, for `/readyz` and metrics.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;

use crate::{
    base::runtime::heartbeat::Heartbeat,
    metrics::exposition::{Collector, Exposition},
};

/// Wraps the future of the worker that it names.
pub type Decorator =
    Arc<dyn Fn(&'static str, Heartbeat, BoxFuture<'static, ()>) -> BoxFuture<'static, ()> + Send + Sync>;

/// Settings of the supervisor.
#[derive(Clone)]
pub struct WorkerOptions {
    /// Stall bound of every worker, instead of the bound in the table.
    pub stall_after: Option<Duration>,
    /// Pause before the first restart. It doubles with each further restart.
    pub initial_backoff: Duration,
    /// Maximum pause.
    pub max_backoff: Duration,
    /// Wraps the future of every worker.
    pub decorator: Option<Decorator>,
}

impl fmt::Debug for WorkerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stall_after, initial_backoff, max_backoff, decorator: _ } = self;
        f.debug_tuple("WorkerOptions").field(stall_after).field(initial_backoff).field(max_backoff).finish()
    }
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self {
            stall_after: None,
            initial_backoff: Duration::from_millis(250),
            max_backoff: Duration::from_secs(30),
            decorator: None,
        }
    }
}

/// Workers of one server.
#[derive(Debug, Default)]
pub struct Workers {
    /// Settings of the supervisor.
    pub options: WorkerOptions,
    all: Mutex<Vec<Arc<Status>>>,
}

/// Status of one worker.
#[derive(Debug)]
pub struct Status {
    /// Name, also a label of metrics.
    pub name: &'static str,
    /// Whether a server without this worker is not ready.
    pub is_required: bool,
    /// Maximum time of work without progress.
    pub stall_after: Duration,
    /// Heartbeat.
    pub heartbeat: Heartbeat,
    restarts: AtomicU64,
    state: Mutex<State>,
}

/// State of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Works, or waits for work.
    Running,
    /// Failed, and was or will be restarted. It is running once its heartbeat count exceeds this value.
    Restarting(u64),
    /// Makes no progress, and is being aborted.
    Stalled,
    /// Ended because the server stops.
    Stopped,
}

impl Status {
    /// Creates the status of a running worker.
    pub fn new(name: &'static str, is_required: bool, stall_after: Duration, heartbeat: Heartbeat) -> Self {
        let state = Mutex::new(State::Running);
        Self { name, is_required, stall_after, heartbeat, restarts: AtomicU64::new(0), state }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Current state.
    pub fn state(&self) -> State {
        match *self.lock() {
            State::Restarting(count) if self.heartbeat.count() > count => State::Running,
            state => state,
        }
    }

    /// Sets the state.
    pub fn set_state(&self, state: State) {
        *self.lock() = state;
    }

    /// Records a failure and the restart that follows.
    pub fn record_restart(&self) {
        self.restarts.fetch_add(1, Relaxed);
        self.set_state(State::Restarting(self.heartbeat.count()));
    }

    /// Number of restarts.
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Relaxed)
    }
}

/// Result of the workers check in `/readyz`.
#[derive(Debug, PartialEq, Eq)]
pub struct Check {
    /// `ok`, or the names and states of workers that do not run.
    pub text: String,
    /// Whether all workers that are needed to serve requests run.
    pub is_ready: bool,
}

impl Workers {
    /// Creates an empty set of workers.
    pub fn new(options: WorkerOptions) -> Self {
        Self { options, all: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Status>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a worker, and replaces one with the same name.
    pub fn register(&self, status: Arc<Status>) {
        let mut all = self.lock();
        all.retain(|known| known.name != status.name);
        all.push(status);
    }

    /// Finds a worker by name.
    pub fn get(&self, name: &str) -> Option<Arc<Status>> {
        self.lock().iter().find(|status| status.name == name).cloned()
    }

    /// Checks the workers for `/readyz`.
    pub fn check(&self) -> Check {
        let (mut failing, mut is_ready) = (Vec::new(), true);
        for status in self.lock().iter() {
            let state = match status.state() {
                State::Running | State::Stopped => continue,
                State::Restarting(_) => "restarting",
                State::Stalled => "stalled",
            };
            is_ready &= !status.is_required;
            failing.push(format!("{} {state}", status.name));
        }
        let text = if failing.is_empty() { "ok".to_owned() } else { failing.join(", ") };
        Check { text, is_ready }
    }
}

impl Collector for Workers {
    fn collect(&self, out: &mut Exposition) {
        let all = self.lock().clone();
        let mut restarts =
            out.counter("cloudapi_worker_restarts_total", "Restarts of a worker that panicked, ended or stalled.");
        for status in &all {
            restarts = restarts.sample(&[("worker", status.name)], status.restarts());
        }
        let help = "Unix time of a worker's last progress. The current time while it is idle.";
        let mut progress = out.gauge("cloudapi_worker_last_progress_seconds", help);
        for status in &all {
            progress = progress.sample(&[("worker", status.name)], status.heartbeat.last_progress());
        }
    }
}
