//! The background workers of a server: the table of workers, and their supervision.
//!
//! To add a worker, add a row to [`TABLE`]. Its body is a future that takes its dependencies, reports progress in each
//! iteration ([`Heartbeat::progress`], [`Heartbeat::pause`]), and ends when [`Heartbeat::stop`] is canceled. The
//! supervisor restarts it when it panics, ends early or makes no progress. Metrics, `/readyz` and the tests of panics
//! and stalls cover it without more code.

pub mod fault;
pub mod figures;
mod housekeeping;
mod queue_depth;
pub mod supervisor;

use std::{sync::Arc, time::Duration};

use futures_util::future::{BoxFuture, join_all};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    audit::{retention, sealer::Sealer},
    auth::keeper,
    base::heartbeat::Heartbeat,
    db::writes,
    events::tail,
    resources::{engine, expiry, reconcile},
    state::App,
    usage::{close, flush},
    webhooks::worker,
};
use figures::Status;

/// A row of the table.
#[derive(Debug)]
pub struct Worker {
    /// Name in metrics, in `/readyz` and in the log.
    pub name: &'static str,
    /// Whether a server without this worker is not ready.
    pub needed: bool,
    /// Maximum time of work without progress, after which the worker is aborted and restarted. Sleeping does not count.
    pub stall_after: Duration,
    /// Shutdown step at which the worker ends.
    pub stops: Stops,
    /// Creates the worker's future. None if this deployment does not use the worker.
    start: fn(&Start) -> Option<BoxFuture<'static, ()>>,
}

/// Shutdown step at which a worker ends, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stops {
    /// When the server refuses new connections.
    Closing,
    /// When the last request has finished: until then, requests need the lease, and their usage is counted.
    ServedOut,
    /// When no more audit entries are staged.
    StagedOut,
}

