//! Faults that tests inject into background workers, at any point of their execution: a decorator of the workers'
//! futures.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Arc, Mutex},
};

use cloudapi::{
    base::runtime::heartbeat::Heartbeat,
    server::supervision::status::{Decorator, WorkerOptions},
};
use tokio::sync::Notify;

/// Fault of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The worker panics.
    Panic,
    /// The worker is never polled again, and keeps what it holds.
    Stall,
    /// The worker ends early.
    Return,
}

/// Options of a server on which only the workers with these names work.
pub fn only(works: impl Fn(&str) -> bool + Send + Sync + 'static) -> WorkerOptions {
    let decorator: Decorator = Arc::new(move |worker, heartbeat, body| {
        if works(worker) {
            return body;
        }
        Box::pin(async move { heartbeat.wait_for(heartbeat.stop().cancelled()).await })
    });
    WorkerOptions { decorator: Some(decorator), ..WorkerOptions::default() }
}

/// Faults that wait for their workers.
#[derive(Clone, Debug, Default)]
pub struct WorkerFaults(Arc<Queue>);

#[derive(Debug, Default)]
struct Queue {
    pending: Mutex<BTreeMap<String, Fault>>,
    changed: Notify,
}

impl WorkerFaults {
    /// Injects a fault into the worker `worker`.
    pub fn inject(&self, worker: &str, fault: Fault) {
        self.0.pending.lock().unwrap().insert(worker.to_owned(), fault);
        self.0.changed.notify_waiters();
    }

    /// Decorator for `WorkerOptions`.
    pub fn decorator(&self) -> Option<Decorator> {
        let queue = Arc::clone(&self.0);
        Some(Arc::new(move |worker, heartbeat, body| Box::pin(run(Arc::clone(&queue), worker, heartbeat, body))))
    }
}

/// Runs the worker until it ends or a fault is injected.
async fn run(queue: Arc<Queue>, worker: &str, heartbeat: Heartbeat, body: impl Future<Output = ()>) {
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

impl Queue {
    async fn next(&self, worker: &str) -> Fault {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            let fault = self.pending.lock().unwrap().remove(worker);
            if let Some(fault) = fault {
                return fault;
            }
            changed.await;
        }
    }
}
