//! Where each background worker of a server stands, for `/readyz` and for the operator's metrics.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use super::fault::Faults;
use crate::{
    base::heartbeat::Heartbeat,
    metrics::text::{Measured, Page},
};

/// How workers are supervised. Only a test changes it.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// The stall bound of every worker, instead of its own.
    pub stall_after: Option<Duration>,
    /// How long to wait before the first restart; each further one doubles it.
    pub first_pause: Duration,
    /// How long to wait at the most.
    pub longest_pause: Duration,
    /// Faults that a test injects.
    pub faults: Faults,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self {
            stall_after: None,
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(30),
            faults: Faults::default(),
        }
    }
}

/// The workers of one server.
#[derive(Debug, Default)]
pub struct Workers {
    /// How they are supervised.
    pub options: WorkerOptions,
    all: Mutex<Vec<Arc<Status>>>,
}

/// One worker.
#[derive(Debug)]
pub struct Status {
    /// Its name: a label of metrics.
    pub name: &'static str,
    /// Whether a server without it must not be sent requests.
    pub needed: bool,
    /// How long it may work without progress.
    pub stall_after: Duration,
    /// Its sign of life.
    pub heartbeat: Heartbeat,
    restarts: AtomicU64,
    state: Mutex<State>,
}

/// What a worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It works, or waits for work.
    Running,
    /// It failed, and was or will be started again. It runs once its heartbeat has counted beyond this.
    Restarting(u64),
    /// It makes no progress, and is being aborted.
    Stalled,
    /// It ended because the server stops.
    Stopped,
}

impl Status {
    /// A worker that runs.
    pub fn new(name: &'static str, needed: bool, stall_after: Duration, heartbeat: Heartbeat) -> Self {
        let state = Mutex::new(State::Running);
        Self { name, needed, stall_after, heartbeat, restarts: AtomicU64::new(0), state }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it does now.
    pub fn state(&self) -> State {
        match *self.lock() {
            State::Restarting(count) if self.heartbeat.count() > count => State::Running,
            state => state,
        }
    }

    /// Notes what it does.
    pub fn enter(&self, state: State) {
        *self.lock() = state;
    }

    /// Notes that it ended and will be started again.
    pub fn restarting(&self) {
        self.restarts.fetch_add(1, Relaxed);
        self.enter(State::Restarting(self.heartbeat.count()));
    }

    /// How often it was started again.
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Relaxed)
    }
}

/// What `/readyz` says of the workers.
#[derive(Debug, PartialEq, Eq)]
pub struct Check {
    /// `ok`, or which workers do not run and why.
    pub text: String,
    /// Whether all run that are needed to serve requests.
    pub serves: bool,
}

impl Workers {
    /// Those of a server that is about to start.
    pub fn new(options: WorkerOptions) -> Self {
        Self { options, all: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Status>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a worker, instead of one of the same name.
    pub fn register(&self, status: Arc<Status>) {
        let mut all = self.lock();
        all.retain(|known| known.name != status.name);
        all.push(status);
    }

    /// The worker of this name.
    pub fn get(&self, name: &str) -> Option<Arc<Status>> {
        self.lock().iter().find(|status| status.name == name).cloned()
    }

    /// What to say of them on `/readyz`.
    pub fn check(&self) -> Check {
        let (mut failing, mut serves) = (Vec::new(), true);
        for status in self.lock().iter() {
            let state = match status.state() {
                State::Running | State::Stopped => continue,
                State::Restarting(_) => "restarting",
                State::Stalled => "stalled",
            };
            serves &= !status.needed;
            failing.push(format!("{} {state}", status.name));
        }
        let text = if failing.is_empty() { "ok".to_owned() } else { failing.join(", ") };
        Check { text, serves }
    }
}

impl Measured for Workers {
    fn tell(&self, page: &mut Page) {
        let all = self.lock().clone();
        let mut restarts =
            page.counter("cloudapi_worker_restarts_total", "Restarts of a worker that panicked, ended or stalled.");
        for status in &all {
            restarts = restarts.of(&[("worker", status.name)], status.restarts());
        }
        let help = "When a worker last made progress, since 1970; the present while it has nothing to do.";
        let mut progress = page.gauge("cloudapi_worker_last_progress_seconds", help);
        for status in &all {
            progress = progress.of(&[("worker", status.name)], status.heartbeat.last_progress());
        }
    }
}
