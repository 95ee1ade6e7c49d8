//! Reads when the work of the deployment is due, with one statement a second for all workers of this server
//! ([`crate::db::pulse`]). Another server that has sealed audit entries notifies this one, which then reads at once.

use std::time::Duration;

use tokio::time::timeout;

use crate::{
    audit::{repo::StagedPosition, sealing},
    base::{
        error::{Code, Error, Result},
        id::AuditId,
        runtime::{heartbeat::Heartbeat, period::Period},
    },
    db::pulse::Work,
    server::state::App,
};

/// Minimum interval between two readings.
const MIN_INTERVAL: Duration = Duration::from_millis(100);
/// Time limit for a reading.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs until shutdown. Reads after each `interval`.
pub async fn run(app: App, interval: Duration, heartbeat: Heartbeat) {
    let mut is_healthy = true;
    let pulse = app.store.db.pulse();
    let requested = async || drop(timeout(interval.saturating_sub(MIN_INTERVAL), pulse.requested()).await);
    while heartbeat.pause(MIN_INTERVAL.min(interval)).await && heartbeat.pause_until(requested()).await {
        // Before that, the tables may not exist.
        if !app.lifecycle.has_started() {
            continue;
        }
        let on_timeout = |_| Err(Error::new(Code::Timeout, "The database did not respond in time; retrying"));
        let read = timeout(READ_TIMEOUT, read(&app)).await.unwrap_or_else(on_timeout);
        if let Err(error) = &read {
            app.store.db.handle_error(error);
            if is_healthy {
                tracing::warn!(%error, "reading of due work failed; workers poll until it succeeds");
            }
        }
        is_healthy = read.is_ok();
    }
}

#[derive(sqlx::FromRow)]
struct Reading {
    has_written: bool,
    low_water: String,
    last_sealed: AuditId,
    is_staged: bool,
    is_checkpoint_due: bool,
    delivery: Option<f64>,
    operation: Option<f64>,
    sweep: Option<f64>,
    is_expiry_due: bool,
    quota_version: i64,
    purge: Option<f64>,
}

/// Reads what is due, and writes how far the usage of this server is flushed if there was nothing to flush. A
/// journal that is being flushed is skipped.
async fn read(app: &App) -> Result<()> {
    let now = app.store.clock.now();
    let sealed_up_to = app.sealing.sealed_up_to();
    let providers: Vec<_> = app.resources.cloud.providers.iter().map(|provider| provider.name.as_str()).collect();
    let (journal, flushed_at) = app.meter.unchanged_journal().unzip();
    let mut db = app.store.db.acquire_for_write().await?;
    let reading: Reading = sqlx::query_as(
        "WITH flushed AS (
             UPDATE usage_journals SET flushed_at = $2
             WHERE id IN (SELECT id FROM usage_journals
                          WHERE journal = $1 AND flushed_at < $2 AND closed_at IS NULL FOR UPDATE SKIP LOCKED)
             RETURNING id
         )
         SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS low_water,
                EXISTS (SELECT FROM flushed) AS has_written,
                (SELECT last_id FROM audit_sealer) AS last_sealed,
                EXISTS (SELECT FROM (SELECT xact FROM audit_staged WHERE (xact, position) > ($3::text::xid8, $4)
                                     ORDER BY xact, position LIMIT 1) first) AS is_staged,
                coalesce((SELECT uncovered_since FROM audit_chains WHERE uncovered_since IS NOT NULL
                          ORDER BY uncovered_since LIMIT 1) <= $5, false) AS is_checkpoint_due,
                (SELECT extract(epoch FROM min(due_at) - now())::float8 FROM webhook_timers) AS delivery,
                extract(epoch FROM first_operation_due() - now())::float8 AS operation,
                (SELECT extract(epoch FROM min(due_at) - now())::float8 FROM provider_sweeps
                 WHERE provider = ANY ($6)) AS sweep,
                coalesce((SELECT min(expiry_due_at) FROM resources
                          WHERE expiry_due_at IS NOT NULL AND phase <> 'deleted' AND NOT protection) <= $7,
                         false) AS is_expiry_due,
                (SELECT version FROM quota_clock) AS quota_version,
                (SELECT extract(epoch FROM min(due_at) - now())::float8 FROM purges) AS purge",
    )
    .bind(journal)
    .bind(flushed_at)
    .bind(sealed_up_to.xact.to_string())
    .bind(sealed_up_to.position)
    .bind(sealing::checkpoint_due_since(now))
    .bind(providers)
    .bind(now)
    .fetch_one(&mut *db)
    .await?;
    drop(db);
    if reading.has_written {
        app.store.db.writes().record_success();
    }
    if !reading.is_staged {
        app.sealing.record_idle(StagedPosition::before(&reading.low_water)?);
    }
    app.sealing.set_last_sealed(reading.last_sealed);
    let after = |seconds: Option<f64>| seconds.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default());
    let if_due = |is_due: bool| is_due.then_some(Duration::ZERO);
    app.store.db.pulse().publish([
        (Work::Sealing, if_due(reading.is_staged || reading.is_checkpoint_due)),
        (Work::Deliveries, after(reading.delivery)),
        (Work::Operations, after(reading.operation)),
        (Work::Sweeps, after(reading.sweep)),
        (Work::Expiry, if_due(reading.is_expiry_due)),
        (Work::Quotas, if_due(app.quota.version(Period::of(now.date())) != Some(reading.quota_version))),
        (Work::Purges, after(reading.purge)),
    ]);
    Ok(())
}
