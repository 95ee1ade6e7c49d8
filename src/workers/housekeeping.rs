//! Small workers that write counts from memory, and remove old records.

use std::time::Duration;

use tokio::time::timeout;

use crate::{
    auth::node,
    base::{
        error::{Code, Error, Result},
        heartbeat::Heartbeat,
    },
    db::deletions,
    resources,
    state::App,
    tx::idempotency,
    webhooks::queue,
};

/// Interval of removing old records.
const CLEANUP_INTERVAL: Duration = Duration::from_secs(60);
/// Interval of writing denials to the audit trail.
const DENIALS_INTERVAL: Duration = Duration::from_secs(60);
/// Interval of writing reads of the audit trail to it.
const READS_INTERVAL: Duration = Duration::from_secs(2);
/// Time limit for one step in the database.
const LONGEST: Duration = Duration::from_secs(25);

/// Writes denials to the audit trail every minute, and once more at shutdown.
pub async fn write_denials(app: App, heartbeat: Heartbeat) {
    let mut goes_on = true;
    while goes_on {
        goes_on = heartbeat.pause(DENIALS_INTERVAL).await;
        if let Err(error) = in_time(app.refusals.flush(&app.db, &app.clock)).await {
            app.db.note(&error);
            tracing::warn!(%error, "audit of denials failed; retrying in a minute");
        }
    }
}

/// Writes to the audit trail who read it in past minutes, and once more at shutdown.
pub async fn write_reads(app: App, heartbeat: Heartbeat) {
    let mut is_last = false;
    while !is_last {
        is_last = !heartbeat.pause(READS_INTERVAL).await;
        if let Err(error) = in_time(app.reads.flush(&app.db, &app.clock, is_last)).await {
            app.db.note(&error);
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
        if let Err(error) = forget_old(&app, &heartbeat).await {
            app.db.note(&error);
            tracing::warn!(%error, "removal of old records failed; retrying in a minute");
        }
    }
}

async fn forget_old(app: &App, heartbeat: &Heartbeat) -> Result<()> {
    let mut db = app.db.acquire_for_write().await?;
    in_time(async { Ok(node::forget_old(&mut db).await?) }).await?;
    let until = app.clock.now().minus(app.cloud.pace.kept_for);
    // In batches, so that transactions stay short.
    while in_time(async { Ok(idempotency::forget_old(&mut db, app.clock.now()).await?) }).await? > 0 {
        heartbeat.progress();
    }
    while in_time(async { Ok(deletions::forget_old(&mut db, app.clock.now()).await?) }).await? > 0 {
        heartbeat.progress();
    }
    while in_time(async { Ok(queue::sweep(&mut db, &app.outbox.pace).await?) }).await? > 0 {
        heartbeat.progress();
    }
    while in_time(async { Ok(resources::queue::forget_old(&mut db, until).await?) }).await? > 0 {
        heartbeat.progress();
    }
    Ok(())
}

async fn in_time<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let late = |_| Err(Error::new(Code::Timeout, "The database did not respond in time; the step is retried"));
    timeout(LONGEST, work).await.unwrap_or_else(late)
}