/// Dependencies of a worker's future.
struct Start {
    app: App,
    heartbeat: Heartbeat,
    /// Canceled when work in progress must be aborted.
    now: CancellationToken,
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// All workers.
pub static TABLE: [Worker; 16] = [
    // Renews the lease. Without it, the server must not trust its credential cache.
    Worker {
        name: "auth_lease",
        needed: true,
        stall_after: seconds(15),
        stops: Stops::ServedOut,
        start: |Start { app, heartbeat, .. }| Some(Box::pin(keeper::run(Arc::clone(&app.node), heartbeat.clone()))),
    },
    Worker {
        name: "auth_janitor",
        needed: false,
        stall_after: seconds(30),
        stops: Stops::Closing,
        start: |Start { app, heartbeat, .. }| Some(Box::pin(keeper::clean(Arc::clone(&app.node), heartbeat.clone()))),
    },
    // Also reads the hard limits that requests are checked against.
    Worker {
        name: "usage_flush",
        needed: true,
        stall_after: seconds(90),
        stops: Stops::ServedOut,
        start: |Start { app, heartbeat, .. }| {
            let (meter, quota) = (Arc::clone(&app.meter), Arc::clone(&app.quota));
            Some(Box::pin(flush::run(meter, quota, app.db.clone(), app.clock.clone(), heartbeat.clone())))
        },
    },
    Worker {
        name: "usage_close",
        needed: false,
        stall_after: seconds(360),
        stops: Stops::Closing,
        start: |Start { app, heartbeat, .. }| {
            let days = app.usage_days_kept;
            Some(Box::pin(close::run(app.db.clone(), app.clock.clone(), days, heartbeat.clone())))
        },
    },
    // Other servers seal too, so a server is ready without it.
    Worker {
        name: "audit_sealer",
        needed: false,
        stall_after: seconds(60),
        stops: Stops::StagedOut,
        start: |Start { app, heartbeat, .. }| {
            let sealer = Sealer::new(&app.db, app.clock.clone(), Arc::clone(&app.signer), Arc::clone(&app.sealing));
            Some(Box::pin(sealer.run(Arc::clone(&app.lifecycle), heartbeat.clone())))
        },
    },
    Worker {
        name: "audit_retention",
        needed: false,
        stall_after: seconds(360),
        stops: Stops::Closing,
        start: |Start { app, heartbeat, .. }| {
            let (signer, months) = (Arc::clone(&app.signer), app.audit_months_kept?);
            Some(Box::pin(retention::run(app.db.clone(), app.clock.clone(), signer, months, heartbeat.clone())))
        },
    },
    Worker {
        name: "audit_denials",
        needed: false,
        stall_after: seconds(60),
        stops: Stops::ServedOut,
        start: |Start { app, heartbeat, .. }| {
            Some(Box::pin(housekeeping::write_denials(app.clone(), heartbeat.clone())))
        },
    },
    Worker {
        name: "audit_reads",
        needed: false,
        stall_after: seconds(60),
        stops: Stops::ServedOut,
        start: |Start { app, heartbeat, .. }| Some(Box::pin(housekeeping::write_reads(app.clone(), heartbeat.clone()))),
    },
    // Without it, the event streams of this server send nothing.
    Worker {
        name: "event_tail",
        needed: true,
        stall_after: seconds(30),
        stops: Stops::Closing,
        start: |Start { app, heartbeat, .. }| Some(Box::pin(tail::run(app.clone(), heartbeat.clone()))),
    },
    // Every server takes a share, so a server is ready without it. This also holds for the workers below.
    Worker {
        name: "webhook_delivery",
        needed: false,
        stall_after: seconds(60),
        stops: Stops::Closing,
        start: |Start { app, heartbeat, now }| Some(Box::pin(worker::run(app.clone(), heartbeat.clone(), now.clone()))),
    },
    Worker {
        name: "resource_engine",
        needed: false,
        stall_after: seconds(60),
        stops: Stops::Closing,
        start: |Start { app, heartbeat, now }| Some(Box::pin(engine::run(app.clone(), heartbeat.clone(), now.clone()))),
    },
    Worker {
        name: "resource_reconcile",
        needed: false,
        stall_after: seconds(120),
        stops: Stops::Closing,
        start: |Start { app, heartbeat, .. }| Some(Box::pin(reconcile::run(app.clone(), heartbeat.clone()))),
    },
    Worker {
        name: "resource_expiry",
        needed: false,
        stall_after: seconds(60),
        stops: Stops::Closing,
        start: |Start { app, heartbeat, .. }| Some(Box::pin(expiry::run(app.clone(), heartbeat.clone()))),
    },
    // Cancels writes that wait for a lost standby, so that they do not hold the pool's connections.
    Worker {
        name: "database_watch",
        needed: false,
        stall_after: seconds(30),
        stops: Stops::Closing,
        start: |Start { app, heartbeat, .. }| Some(Box::pin(writes::watch(app.db.clone(), heartbeat.clone()))),
    },
    Worker {
        name: "queue_depth",
        needed: false,
        stall_after: seconds(30),
        stops: Stops::Closing,
        start: |Start { app, heartbeat, .. }| Some(Box::pin(queue_depth::run(app.clone(), heartbeat.clone()))),
    },
    Worker {
        name: "cleanup",
        needed: false,
        stall_after: seconds(120),
        stops: Stops::Closing,
        start: |Start { app, heartbeat, .. }| Some(Box::pin(housekeeping::cleanup(app.clone(), heartbeat.clone()))),
    },
];

/// Handle of the running workers.
#[derive(Debug)]
pub struct Running {
    served_out: CancellationToken,
    staged_out: CancellationToken,
    all: Vec<(Stops, JoinHandle<()>)>,
}

/// Starts every worker of the table. Workers that stop first do so when `closing` is canceled, and abort work in
/// progress when `now` is canceled.
pub fn start(app: &App, closing: &CancellationToken, now: &CancellationToken) -> Running {
    let mut running =
        Running { served_out: CancellationToken::new(), staged_out: CancellationToken::new(), all: Vec::new() };
    for worker in &TABLE {
        let stop = match worker.stops {
            Stops::Closing => closing,
            Stops::ServedOut => &running.served_out,
            Stops::StagedOut => &running.staged_out,
        };
        let heartbeat = Heartbeat::new(app.clock.clone(), stop.clone());
        let start = Start { app: app.clone(), heartbeat, now: now.clone() };
        if let Some(supervised) = supervised(worker, start) {
            running.all.push((worker.stops, supervised));
        }
    }
    running
}

fn supervised(worker: &'static Worker, start: Start) -> Option<JoinHandle<()>> {
    // Whether the deployment uses a worker does not change at run time.
    drop((worker.start)(&start)?);
    let workers = &start.app.workers;
    let options = workers.options.clone();
    let stall_after = options.stall_after.unwrap_or(worker.stall_after);
    let status = Arc::new(Status::new(worker.name, worker.needed, stall_after, start.heartbeat.clone()));
    workers.register(Arc::clone(&status));
    let body = move || (worker.start)(&start).unwrap_or_else(|| Box::pin(async {}));
    Some(tokio::spawn(supervisor::supervise(status, options, body)))
}

impl Running {
    /// Ends the workers that requests needed, and waits for them and for those that were stopped before.
    pub async fn serve_out(&mut self) {
        self.served_out.cancel();
        join_all(self.all.extract_if(.., |(stops, _)| *stops != Stops::StagedOut).map(|(_, task)| task)).await;
    }

    /// Ends the remaining workers, and waits for them.
    pub async fn stage_out(&mut self) {
        self.staged_out.cancel();
        join_all(self.all.drain(..).map(|(_, task)| task)).await;
    }
}
