//! Removes what is older than the operator keeps: whole UTC months, a batch at a time, each behind a signed anchor that
//! the rest of the chain begins after, and each told in the trail.

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

/// How often to look whether a month has become too old.
const INTERVAL: Duration = Duration::from_secs(60);
/// How long it may take at a time.
const LONGEST: Duration = Duration::from_secs(300);
/// How many entries are removed at a time.
const BATCH: i64 = 5_000;
/// How far this machine's clock may differ from the database's for anything to be removed by it.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(300);

/// Runs until it must stop. Keeps so many whole months.
pub async fn run(db: Pool, clock: Clock, signer: Arc<Signer>, months: u32, heartbeat: Heartbeat) {
    let mut retention = Retention::new(signer, months);
    while heartbeat.pause(INTERVAL).await {
        // Should the network swallow an answer, it is not waited for. A batch that is cut off is done or not done.
        match timeout(LONGEST, retention.trim(&db, clock.now())).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                db.note(&error);
                tracing::warn!(%error, "old audit entries could not be removed; trying again in a minute");
            }
            Err(_) => tracing::warn!("removing old audit entries takes long; going on with it in a minute"),
        }
    }
}

/// What removes old entries.
#[derive(Debug)]
pub struct Retention {
    signer: Arc<Signer>,
    months: u32,
    /// The first month that is kept, once all before it is known to be removed.
    done: Option<Period>,
    /// This machine's own clock, which is held against the database's.
    pub machine: Clock,
}

impl Retention {
    /// One that keeps so many whole months before the present one.
    pub fn new(signer: Arc<Signer>, months: u32) -> Self {
        Self { signer, months, done: None, machine: Clock::system() }
    }

    /// Removes what is too old at `now`.
    pub async fn trim(&mut self, db: &impl Connections, now: Timestamp) -> Result<()> {
        let mut kept = Period::of(now.date());
        for _ in 0..self.months {
            kept = kept.previous();
        }
        if self.done == Some(kept) {
            return Ok(());
        }
        let mut db = db.connection().await?;
        // One machine whose clock is a year ahead must not remove what everybody wants to keep.
        let (theirs, ours) = (usage::repo::database_now(&mut db).await?, self.machine.now());
        let difference = theirs.until(ours).max(ours.until(theirs));
        if difference > CLOCK_TOLERANCE {
            tracing::error!(
                seconds = difference.as_secs(),
                "this machine's clock differs from the database's, so this server removes no audit entries; set the clocks (NTP)"
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
            tracing::info!(project_id = %chain, removed, %kept, "audit entries older than the months that are kept were removed");
        }
        self.done = Some(kept);
        Ok(())
    }
}

/// The entry that tells of a batch.
fn told(batch: &Batch, now: Timestamp) -> Draft {
    let changes = [("from_seq".to_owned(), (batch.removed_up_to + 1).into()), ("to_seq".to_owned(), batch.seq.into())];
    Draft::by_system(Action::AuditRetentionApplied, Outcome::Success, changes.into_iter().collect(), now)
}

/// The first id that an entry sealed on `day` or later can have.
fn first_id(day: Date) -> AuditId {
    let millis = Timestamp::new(day.midnight().assume_utc()).unix_millis();
    AuditId::from_u128(u128::try_from(millis).unwrap_or(0) << 80)
}
