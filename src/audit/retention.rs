//! Removes entries that are older than the retention period: whole UTC months, in batches. Each batch leaves a signed
//! anchor, at which the rest of the chain begins, and is recorded in the trail.

use std::{sync::Arc, time::Duration};

use time::Date;
use tokio::time::timeout;

use super::{
    checkpoint::{Signer, Statement},
    model::{Draft, Outcome},
    trim::{self, Batch},
};
use crate::{
    base::{
        action::Action,
        clock::{Clock, Timestamp},
        error::{Error, Result},
        heartbeat::Heartbeat,
        id::AuditId,
        period::Period,
    },
    db::{Connections, Pool},
    usage,
};

/// Interval between checks for a month that has expired.
const INTERVAL: Duration = Duration::from_secs(60);
/// Deadline for one run.
const LONGEST: Duration = Duration::from_secs(300);
/// Number of entries removed in one batch.
const BATCH: i64 = 5_000;
/// Maximum difference between this server's clock and the database's at which entries are removed.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(300);

/// Runs until it is stopped. Keeps this number of whole months.
pub async fn run(db: Pool, clock: Clock, signer: Arc<Signer>, months: u32, heartbeat: Heartbeat) {
    let mut retention = Retention::new(signer, months);
    while heartbeat.pause(INTERVAL).await {
        // The deadline covers responses that are lost in the network. A batch that is interrupted is removed completely
        // or not at all.
        match timeout(LONGEST, retention.trim(&db, clock.now())).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                db.note(&error);
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
    done: Option<Period>,
    /// This server's own clock, which is compared with the database's.
    pub machine: Clock,
}

impl Retention {
    /// Keeps `months` whole months before the current one.
    pub fn new(signer: Arc<Signer>, months: u32) -> Self {
        Self { signer, months, done: None, machine: Clock::system() }
    }

    /// Removes entries that are expired at `now`.
    pub async fn trim(&mut self, db: &impl Connections, now: Timestamp) -> Result<()> {
        let mut kept = Period::of(now.date());
        for _ in 0..self.months {
            kept = kept.previous();
        }
        if self.done == Some(kept) {
            return Ok(());
        }
        let mut db = db.connection().await?;
        // A server whose clock is a year ahead must not remove entries that are within the retention period.
        let (theirs, ours) = (usage::repo::database_now(&mut db).await?, self.machine.now());
        let difference = theirs.until(ours).max(ours.until(theirs));
        if difference > CLOCK_TOLERANCE {
            tracing::error!(
                seconds = difference.as_secs(),
                "audit entries not removed: the clocks of this server and the database differ; synchronize them (NTP)"
            );
            return Ok(());
        }
        let before = first_id(kept.first());
        for chain in trim::due(&mut db, before).await? {
            let mut removed = 0;
            while let Some(batch) = trim::batch(&mut db, chain, before, BATCH).await? {
                let seq = batch.seq;
                removed += seq - batch.removed_up_to;
                let hash = batch.hash.as_slice().try_into().map_err(Error::internal)?;
                let anchor = self.signer.sign(Statement::Anchor, chain, seq, hash, now);
                trim::remove(&mut db, &batch, &anchor, &told(&batch, now)).await?;
            }
            tracing::info!(project_id = %chain, removed, %kept, "old audit entries removed");
        }
        self.done = Some(kept);
        Ok(())
    }
}

/// Entry that records the removal of a batch.
fn told(batch: &Batch, now: Timestamp) -> Draft {
    let changes = [("from_seq".to_owned(), (batch.removed_up_to + 1).into()), ("to_seq".to_owned(), batch.seq.into())];
    Draft::by_system(Action::AuditRetentionApplied, Outcome::Success, changes.into_iter().collect(), now)
}

/// Lowest ID of entries sealed on `day` or later.
fn first_id(day: Date) -> AuditId {
    let millis = Timestamp::new(day.midnight().assume_utc()).unix_millis();
    AuditId::from_u128(u128::try_from(millis).unwrap_or(0) << 80)
}
