//! Faults that tests inject into workers. The supervisor applies them to the worker's future, so workers need no code
//! for them. A production server has no fault queue.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::Notify;

use crate::base::runtime::heartbeat::Heartbeat;

/// Fault of a worker, at any point of its execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The worker panics.
    Panic,
    /// The worker is never polled again, and keeps what it holds.
    Stall,
    /// The worker ends early.
    Return,
}

/// Queue of injected faults. None by default.
#[derive(Clone, Debug, Default)]
pub struct Faults(Option<Arc<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    pending: Mutex<BTreeMap<String, Fault>>,
    changed: Notify,
}

impl Faults {
    /// Creates a queue, for a test.
    pub fn for_test() -> Self {
        Self(Some(Arc::default()))
    }

    /// Injects a fault into the worker `worker`.
    pub fn inject(&self, worker: &str, fault: Fault) {
        if let Some(queue) = &self.0 {
            queue.pending.lock().unwrap_or_else(PoisonError::into_inner).insert(worker.to_owned(), fault);
            queue.changed.notify_waiters();
        }
    }

    /// Runs the worker until it ends or a fault is injected.
    #[expect(clippy::panic, reason = "injected by a test")]
    pub(super) async fn run(&self, worker: &str, heartbeat: &Heartbeat, body: impl Future<Output = ()>) {
        let Some(queue) = &self.0 else { return body.await };
        let mut body = pin!(body);
        let fault = tokio::select! {
            () = &mut body => return,
            fault = queue.next(worker) => fault,
        };
        match fault {
            Fault::Panic => panic!("panic injected by a test into worker {worker}"),
            Fault::Stall => {
                // As if the worker had just begun to work.
                heartbeat.progress();
                std::future::pending::<()>().await;
            }
            Fault::Return => {}
        }
    }
}

impl Queue {
    async fn next(&self, worker: &str) -> Fault {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            let fault = self.pending.lock().unwrap_or_else(PoisonError::into_inner).remove(worker);
            if let Some(fault) = fault {
                return fault;
            }
            changed.await;
        }
    }
}
