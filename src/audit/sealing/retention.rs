//! Removes entries that are older than the retention period: whole UTC months, in batches. Each batch leaves a signed
//! anchor, at which the rest of the chain begins, and is recorded in the trail.

use std::{sync::Arc, time::Duration};

use time::Date;
use tokio::time::timeout;

use super::prune::{self, Batch};
use crate::{
    audit::{
        chain::checkpoint::{Signer, Statement},
        model::{Draft, Outcome},
    },
    base::{
        action::Action,
        error::{Error, Result},
        id::AuditId,
        runtime::{
            clock::{Clock, Timestamp},
            heartbeat::Heartbeat,
            period::Period,
        },
    },
    db::{self, ConnectionSource, Pool},
};

/// Interval between checks for a month that has expired.
const INTERVAL: Duration = Duration::from_secs(60);
/// Deadline for one run.
const RUN_TIMEOUT: Duration = Duration::from_secs(300);
/// Number of entries removed in one batch.
const BATCH_SIZE: i64 = 5_000;
/// Maximum difference between this server's clock and the database's at which entries are removed.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(300);

/// Runs until it is stopped. Keeps this number of whole months.
pub async fn run(db: Pool, clock: Clock, signer: Arc<Signer>, months: u32, heartbeat: Heartbeat) {
    let mut retention = Retention::new(signer, months);
    while heartbeat.pause(INTERVAL).await {
        // The deadline covers responses that are lost in the network. A batch that is interrupted is removed completely
        // or not at all.
        match timeout(RUN_TIMEOUT, retention.apply(&db, clock.now())).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                db.handle_error(&error);
                tracing::warn!(%error, "removal of old audit entries failed; retrying in a minute");
            }
            Err(_) => tracing::warn!("removal of old audit entries timed out; continuing in a minute"),
        }
    }
}

/// Removes old entries.
#[derive(Debug)]
pub struct Retention {
    signer: Arc<Signer>,
    months: u32,
    /// First month that is kept, once all earlier months are known to be removed.
    completed: Option<Period>,
    /// This server's own clock, which is compared with the database's.
    pub system_clock: Clock,
}

impl Retention {
    /// Keeps `months` whole months before the current one.
    pub fn new(signer: Arc<Signer>, months: u32) -> Self {
        Self { signer, months, completed: None, system_clock: Clock::system() }
    }

    /// Removes entries that are expired at `now`.
    pub async fn apply(&mut self, db: &impl ConnectionSource, now: Timestamp) -> Result<()> {
        let mut oldest_kept = Period::of(now.date());
        for _ in 0..self.months {
            oldest_kept = oldest_kept.previous();
        }
        if self.completed == Some(oldest_kept) {
            return Ok(());
        }
        let mut db = db.connection().await?;
        // A server whose clock is a year ahead must not remove entries that are within the retention period.
        let (database_time, system_time) = (db::database_now(&mut db).await?, self.system_clock.now());
        let difference = database_time.until(system_time).max(system_time.until(database_time));
        if difference > CLOCK_TOLERANCE {
            tracing::error!(
                seconds = difference.as_secs(),
                "audit entries not removed: the clocks of this server and the database differ; synchronize them (NTP)"
            );
            return Ok(());
        }
        let before = first_id(oldest_kept.first());
        for chain in prune::due_chains(&mut db, before).await? {
            let mut removed = 0;
            while let Some(batch) = prune::next_batch(&mut db, chain, before, BATCH_SIZE).await? {
                let seq = batch.seq;
                removed += seq - batch.removed_up_to;
                let hash = batch.hash.as_slice().try_into().map_err(Error::internal)?;
                let anchor = self.signer.sign(Statement::Anchor, chain, seq, hash, now);
                prune::delete_batch(&mut db, &batch, &anchor, &retention_entry(&batch, now)).await?;
            }
            tracing::info!(project_id = %chain, removed, kept = %oldest_kept, "old audit entries removed");
        }
        self.completed = Some(oldest_kept);
        Ok(())
    }
}

/// Entry that records the removal of a batch.
fn retention_entry(batch: &Batch, now: Timestamp) -> Draft {
    let changes = [("from_seq".to_owned(), (batch.removed_up_to + 1).into()), ("to_seq".to_owned(), batch.seq.into())];
    Draft::by_system(Action::AuditRetentionApplied, Outcome::Success, changes.into_iter().collect(), now)
}

/// Lowest ID of entries sealed on `day` or later.
fn first_id(day: Date) -> AuditId {
    let millis = Timestamp::new(day.midnight().assume_utc()).unix_millis();
    AuditId::from_u128(u128::try_from(millis).unwrap_or(0) << 80)
}
