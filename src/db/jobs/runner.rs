//! The loop of a queue's worker.

use std::{fmt::Display, time::Duration};

use futures_util::future::BoxFuture;
use tokio::{
    task::{Id, JoinError, JoinSet},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    base::{
        error::{Code, Error, Result},
        runtime::heartbeat::Heartbeat,
    },
    db::Pool,
};

/// Time for jobs in progress to finish when the server stops. An interrupted job is due again after its lease.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Time limit for claiming jobs in the database.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(15);

/// A queue, and the jobs of it that this server runs.
pub trait JobQueue: Send {
    /// Name of the queue in the log.
    const NAME: &'static str;
    /// Result of a job's task.
    type Finished: Send + 'static;

    /// Pool of the queue's database.
    fn pool(&self) -> &Pool;

    /// Reports whether jobs can be claimed. Before the server has started, there may be no tables.
    fn is_ready(&self) -> bool;

    /// Claims due jobs within the free capacity, and spawns a task for each. Returns whether more may be due.
    fn claim(&mut self, tasks: &mut JoinSet<Self::Finished>) -> impl Future<Output = Result<bool>> + Send;

    /// Processes the end of a task.
    fn on_finished(&mut self, result: std::result::Result<(Id, Self::Finished), JoinError>);

    /// Waits until a job may be due. Notices at once what this server makes due, and after a pause what other servers
    /// make due.
    fn wait(&mut self) -> impl Future<Output = ()> + Send;
}

/// Runs jobs until the server stops, then lets those in progress finish, unless `abort` is canceled.
pub async fn run<Q: JobQueue>(mut queue: Q, heartbeat: Heartbeat, abort: CancellationToken) {
    let stop = heartbeat.stop();
    let mut tasks = JoinSet::new();
    let mut is_healthy = true;
    while !stop.is_cancelled() {
        heartbeat.progress();
        let more = queue.is_ready() && claim_or_log(&mut queue, &mut tasks, &mut is_healthy).await;
        heartbeat.pause_until(wait(&mut queue, &mut tasks, more)).await;
        while let Some(finished) = tasks.try_join_next_with_id() {
            queue.on_finished(finished);
        }
    }
    let drained = async { while tasks.join_next().await.is_some() {} };
    if !matches!(timeout(DRAIN_TIMEOUT, abort.run_until_cancelled(drained)).await, Ok(Some(()))) {
        tracing::info!(queue = Q::NAME, "jobs interrupted by shutdown; another server or the next start resumes them");
    }
}

/// Waits until jobs may be claimed. If `more` are due than there was capacity for, each one that ends frees capacity.
async fn wait<Q: JobQueue>(queue: &mut Q, tasks: &mut JoinSet<Q::Finished>, more: bool) {
    loop {
        tokio::select! {
            () = queue.wait() => return,
            Some(finished) = tasks.join_next_with_id() => queue.on_finished(finished),
        }
        if more {
            return;
        }
    }
}

async fn claim_or_log<Q: JobQueue>(queue: &mut Q, tasks: &mut JoinSet<Q::Finished>, is_healthy: &mut bool) -> bool {
    let timed_out = |_| Err(Error::new(Code::Timeout, "The database did not respond in time; the claim is retried"));
    match timeout(CLAIM_TIMEOUT, queue.claim(tasks)).await.unwrap_or_else(timed_out) {
        Ok(more) => {
            if !std::mem::replace(is_healthy, true) {
                tracing::info!(queue = Q::NAME, "job claims resumed");
            }
            more
        }
        Err(error) => {
            queue.pool().handle_error(&error);
            if std::mem::replace(is_healthy, false) {
                tracing::warn!(queue = Q::NAME, %error, "job claim failed; jobs wait in the database, retrying");
            }
            false
        }
    }
}

/// Renews the lease on `job`, of this duration, until `renew` reports that another server holds it. Poll it together with the work, so
/// that a renewal that waits for the database cannot block the work from releasing its connection. A failed renewal is
/// retried, because the lease may still be valid.
pub async fn hold_lease<'a>(
    lease: Duration,
    job: &(impl Display + Sync),
    renew: impl Fn() -> BoxFuture<'a, Result<bool>>,
) {
    loop {
        sleep(lease / 3).await;
        match timeout(lease, renew()).await {
            Ok(Ok(false)) => return,
            Ok(Ok(true)) => {}
            Ok(Err(error)) => tracing::warn!(%error, %job, "lease renewal failed; retrying"),
            Err(_) => tracing::warn!(%job, "lease renewal timed out; retrying"),
        }
    }
}
