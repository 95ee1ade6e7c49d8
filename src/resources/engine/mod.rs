//! Engine: claims operations that are due, executes their next steps at the provider, and stores the results. It runs
//! on every server. A claimed operation is leased: if its server dies, another server claims it and checks what has
//! already been done.

mod ending;
pub mod lifecycle;
pub mod machine;
mod step_run;
pub mod timing;

use std::{sync::Arc, time::Instant};

use tokio::{
    task::{Id, JoinError, JoinSet},
    time::{sleep, sleep_until},
};

use super::store::queue;
use crate::{
    base::{error::Result, runtime::clock::since_boot},
    db::{Pool, jobs::JobQueue, pulse::Work},
    resources::ResourceContext,
};
use lifecycle::OperationType;

/// The queue of operations.
pub struct OperationQueue {
    context: Arc<ResourceContext>,
    /// When the first operation that this server released is due.
    next_due: Option<Instant>,
}

impl OperationQueue {
    /// Creates the queue of one server.
    pub fn new(context: Arc<ResourceContext>) -> Self {
        Self { context, next_due: None }
    }
}

impl JobQueue for OperationQueue {
    const NAME: &'static str = "operations";
    /// When the operation is due again.
    type Finished = Option<Instant>;

    fn pool(&self) -> &Pool {
        &self.context.db
    }

    fn is_ready(&self) -> bool {
        self.context.lifecycle.has_started()
    }

    async fn wait(&mut self) {
        let ResourceContext { store, cloud, .. } = &*self.context;
        let released = async {
            match self.next_due {
                Some(next_due) => sleep_until(next_due.into()).await,
                None => std::future::pending().await,
            }
        };
        let others = async {
            sleep(cloud.timing.poll_interval).await;
            store.db.pulse().due(Work::Operations).await;
        };
        tokio::select! {
            () = cloud.wake.notified() => {}
            () = released => {}
            () = others => {}
        }
    }

    fn on_finished(&mut self, result: std::result::Result<(Id, Option<Instant>), JoinError>) {
        match result {
            Ok((_, Some(next_due))) => {
                self.next_due = Some(self.next_due.map_or(next_due, |before| before.min(next_due)));
            }
            Ok((_, None)) => {}
            Err(error) => {
                tracing::error!(%error, "operation task panicked, which is a bug; the operation is resumed");
            }
        }
    }

    /// Claims as many due operations as there is room for, and starts them. Returns whether more may be due.
    async fn claim(&mut self, tasks: &mut JoinSet<Option<Instant>>) -> Result<bool> {
        if self.next_due.is_some_and(|next_due| next_due <= Instant::now()) {
            self.next_due = None;
        }
        let cloud = &self.context.cloud;
        let (timing, capacity) = (&cloud.timing, cloud.timing.concurrency.saturating_sub(tasks.len()));
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
            tasks.spawn(step_run::run(self.context.clone(), claimed, began + timing.lease));
        }
        Ok(more)
    }
}
