//! Finalization of months, 24 hours after their end, and removal of the daily counts of final months.

use std::{iter, time::Duration};

use sqlx::PgConnection;
use time::Date;
use tokio::time::timeout;

use super::{
    ledger::{self, OpenJournal},
    repo,
};
use crate::{
    base::{
        error::Result,
        id::ProjectId,
        runtime::{
            clock::{Clock, Timestamp},
            heartbeat::Heartbeat,
            period::Period,
        },
    },
    db::{self, ConnectionSource, Pool},
};

/// Time from a month's end until it becomes final, so that nodes that were disconnected can still report.
pub const GRACE: Duration = Duration::from_secs(24 * 3600);
/// Interval of checks for due months.
const INTERVAL: Duration = Duration::from_secs(60);
/// Time limit for one run.
const RUN_TIMEOUT: Duration = Duration::from_secs(300);
/// Maximum difference between this machine's clock and the database's at which this server finalizes months.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(300);

/// Runs until shutdown. Daily counts are kept for at least `days_kept` days.
pub async fn run(db: Pool, clock: Clock, days_kept: u32, heartbeat: Heartbeat) {
    let finalizer = Finalizer::new(days_kept);
    while heartbeat.pause(INTERVAL).await {
        // A lost response of the database must not block this worker forever.
        match timeout(RUN_TIMEOUT, finalizer.finalize_due(&db, clock.now())).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                db.handle_error(&error);
                tracing::warn!(%error, "usage finalization failed; retrying in a minute");
            }
            Err(_) => tracing::warn!("usage finalization timed out; continuing in a minute"),
        }
    }
}

/// Finalizes months.
#[derive(Debug)]
pub struct Finalizer {
    /// Minimum retention of daily counts, in days.
    days_kept: u32,
    /// This machine's clock, which is compared with the database's.
    pub system_clock: Clock,
}

impl Finalizer {
    /// Creates a finalizer that keeps daily counts for at least `days_kept` days.
    pub fn new(days_kept: u32) -> Self {
        Self { days_kept, system_clock: Clock::system() }
    }

    /// Finalizes the months that are due at `now`, and removes daily counts after their retention.
    pub async fn finalize_due(&self, db: &impl ConnectionSource, now: Timestamp) -> Result<()> {
        let mut db = db.connection().await?;
        let due = Period::of(now.minus(GRACE).date()).previous();
        let open = repo::first_open_month(&mut db).await?;
        let is_finalized = open.is_some_and(|open| open > due);
        if !is_finalized {
            if !self.is_clock_in_sync(&mut db).await? {
                return Ok(());
            }
            let next = |period: &Period| Some(period.next());
            for period in iter::successors(open.or(Some(due)), next).take_while(|period| *period <= due) {
                finalize_projects(&mut db, period, now).await?;
                repo::set_final_through(&mut db, period).await?;
            }
        }
        loop {
            let used = repo::used_months(&mut db, due).await?;
            if used.is_empty() {
                break;
            }
            finalize(&mut db, used, now).await?;
        }
        if !is_finalized {
            warn_about_stale_journals(&mut db, due).await?;
        }
        let days = time::Duration::days(self.days_kept.into());
        let since = Period::of(now.date().checked_sub(days).unwrap_or(Date::MIN)).min(due.next());
        repo::delete_days_before(&mut db, since.first()).await?;
        // No notices are sent for final months.
        ledger::delete_notices_before(&mut db, due).await?;
        Ok(())
    }

    /// Prevents a machine whose clock is a day ahead from ending the month for everyone.
    async fn is_clock_in_sync(&self, db: &mut PgConnection) -> Result<bool> {
        let (database_time, system_time) = (db::database_now(db).await?, self.system_clock.now());
        let difference = database_time.until(system_time).max(system_time.until(database_time));
        if difference > CLOCK_TOLERANCE {
            tracing::error!(
                seconds = difference.as_secs(),
                "this machine's clock differs from the database's, so this server does not finalize months; synchronize the clocks (NTP)"
            );
        }
        Ok(difference <= CLOCK_TOLERANCE)
    }
}

/// Finalizes a month for all projects that existed.
async fn finalize_projects(db: &mut PgConnection, period: Period, now: Timestamp) -> Result<()> {
    let mut after = ProjectId::FIRST;
    loop {
        let projects = repo::next_projects(db, after, period).await?;
        let Some(&(last, _)) = projects.last() else { return Ok(()) };
        after = last;
        let open = projects.into_iter().filter_map(|(project, is_open)| is_open.then_some((project, period)));
        finalize(db, open.collect(), now).await?;
    }
}

async fn finalize(db: &mut PgConnection, months: Vec<(ProjectId, Period)>, now: Timestamp) -> Result<()> {
    let mut months = months.as_slice();
    while let Some(&(_, period)) = months.first() {
        let count = months.iter().take_while(|month| month.1 == period).count();
        let (projects, rest) = months.split_at(count);
        let projects: Vec<_> = projects.iter().map(|month| month.0).collect();
        repo::finalize(db, &projects, period, now).await?;
        tracing::info!(%period, projects = projects.len(), "usage finalized");
        months = rest;
    }
    Ok(())
}

async fn warn_about_stale_journals(db: &mut PgConnection, due: Period) -> Result<()> {
    for OpenJournal { journal, flushed_at, .. } in ledger::stale_journals(db, due.end()).await? {
        tracing::warn!(
            %journal,
            %flushed_at,
            "usage was finalized without this journal, which last reported before the month's end: start its server or import its file, and its requests become an adjustment; if it is lost, run 'cloudapi usage forget'"
        );
    }
    Ok(())
}
