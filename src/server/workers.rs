//! The background workers of a server: the table of workers, and their supervision.
//!
//! To add a worker, add a row to [`TABLE`]. Its body is a future that takes its dependencies, reports progress in each
//! iteration ([`Heartbeat::progress`], [`Heartbeat::pause`]), and ends when [`Heartbeat::stop`] is canceled. The
//! supervisor restarts it when it panics, ends early or makes no progress. Metrics, `/readyz` and the tests of panics
//! and stalls cover it without more code.

use std::{sync::Arc, time::Duration};

use futures_util::future::{BoxFuture, join_all};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{
    background::{housekeeping, pulse, queue_depth},
    state::App,
};
use crate::{
    api::{
        events::tail,
        usage::{counting::flush, finalize},
        webhooks::{self, delivery::worker::DeliveryQueue},
    },
    audit::sealing::{Sealer, retention},
    auth::revocation::keeper,
    base::runtime::heartbeat::Heartbeat,
    db::{jobs, pool::write_health},
    resources::{
        engine::OperationQueue,
        reconcile::{self, expiry},
    },
    server::supervision::{status::Status, supervisor},
};

/// A row of the table.
#[derive(Debug)]
pub struct Worker {
    /// Name in metrics, in `/readyz` and in the log.
    pub name: &'static str,
    /// Whether a server without this worker is not ready.
    pub is_required: bool,
    /// Maximum time of work without progress, after which the worker is aborted and restarted. Sleeping does not count.
    pub stall_after: Duration,
    /// Shutdown step at which the worker ends.
    pub stop_phase: StopPhase,
    /// Creates the worker's future. None if this deployment does not use the worker.
    start: fn(&WorkerContext) -> Option<BoxFuture<'static, ()>>,
}

/// Shutdown step at which a worker ends, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopPhase {
    /// When the server refuses new connections.
    Closing,
    /// When the last request has finished: until then, requests need the lease, and their usage is counted.
    RequestsDrained,
    /// When no more audit entries are staged.
    AuditDrained,
}

