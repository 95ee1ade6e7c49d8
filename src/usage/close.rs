//! Makes months final, 24 hours after their end, and forgets the days of months that are.

use std::time::Duration;

use sqlx::PgConnection;
use time::Date;
use tokio::time::timeout;

use super::{
    ledger::{self, OpenJournal},
    repo,
};
use crate::{
    base::{
        clock::{Clock, Timestamp},
        error::Result,
        heartbeat::Heartbeat,
        id::ProjectId,
        period::Period,
    },
    db::{Connections, Pool},
};

/// How long after its end a month becomes final: what a node that was cut off has counted comes in until then.
pub const GRACE: Duration = Duration::from_secs(24 * 3600);
/// How often to look for months that are due.
const INTERVAL: Duration = Duration::from_secs(60);
/// How long it may take at a time.
const LONGEST: Duration = Duration::from_secs(300);
/// How far this machine's clock may differ from the database's for a month to be made final by it.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(300);

/// Runs until it must stop. Days are kept for `days_kept` at least.
pub async fn run(db: Pool, clock: Clock, days_kept: u32, heartbeat: Heartbeat) {
    let mut closer = Closer::new(days_kept);
    while heartbeat.pause(INTERVAL).await {
        // Should the network swallow an answer, it is not waited for.
        match timeout(LONGEST, closer.close(&db, clock.now())).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                db.note(&error);
                tracing::warn!(%error, "months could not be made final; trying again in a minute");
            }
            Err(_) => tracing::warn!("making months final takes long; going on with it in a minute"),
        }
    }
}

/// What makes months final.
#[derive(Debug)]
pub struct Closer {
    /// For how many days the counts of each day are kept.
    days_kept: u32,
    /// The last month that is known to be final for every project.
    done: Option<Period>,
    /// This machine's own clock, which is held against the database's.
    pub machine: Clock,
}

impl Closer {
    /// One that keeps the counts of each day for `days_kept` days at least.
    pub fn new(days_kept: u32) -> Self {
        Self { days_kept, done: None, machine: Clock::system() }
    }

    /// Makes final what is due at `now`, and forgets what need not be kept.
    pub async fn close(&mut self, db: &impl Connections, now: Timestamp) -> Result<()> {
        let mut db = db.connection().await?;
        let due = Period::of(now.minus(GRACE).date()).previous();
        let known = self.done == Some(due);
        if !known && !self.is_clock_right(&mut db).await? {
            return Ok(());
        }
        loop {
            let open = repo::open_months(&mut db, due, known).await?;
            if open.is_empty() {
                break;
            }
            finalize(&mut db, open, now).await?;
        }
        if !known {
            warn_of_silent(&mut db, due).await?;
            self.done = Some(due);
        }
        let days = time::Duration::days(self.days_kept.into());
        let since = Period::of(now.date().checked_sub(days).unwrap_or(Date::MIN)).min(due.next());
        repo::forget_days_before(&mut db, since.first()).await?;
        // Nothing is told of a final month any more.
        ledger::forget_told_before(&mut db, due).await?;
        Ok(())
    }

    /// One machine whose clock is a day ahead must not end the month for everybody.
    async fn is_clock_right(&self, db: &mut PgConnection) -> Result<bool> {
        let (theirs, ours) = (repo::database_now(db).await?, self.machine.now());
        let difference = theirs.until(ours).max(ours.until(theirs));
        if difference > CLOCK_TOLERANCE {
            tracing::error!(
                seconds = difference.as_secs(),
                "this machine's clock differs from the database's, so this server makes no month final; set the clocks (NTP)"
            );
        }
        Ok(difference <= CLOCK_TOLERANCE)
    }
}

async fn finalize(db: &mut PgConnection, months: Vec<(ProjectId, Period)>, now: Timestamp) -> Result<()> {
    let mut months = months.as_slice();
    while let Some(&(_, period)) = months.first() {
        let same = months.iter().take_while(|month| month.1 == period).count();
        let (projects, rest) = months.split_at(same);
        let projects: Vec<_> = projects.iter().map(|month| month.0).collect();
        repo::finalize(db, &projects, period, now).await?;
        tracing::info!(%period, projects = projects.len(), "usage is final");
        months = rest;
    }
    Ok(())
}

async fn warn_of_silent(db: &mut PgConnection, due: Period) -> Result<()> {
    for OpenJournal { journal, flushed_at, .. } in ledger::silent_journals(db, due.end()).await? {
        tracing::warn!(
            %journal,
            %flushed_at,
            "usage became final although this journal has not reported since before the month's end: start its server or import its file, and what it has counted becomes an adjustment; if it is lost, 'cloudapi usage forget' says so"
        );
    }
    Ok(())
}
