//! Faults that a test injects into workers. They need no code in the workers: the supervisor applies them to the future of
//! the worker. A server outside of tests has no place to keep a fault in.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::Notify;

use crate::base::heartbeat::Heartbeat;

/// What happens to a worker, wherever it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It panics.
    Panic,
    /// It is never polled again, and keeps what it holds.
    Stall,
    /// It ends although it should not.
    Return,
}

/// Where a test leaves faults. By default there is no such place.
#[derive(Clone, Debug, Default)]
pub struct Faults(Option<Arc<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    pending: Mutex<BTreeMap<String, Fault>>,
    changed: Notify,
}

impl Faults {
    /// A place for faults, for a test.
    pub fn for_test() -> Self {
        Self(Some(Arc::default()))
    }

    /// Injects a fault into the worker of this name.
    pub fn inject(&self, worker: &str, fault: Fault) {
        if let Some(queue) = &self.0 {
            queue.pending.lock().unwrap_or_else(PoisonError::into_inner).insert(worker.to_owned(), fault);
            queue.changed.notify_waiters();
        }
    }

    /// Runs the worker of this name until it ends or a fault comes.
    #[expect(clippy::panic, reason = "a test has asked for it")]
    pub(super) async fn run(&self, worker: &str, heartbeat: &Heartbeat, body: impl Future<Output = ()>) {
        let Some(queue) = &self.0 else { return body.await };
        let mut body = pin!(body);
        let fault = tokio::select! {
            () = &mut body => return,
            fault = queue.next(worker) => fault,
        };
        match fault {
            Fault::Panic => panic!("a test injected this panic into the worker {worker}"),
            Fault::Stall => {
                // As if it had just begun to work.
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
