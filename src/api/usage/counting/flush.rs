//! Flushes journals to the database: every second, and once more at shutdown. Counts are sent as absolute numbers, so a
//! flush with an unknown outcome can be repeated without counting twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    journal::{CounterChange, Journal, file::File},
    meter::{FlushState, Meter, SentCounters},
};
use crate::{
    api::usage::{
        ledger::{self, QuotaUsage, UsageRow},
        quota::QuotaEnforcer,
    },
    base::{
        error::{Code, Error, Result},
        id::ProjectId,
        identity::credential::CredentialId,
        runtime::{
            clock::{Clock, Timestamp},
            heartbeat::Heartbeat,
            period::Period,
        },
    },
    db::{ConnectionSource, Pool, pulse::Work},
};

/// Interval between flushes, and the maximum age of reported usage.
pub const INTERVAL: Duration = Duration::from_secs(1);
/// Time limit for a flush. A lost response of the database must not block all later flushes.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(15);
/// Maximum rows per statement.
const BATCH_SIZE: usize = 10_000;

/// Runs until shutdown.
pub async fn run(meter: Arc<Meter>, quota: Arc<QuotaEnforcer>, db: Pool, clock: Clock, heartbeat: Heartbeat) {
    while heartbeat.pause(INTERVAL).await {
        meter.rotate_if_due(clock.now().date());
        // Otherwise, an empty flush reports that everything is flushed.
        let is_unchanged = db.pulse().is_recent() && note_unchanged(&meter, &clock).await;
        if !is_unchanged {
            match flush_or_log(&meter, &db, &clock).await {
                Some(error) => drop(db.handle_error(&error)),
                // A journal with a file is written to the database on every flush.
                None if meter.current().file().is_some() => db.writes().record_success(),
                None => {}
            }
        }
        heartbeat.progress();
        let period = Period::of(clock.now().date());
        if is_unchanged && !db.pulse().is_planned(Work::Quotas) && quota.version(period).is_some() {
            continue;
        }
        if let Err(error) = with_timeout(refresh(&quota, &db, &clock)).await {
            db.handle_error(&error);
            tracing::warn!(%error, "quota refresh failed; the last known hard limits apply");
        }
    }
}

/// Adopts the existing journals, and begins to count in one of them.
pub async fn open(meter: &Meter, db: &impl ConnectionSource, clock: &Clock) -> anyhow::Result<()> {
    let Some(folder) = meter.folder() else { return Ok(()) };
    let mut connection = db.connection().await?;
    let database = ledger::database_id(&mut connection).await?;
    meter.open(database, clock.now().date()).map_err(|error| {
        anyhow::anyhow!(
            "usage cannot be counted in {}: {error}; grant this user write access to it, or set another CLOUDAPI_DATA_DIR",
            folder.display()
        )
    })?;
    drop(connection);
    // Adopted journals are flushed before `Usage-As-Of` is reported to anyone.
    flush_or_log(meter, db, clock).await;
    Ok(())
}

/// Flushes a last time, when nothing is counted any more.
pub async fn close(meter: &Meter, db: &impl ConnectionSource, clock: &Clock) {
    if let Err(error) = async {
        flush(meter, db, clock).await?;
        let mut db = db.connection().await?;
        ledger::close(&mut db, meter.current().id, clock.now()).await?;
        Result::Ok(())
    }
    .await
    {
        tracing::warn!(%error, "last usage flush failed; the usage remains in its journal until this server starts again");
    }
}

/// Flushes a journal in which nothing is counted, and closes it.
pub async fn import(journal: &Journal, db: &mut PgConnection, clock: &Clock) -> Result<()> {
    let mut touched = BTreeSet::new();
    flush_journal(db, journal, &mut SentCounters::default(), &mut touched, clock).await?;
    evaluate_quotas(db, &mut touched).await?;
    ledger::close(db, journal.id, clock.now()).await?;
    Ok(())
}

/// Flushes. On failure, the counts remain in their journals, and the error is logged and returned.
pub async fn flush_or_log(meter: &Meter, db: &impl ConnectionSource, clock: &Clock) -> Option<Error> {
    let started = Instant::now();
    let flushed = with_timeout(flush(meter, db, clock)).await;
    meter.metrics.record_flush(flushed.as_ref().ok().copied(), started.elapsed(), clock.now());
    let error = flushed.err()?;
    tracing::warn!(%error, "usage flush failed; retrying");
    // During an outage of the database, a power failure still loses at most a second of usage.
    let journal = meter.current();
    if let Ok(Err(error)) = tokio::task::spawn_blocking(move || journal.sync()).await {
        let path = meter.folder().map(|folder| folder.display().to_string()).unwrap_or_default();
        tracing::error!(%error, path, "usage journal sync failed");
    }
    Some(error)
}