/// Dependencies of a worker's future.
struct WorkerContext {
    app: App,
    heartbeat: Heartbeat,
    /// Canceled when work in progress must be aborted.
    abort: CancellationToken,
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// All workers.
pub static TABLE: [Worker; 18] = [
    // Tells the others when their work is due. Without it, they poll.
    Worker {
        name: "pulse",
        is_required: false,
        stall_after: seconds(30),
        stop_phase: StopPhase::AuditDrained,
        start: |WorkerContext { app, heartbeat, .. }| {
            Some(Box::pin(pulse::run(app.clone(), app.pulse_interval, heartbeat.clone())))
        },
    },
    // Renews the lease. Without it, the server must not trust its credential cache.
    Worker {
        name: "auth_lease",
        is_required: true,
        stall_after: seconds(15),
        stop_phase: StopPhase::RequestsDrained,
        start: |WorkerContext { app, heartbeat, .. }| {
            Some(Box::pin(keeper::run(Arc::clone(&app.node), heartbeat.clone())))
        },
    },
    Worker {
        name: "auth_janitor",
        is_required: false,
        stall_after: seconds(30),
        stop_phase: StopPhase::Closing,
        start: |WorkerContext { app, heartbeat, .. }| {
            Some(Box::pin(keeper::run_janitor(Arc::clone(&app.node), heartbeat.clone())))
        },
    },
    // Also reads the hard limits that requests are checked against.
    Worker {
        name: "usage_flush",
        is_required: true,
        stall_after: seconds(90),
        stop_phase: StopPhase::RequestsDrained,
        start: |WorkerContext { app, heartbeat, .. }| {
            let (meter, quota) = (Arc::clone(&app.meter), Arc::clone(&app.quota));
            Some(Box::pin(flush::run(meter, quota, app.store.db.clone(), app.store.clock.clone(), heartbeat.clone())))
        },
    },
    Worker {
        name: "usage_close",
        is_required: false,
        stall_after: seconds(360),
        stop_phase: StopPhase::Closing,
        start: |WorkerContext { app, heartbeat, .. }| {
            let days = app.usage_retention_days;
            Some(Box::pin(finalize::run(app.store.db.clone(), app.store.clock.clone(), days, heartbeat.clone())))
        },
    },
    // Other servers seal too, so a server is ready without it.
    Worker {
        name: "audit_sealer",
        is_required: false,
        stall_after: seconds(60),
        stop_phase: StopPhase::AuditDrained,
        start: |WorkerContext { app, heartbeat, .. }| {
            let sealer = Sealer::new(
                &app.store.db,
                app.store.clock.clone(),
                Arc::clone(&app.signer),
                Arc::clone(&app.sealing),
                webhooks::repo::enqueue,
            );
            let pulse = Arc::clone(app.store.db.pulse());
            Some(Box::pin(sealer.run(pulse, Arc::clone(&app.lifecycle), heartbeat.clone())))
        },
    },
    Worker {
        name: "audit_retention",
        is_required: false,
        stall_after: seconds(360),
        stop_phase: StopPhase::Closing,
        start: |WorkerContext { app, heartbeat, .. }| {
            let (signer, months) = (Arc::clone(&app.signer), app.audit_retention_months?);
            Some(Box::pin(retention::run(
                app.store.db.clone(),
                app.store.clock.clone(),
                signer,
                months,
                heartbeat.clone(),
            )))
        },
    },
    Worker {
        name: "audit_denials",
        is_required: false,
        stall_after: seconds(60),
        stop_phase: StopPhase::RequestsDrained,
        start: |WorkerContext { app, heartbeat, .. }| {
            Some(Box::pin(housekeeping::write_denials(app.clone(), heartbeat.clone())))
        },
    },
    Worker {
        name: "audit_reads",
        is_required: false,
        stall_after: seconds(60),
        stop_phase: StopPhase::RequestsDrained,
        start: |WorkerContext { app, heartbeat, .. }| {
            Some(Box::pin(housekeeping::write_reads(app.clone(), heartbeat.clone())))
        },
    },
    // Without it, the event streams of this server send nothing.
    Worker {
        name: "event_tail",
        is_required: true,
        stall_after: seconds(30),
        stop_phase: StopPhase::Closing,
        start: |WorkerContext { app, heartbeat, .. }| {
            Some(Box::pin(tail::run(Arc::clone(&app.events), heartbeat.clone())))
        },
    },
    // Every server takes a share, so a server is ready without it. This also holds for the workers below.
    Worker {
        name: "webhook_delivery",
        is_required: false,
        stall_after: seconds(60),
        stop_phase: StopPhase::Closing,
        start: |WorkerContext { app, heartbeat, abort }| {
            Some(Box::pin(jobs::run(DeliveryQueue::new(Arc::clone(&app.webhooks)), heartbeat.clone(), abort.clone())))
        },
    },
    Worker {
        name: "resource_engine",
        is_required: false,
        stall_after: seconds(60),
        stop_phase: StopPhase::Closing,
        start: |WorkerContext { app, heartbeat, abort }| {
            Some(Box::pin(jobs::run(OperationQueue::new(Arc::clone(&app.resources)), heartbeat.clone(), abort.clone())))
        },
    },
    Worker {
        name: "resource_reconcile",
        is_required: false,
        stall_after: seconds(120),
        stop_phase: StopPhase::Closing,
        start: |WorkerContext { app, heartbeat, .. }| {
            Some(Box::pin(reconcile::run(Arc::clone(&app.resources), heartbeat.clone())))
        },
    },
    Worker {
        name: "resource_expiry",
        is_required: false,
        stall_after: seconds(60),
        stop_phase: StopPhase::Closing,
        start: |WorkerContext { app, heartbeat, .. }| {
            Some(Box::pin(expiry::run(Arc::clone(&app.resources), heartbeat.clone())))
        },
    },
    // Cancels writes that wait for a lost standby, so that they do not hold the pool's connections.
    Worker {
        name: "database_watch",
        is_required: false,
        stall_after: seconds(30),
        stop_phase: StopPhase::Closing,
        start: |WorkerContext { app, heartbeat, .. }| {
            Some(Box::pin(write_health::watch(app.store.db.clone(), heartbeat.clone())))
        },
    },
    Worker {
        name: "queue_depth",
        is_required: false,
        stall_after: seconds(30),
        stop_phase: StopPhase::Closing,
        start: |WorkerContext { app, heartbeat, .. }| Some(Box::pin(queue_depth::run(app.clone(), heartbeat.clone()))),
    },
    Worker {
        name: "cleanup",
        is_required: false,
        stall_after: seconds(120),
        stop_phase: StopPhase::Closing,
        start: |WorkerContext { app, heartbeat, .. }| {
            Some(Box::pin(housekeeping::cleanup(app.clone(), heartbeat.clone())))
        },
    },
    Worker {
        name: "purge",
        is_required: false,
        stall_after: seconds(120),
        stop_phase: StopPhase::Closing,
        start: |WorkerContext { app, heartbeat, .. }| {
            Some(Box::pin(housekeeping::purge(app.clone(), heartbeat.clone())))
        },
    },
];

/// Handle of the running workers.
#[derive(Debug)]
pub struct Running {
    requests_drained: CancellationToken,
    audit_drained: CancellationToken,
    all: Vec<(StopPhase, JoinHandle<()>)>,
}

/// Starts every worker of the table. Workers that stop first do so when `closing` is canceled, and abort work in
/// progress when `abort` is canceled.
pub fn start(app: &App, closing: &CancellationToken, abort: &CancellationToken) -> Running {
    let mut running = Running {
        requests_drained: CancellationToken::new(),
        audit_drained: CancellationToken::new(),
        all: Vec::new(),
    };
    for worker in &TABLE {
        let stop = match worker.stop_phase {
            StopPhase::Closing => closing,
            StopPhase::RequestsDrained => &running.requests_drained,
            StopPhase::AuditDrained => &running.audit_drained,
        };
        let heartbeat = Heartbeat::new(app.store.clock.clone(), stop.clone());
        let start = WorkerContext { app: app.clone(), heartbeat, abort: abort.clone() };
        if let Some(supervised) = spawn_supervised(worker, start) {
            running.all.push((worker.stop_phase, supervised));
        }
    }
    running
}

fn spawn_supervised(worker: &'static Worker, start: WorkerContext) -> Option<JoinHandle<()>> {
    // Whether the deployment uses a worker does not change at run time.
    drop((worker.start)(&start)?);
    let workers = &start.app.workers;
    let options = workers.options.clone();
    let stall_after = options.stall_after.unwrap_or(worker.stall_after);
    let status = Arc::new(Status::new(worker.name, worker.is_required, stall_after, start.heartbeat.clone()));
    workers.register(Arc::clone(&status));
    let decorator = options.decorator.clone();
    let body = move || {
        let body = (worker.start)(&start).unwrap_or_else(|| Box::pin(async {}));
        match &decorator {
            Some(decorate) => decorate(worker.name, start.heartbeat.clone(), body),
            None => body,
        }
    };
    Some(tokio::spawn(supervisor::supervise(status, options, body)))
}

impl Running {
    /// Ends the workers that requests needed, and waits for them and for those that were stopped before.
    pub async fn stop_after_requests(&mut self) {
        self.requests_drained.cancel();
        join_all(
            self.all.extract_if(.., |(stop_phase, _)| *stop_phase != StopPhase::AuditDrained).map(|(_, task)| task),
        )
        .await;
    }

    /// Ends the remaining workers, and waits for them.
    pub async fn stop_after_audit(&mut self) {
        self.audit_drained.cancel();
        join_all(self.all.drain(..).map(|(_, task)| task)).await;
    }
}
