//! Engine: claims operations that are due, executes their next steps at the provider, and stores the results. It runs
//! on every server. A claimed operation is leased: if its server dies, another server claims it and checks what has
//! already been done.

mod ending;
pub mod lifecycle;
pub mod machine;
mod step_run;
pub mod timing;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    task::{JoinError, JoinSet},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::store::queue;
use crate::{
    base::{
        error::{Code, Error, Result},
        runtime::{clock::since_boot, heartbeat::Heartbeat},
    },
    resources::ResourceContext,
};
use lifecycle::OperationType;

/// Time for steps in progress to finish when the server stops. Steps that are cut off are resumed after the lease.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Time limit for claiming operations in the database.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(15);

/// Runs until the server stops, then waits for the steps in progress to finish, unless `abort` is canceled.
pub async fn run(context: Arc<ResourceContext>, heartbeat: Heartbeat, abort: CancellationToken) {
    let stop = heartbeat.stop();
    let mut engine = Engine { runs: JoinSet::new(), next_due: None, is_healthy: true, context };
    while !stop.is_cancelled() {
        heartbeat.progress();
        // Until then, there may be no tables.
        let more = engine.context.lifecycle.has_started() && engine.claim_or_log().await;
        let until = engine.next_poll();
        // If more operations are due than fit, start the next one when one ends.
        tokio::select! {
            () = stop.cancelled() => {}
            () = engine.context.cloud.wake.notified() => {}
            () = tokio::time::sleep_until(until.into()) => {}
            Some(result) = engine.runs.join_next(), if more => engine.on_run_ended(result),
        }
        while let Some(result) = engine.runs.try_join_next() {
            engine.on_run_ended(result);
        }
    }
    let mut runs = engine.runs;
    let drained = async { while runs.join_next().await.is_some() {} };
    if !matches!(timeout(DRAIN_TIMEOUT, abort.run_until_cancelled(drained)).await, Ok(Some(()))) {
        tracing::info!(
            "operations still in progress at shutdown; they are resumed by another server or after a restart"
        );
    }
}

struct Engine {
    context: Arc<ResourceContext>,
    /// Tasks in progress. Each returns when its operation is due again.
    runs: JoinSet<Option<Instant>>,
    /// When the first operation that this server released is due. Polling finds those that others released.
    next_due: Option<Instant>,
    is_healthy: bool,
}

impl Engine {
    fn next_poll(&self) -> Instant {
        let poll = Instant::now() + self.context.cloud.timing.poll_interval;
        self.next_due.map_or(poll, |next_due| next_due.min(poll))
    }

    fn on_run_ended(&mut self, result: std::result::Result<Option<Instant>, JoinError>) {
        match result {
            Ok(Some(next_due)) => self.next_due = Some(self.next_due.map_or(next_due, |before| before.min(next_due))),
            Ok(None) => {}
            Err(error) => {
                tracing::error!(%error, "operation task panicked, which is a bug; the operation is resumed");
            }
        }
    }

    async fn claim_or_log(&mut self) -> bool {
        let on_timeout =
            |_| Err(Error::new(Code::Timeout, "The database did not respond in time; the claim is retried"));
        let claimed = timeout(CLAIM_TIMEOUT, self.claim()).await.unwrap_or_else(on_timeout);
        if let Err(error) = &claimed {
            self.context.db.handle_error(error);
        }
        let was_healthy = std::mem::replace(&mut self.is_healthy, claimed.is_ok());
        match (&claimed, was_healthy) {
            (Ok(_), false) => tracing::info!("claiming operations works again"),
            (Err(error), true) => {
                tracing::warn!(%error, "claiming operations failed; it is retried");
            }
            _ => {}
        }
        claimed.unwrap_or(false)
    }

    /// Claims as many due operations as there is room for, and starts them. Returns whether more may be due.
    async fn claim(&mut self) -> Result<bool> {
        if self.next_due.is_some_and(|next_due| next_due <= Instant::now()) {
            self.next_due = None;
        }
        let cloud = &self.context.cloud;
        let (timing, capacity) = (&cloud.timing, cloud.timing.concurrency.saturating_sub(self.runs.len()));
        if capacity == 0 {
            return Ok(true);
        }
        let providers: Vec<&str> = cloud.providers.iter().map(|provider| provider.name.as_str()).collect();
        let began = since_boot();
        let mut db = cloud.claim_connection(&self.context.db).await?;
        let claimed = queue::claim(&mut db, &providers, capacity, timing.lease).await?;
        let is_creation = |kind| matches!(kind, OperationType::Create | OperationType::Import);
        let pending_resources: Vec<_> =
            claimed.iter().filter(|claimed| is_creation(claimed.kind)).map(|claimed| claimed.resource_id).collect();
        if !pending_resources.is_empty() {
            queue::mark_provisioning(&mut db, &pending_resources).await?;
        }
        db.release();
        let more = claimed.len() == capacity;
        for claimed in claimed {
            self.runs.spawn(step_run::run(self.context.clone(), claimed, began + timing.lease));
        }
        Ok(more)
    }
}