async fn with_timeout<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let timed_out = |_| Error::new(Code::Timeout, "The database did not respond in time; the flush is retried");
    tokio::time::timeout(FLUSH_TIMEOUT, work).await.unwrap_or_else(|elapsed| Err(timed_out(elapsed)))
}

/// Updates the hard limits in `quota` if their states have changed, and writes notices for projects that are near a
/// quota.
pub async fn refresh(quota: &QuotaEnforcer, db: &impl ConnectionSource, clock: &Clock) -> Result<()> {
    let mut db = db.connection().await?;
    let now = clock.now();
    let period = Period::of(now.date());
    let version = ledger::quota_version(&mut db).await?;
    // After a failover, the version may be from before.
    let known = quota.version(period).filter(|known| *known <= version);
    // Late requests may reach a quota of the previous month, until that month is final.
    let months = [period.previous(), period, QuotaUsage::every_month()];
    let changed = match known {
        Some(known) if known == version => Vec::new(),
        known => ledger::quota_states(&mut db, &months, known.unwrap_or(-1), version).await?,
    };
    let usages = quota.adopt(period, version, known, changed);
    quota.set(&usages, period);
    let notices: Vec<_> = quota
        .unrecorded(&usages)
        .into_iter()
        .map(|(notice, requests)| (notice, notice.to_entry(requests, now)))
        .collect();
    if !notices.is_empty() {
        // If this fails, the states are read again.
        let recorded = ledger::record_notices(&mut db, &notices).await;
        recorded.inspect_err(|_| quota.forget())?;
        quota.set_recorded(&usages);
    }
    Ok(())
}

/// Whether there is nothing to flush. If so, the pulse writes up to when the journals are flushed.
async fn note_unchanged(meter: &Meter, clock: &Clock) -> bool {
    let flushed = meter.flushing.lock().await;
    let as_of = clock.now();
    let journal = meter.current();
    let (changes, is_open) = match flushed.journals.get(&journal.id) {
        Some(sent) => (journal.changed_since(&sent.readings), sent.is_open),
        None => (journal.changed_since(&[]), false),
    };
    // An older journal must be closed. A journal in a file must be known to the database.
    let is_unchanged = flushed.routes
        && meter.older_journals().is_empty()
        && changes.is_empty()
        && (is_open || journal.file().is_none());
    if is_unchanged {
        meter.metrics.record_flush(Some(0), Duration::ZERO, as_of);
        meter.set_unchanged(is_open.then_some((journal.id, as_of)));
    }
    is_unchanged
}

/// Flushes all journals. Returns the number of rows.
pub async fn flush(meter: &Meter, db: &impl ConnectionSource, clock: &Clock) -> Result<usize> {
    let mut flushed = meter.flushing.lock().await;
    let mut db = db.connection().await?;
    let FlushState { journals, routes, unevaluated } = &mut *flushed;
    let mut rows = 0;
    if !*routes {
        let names: Vec<_> = meter.routes().iter().map(|(route, name)| (route.number, name.as_str())).collect();
        ledger::name_routes(&mut db, &names).await?;
        *routes = !names.is_empty();
    }
    for journal in meter.older_journals() {
        // Checked before the journal is read: once unreferenced, nothing can begin to count in it.
        let is_unused = Arc::strong_count(&journal) == 2;
        rows += flush_journal(&mut db, &journal, journals.entry(journal.id).or_default(), unevaluated, clock).await?;
        if is_unused {
            ledger::close(&mut db, journal.id, clock.now()).await?;
            // A file that remains is adopted by a later start, which finds that everything is flushed.
            if let Some(Err(error)) = journal.file().map(File::remove) {
                tracing::warn!(%error, "removal of a flushed usage journal failed");
            }
            meter.remove(&journal);
            journals.remove(&journal.id);
        }
    }
    let journal = meter.current();
    rows += flush_journal(&mut db, &journal, journals.entry(journal.id).or_default(), unevaluated, clock).await?;
    evaluate_quotas(&mut db, unevaluated).await?;
    Ok(rows)
}

