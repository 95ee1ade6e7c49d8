//! Small workers that write counts from memory, and remove old records and what belonged to deleted projects.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::{
    api::{keys, webhooks::delivery::queue},
    auth::{expired, revocation::node},
    base::{
        error::{Code, Error, Result},
        runtime::heartbeat::Heartbeat,
    },
    db::{deletions, pulse::Work, purges},
    resources,
    server::state::App,
    tx::idempotency,
};

/// Interval of removing old records.
const CLEANUP_INTERVAL: Duration = Duration::from_secs(60);
/// Pause after a purge, until a new reading of what is due.
const PURGE_PAUSE: Duration = Duration::from_secs(1);
/// Interval of writing denials to the audit trail.
const DENIALS_INTERVAL: Duration = Duration::from_secs(60);
/// Interval of writing reads of the audit trail to it.
const READS_INTERVAL: Duration = Duration::from_secs(2);
/// Time limit for one step in the database.
const STEP_TIMEOUT: Duration = Duration::from_secs(25);

/// Repeats a step until nothing is left. Each batch is a short transaction, and the pauses leave the database half of the
/// time. A macro, because a closure that borrows the connection is not `Send`.
macro_rules! in_batches {
    ($app:expr, $heartbeat:expr, |$db:ident| $step:expr) => {
        loop {
            let began = Instant::now();
            let batch = async {
                let $db = &mut *$app.store.db.acquire_for_write().await?;
                Ok($step.await?)
            };
            match with_timeout(batch).await {
                Ok(0) => break Ok(()),
                Ok(_) if $heartbeat.pause(began.elapsed()).await => {}
                Ok(_) => break Ok(()),
                Err(error) => break Err(error),
            }
        }
    };
}

/// Writes denials to the audit trail every minute, and once more at shutdown.
pub async fn write_denials(app: App, heartbeat: Heartbeat) {
    let mut is_running = true;
    while is_running {
        is_running = heartbeat.pause(DENIALS_INTERVAL).await;
        if let Err(error) = with_timeout(app.denials.flush(&app.store.db, &app.store.clock)).await {
            app.store.db.handle_error(&error);
            tracing::warn!(%error, "audit of denials failed; retrying in a minute");
        }
    }
}

/// Writes to the audit trail who read it in past minutes, and once more at shutdown.
pub async fn write_reads(app: App, heartbeat: Heartbeat) {
    let mut is_last = false;
    while !is_last {
        is_last = !heartbeat.pause(READS_INTERVAL).await;
        if let Err(error) = with_timeout(app.audit_logs.reads.flush(&app.store.db, &app.store.clock, is_last)).await {
            app.store.db.handle_error(&error);
            tracing::warn!(%error, "audit of audit trail reads failed; retrying");
        }
    }
}

/// Removes expired rate-limit states, and records that can no longer be requested.
pub async fn cleanup(app: App, heartbeat: Heartbeat) {
    while heartbeat.pause(CLEANUP_INTERVAL).await {
        app.limits.sweep();
        if let Some(credentials) = &app.node.credentials {
            credentials.sweep();
        }
        if let Err(error) = prune_old_records(&app, &heartbeat).await {
            app.store.db.handle_error(&error);
            tracing::warn!(%error, "removal of old records failed; retrying in a minute");
        }
    }
}

/// Removes what belonged to deleted projects and webhooks.
pub async fn purge(app: App, heartbeat: Heartbeat) {
    while heartbeat.pause_until(app.store.db.pulse().due(Work::Purges)).await {
        let done: Result<()> = in_batches!(app, heartbeat, |db| purges::purge_batch(db));
        if let Err(error) = done {
            app.store.db.handle_error(&error);
            tracing::warn!(%error, "purge of a deleted project or webhook failed; retrying");
        }
        if !heartbeat.pause(PURGE_PAUSE).await {
            return;
        }
    }
}

async fn prune_old_records(app: &App, heartbeat: &Heartbeat) -> Result<()> {
    let now = || app.store.clock.now();
    let retention = app.resources.cloud.timing.retention;
    in_batches!(app, heartbeat, |db| node::prune_log(db))?;
    in_batches!(app, heartbeat, |db| idempotency::delete_expired(db, now()))?;
    in_batches!(app, heartbeat, |db| deletions::delete_expired(db, now()))?;
    in_batches!(app, heartbeat, |db| expired::delete_expired(db, now()))?;
    in_batches!(app, heartbeat, |db| keys::repo::record_expired(db, now()))?;
    in_batches!(app, heartbeat, |db| queue::delete_old(db, &app.webhooks.outbox.policy))?;
    in_batches!(app, heartbeat, |db| resources::store::queue::prune(db, now().minus(retention)))?;
    Ok(())
}

async fn with_timeout<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let on_timeout = |_| Err(Error::new(Code::Timeout, "The database did not respond in time; the step is retried"));
    timeout(STEP_TIMEOUT, work).await.unwrap_or_else(on_timeout)
}