/// Evaluates the quotas of these projects and months, whose usage was written.
async fn evaluate_quotas(db: &mut PgConnection, months: &mut BTreeSet<(ProjectId, Period)>) -> Result<()> {
    if !months.is_empty() {
        ledger::evaluate_quotas(db, &months.iter().copied().collect::<Vec<_>>()).await?;
        months.clear();
    }
    Ok(())
}

/// Flushes one journal. Adds the projects and months whose usage it has written to `touched`.
async fn flush_journal(
    db: &mut PgConnection,
    journal: &Journal,
    sent: &mut SentCounters,
    touched: &mut BTreeSet<(ProjectId, Period)>,
    clock: &Clock,
) -> Result<usize> {
    let as_of = clock.now();
    let changes = journal.changed_since(&sent.readings);
    if changes.is_empty() && sent.readings.is_empty() && journal.file().is_none() {
        // Nothing was counted in it, and it has no file to be found.
        return Ok(0);
    }
    let Delta { rows, months, last_uses } = Delta::from_changes(&changes);
    // Before the write, whose outcome may remain unknown.
    touched.extend(months.iter().copied());
    let final_rows = loop {
        let is_final = |row: &UsageRow| sent.final_months.contains(&(row.project, Period::of(row.day)));
        let (final_rows, rows): (Vec<_>, Vec<_>) = rows.iter().copied().partition(is_final);
        if write(db, journal.id, as_of, &rows).await? {
            break final_rows;
        }
        // Some month is final, maybe since a moment ago. Batches already written are written again.
        let months: Vec<_> = months.iter().copied().collect();
        let count_before = sent.final_months.len();
        sent.final_months.extend(ledger::finalized_months(db, &months).await?);
        if sent.final_months.len() == count_before {
            return Err(Error::internal("a flush was refused because of a final month, but no month is final"));
        }
    };
    for batch in final_rows.chunks(BATCH_SIZE) {
        let skipped = ledger::write_late(db, journal.id, as_of, batch).await?;
        if skipped > 0 {
            tracing::error!(
                journal = %journal.id,
                requests = skipped,
                "requests skipped: only sums are kept of their month, so they may already be counted"
            );
        }
    }
    if !last_uses.is_empty() {
        ledger::update_last_used(db, &last_uses).await?;
    }
    for CounterChange { index, now, .. } in changes {
        if sent.readings.len() <= index {
            sent.readings.resize(index + 1, Default::default());
        }
        if let Some(reading) = sent.readings.get_mut(index) {
            *reading = now;
        }
    }
    sent.is_open = true;
    Ok(rows.len())
}

/// Changes in the form that the database takes, in the same order on every node.
struct Delta {
    rows: Vec<UsageRow>,
    months: BTreeSet<(ProjectId, Period)>,
    last_uses: Vec<(CredentialId, Timestamp)>,
}

impl Delta {
    fn from_changes(changes: &[CounterChange]) -> Self {
        let (mut rows, mut months, mut last_uses) = (Vec::new(), BTreeSet::new(), BTreeMap::new());
        for CounterChange { counter, before, now, .. } in changes {
            let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
            if let Some(project) = counter.project
                && now.count > before.count
            {
                let (credential, route, day) = (counter.credential, counter.route, counter.day);
                rows.push(UsageRow { project, day, credential, route, count: count(now.count) });
                months.insert((project, Period::of(day)));
            }
            if now.used > before.used {
                let last: &mut u64 = last_uses.entry(counter.credential).or_default();
                *last = now.used.max(*last);
            }
        }
        rows.sort_unstable();
        let at = |minute: u64| Timestamp::from_unix_minutes(minute);
        Self {
            rows,
            months,
            last_uses: last_uses.into_iter().filter_map(|(id, minute)| Some((id, at(minute)?))).collect(),
        }
    }
}

/// Writes rows. Returns false if one of their months is final.
async fn write(db: &mut PgConnection, journal: Uuid, as_of: Timestamp, rows: &[UsageRow]) -> Result<bool> {
    // Without rows, one empty batch is sent, to report that the journal is flushed up to now.
    let batches = rows.chunks(BATCH_SIZE).len().max(1);
    for number in 1..=batches {
        let batch = rows.chunks(BATCH_SIZE).nth(number - 1).unwrap_or_default();
        // Only the last batch completes the flush.
        let as_of = if number == batches { as_of } else { Timestamp::EARLIEST };
        if !ledger::write(db, journal, as_of, batch).await? {
            return Ok(false);
        }
    }
    Ok(true)
}
