//! Seals staged entries into their chains. Every server tries, and an advisory lock admits one at a time.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use sqlx::{Connection, PgConnection, PgPool};

use super::{
    checkpoint::{Signed, Signer},
    figures::Figures,
    link::{CHECKPOINT_AGE, Linked, Linker},
    model::DEPLOYMENT,
    repo::{self, Mark},
};
use crate::{
    base::{
        clock::Clock,
        error::{Code, Error, Result},
        heartbeat::Heartbeat,
        hex,
        id::AuditId,
        lifecycle::Lifecycle,
    },
    db::{self, Pool},
    webhooks,
};

/// Each statement must see commits that precede it, independent of the database's default isolation level.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";
/// Polling interval. A NOTIFY per staged entry would serialize the commits of all writes.
const INTERVAL: Duration = Duration::from_millis(100);
/// Number of entries sealed in one transaction.
const BATCH: usize = 2000;
/// Number of overdue checkpoints created in one transaction.
const DUE_AT_ONCE: usize = 500;
/// Limit up to which staged entries are counted for the metrics.
const COUNTED: i64 = 10_000;
/// Deadline for one poll and batch. A response that is lost in the network must not block later batches.
const LONGEST: Duration = Duration::from_secs(15);

/// Result of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All visible entries are sealed.
    Done,
    /// More entries are waiting.
    More,
    /// Another server holds the sealer lock.
    NotOurTurn,
}

/// Sealer of one server.
#[derive(Debug)]
pub struct Sealer {
    // A separate connection, so that sealing does not wait for requests that have exhausted the pool.
    db: Pool,
    clock: Clock,
    signer: Arc<Signer>,
    figures: Arc<Figures>,
    /// Position before which everything is sealed. Later scans start here and skip the dead rows before it.
    mark: Mark,
}

impl Sealer {
    /// Creates a sealer for the database of `db`.
    pub fn new(db: &PgPool, clock: Clock, signer: Arc<Signer>, figures: Arc<Figures>) -> Self {
        Self { db: pool_of_one(db), clock, signer, figures, mark: Mark::default() }
    }

    /// Seals entries from the time the server is open until it is stopped, then seals the remaining ones.
    pub async fn run(mut self, lifecycle: Arc<Lifecycle>, heartbeat: Heartbeat) {
        let stop = heartbeat.stop();
        let mut is_well = true;
        loop {
            // Before that, the tables may not exist.
            if !lifecycle.is_open() && heartbeat.pause(INTERVAL).await {
                continue;
            }
            heartbeat.progress();
            // Read before the attempt, so that entries staged before the stop are sealed by the last attempt.
            let is_last = stop.is_cancelled();
            match self.seal().await {
                Ok(outcome) => {
                    if !std::mem::replace(&mut is_well, true) {
                        tracing::info!("audit sealing resumed");
                    }
                    if outcome == Outcome::More {
                        continue;
                    }
                    // Entries that another server is sealing need not be waited for.
                    if is_last {
                        break;
                    }
                }
                Err(error) => {
                    self.db.note(&error);
                    self.figures.look(None);
                    if std::mem::replace(&mut is_well, false) {
                        tracing::warn!(%error, "audit sealing failed; entries wait in the database and are retried");
                    }
                    if is_last {
                        break;
                    }
                }
            }
            heartbeat.pause(INTERVAL).await;
        }
        self.db.close().await;
    }

    /// Seals one batch, if any entries are staged.
    pub async fn seal(&mut self) -> Result<Outcome> {
        match tokio::time::timeout(LONGEST, self.try_to_seal()).await {
            Ok(outcome) => outcome,
            Err(_) => {
                // The state of the old connection is unknown: a response may still arrive on it.
                self.db = pool_of_one(&self.db);
                Err(Error::new(Code::Timeout, "The database did not respond in time; retrying"))
            }
        }
    }

    async fn try_to_seal(&mut self) -> Result<Outcome> {
        let now = self.clock.now();
        let due_since = now.minus(CHECKPOINT_AGE);
        let mut db = self.db.acquire().await?;
        let look = repo::look(&mut db, self.mark, COUNTED, due_since).await?;
        self.figures.look(u64::try_from(look.staged).ok());
        self.figures.reached(look.last_id);
        if look.staged == 0 && !look.is_due {
            self.mark = look.low_water()?;
            return Ok(Outcome::Done);
        }
        let mut transaction = db.begin_with(BEGIN).await?;
        let Some(last) = repo::take_turn(&mut transaction).await? else { return Ok(Outcome::NotOurTurn) };
        let taken = repo::take(&mut transaction, self.mark, BATCH.try_into().unwrap_or(i64::MAX)).await?;
        let projects: BTreeSet<_> = taken.iter().map(|taken| taken.project_id).collect();
        let projects: Vec<_> = projects.into_iter().collect();
        let most_due = i64::try_from(DUE_AT_ONCE).unwrap_or(i64::MAX);
        let ends = repo::ends(&mut transaction, &projects, due_since, most_due).await?;
        let mut linker = Linker::new(&self.signer, now, last, ends);
        for taken in &taken {
            linker.add(taken.project_id, &taken.entry);
        }
        linker.checkpoint_old();
        write(&mut transaction, last, &linker).await?;
        // In the same transaction as the entries, so that each event that can be read also has its deliveries.
        if !linker.entries.is_empty() {
            webhooks::repo::enqueue(&mut transaction, last, linker.last()).await?;
        }
        transaction.commit().await?;

        // The batch may include entries staged after the poll. If the batch is full, everything up to its last entry is
        // sealed.
        let is_full = taken.len() == BATCH;
        let reached = taken.last().filter(|_| is_full).map(repo::Taken::mark).transpose()?;
        // Never beyond a transaction that may still stage entries.
        let low_water = look.low_water()?;
        self.mark = reached.map_or(low_water, |reached| reached.min(low_water));
        if !is_full {
            self.figures.look(Some(0));
        }
        self.figures.sealed.fetch_add(linker.entries.len().try_into().unwrap_or(0), Ordering::Relaxed);
        self.figures.reached(linker.last());
        for (_, signed) in &linker.checkpoints {
            self.figures.checkpoints.fetch_add(1, Ordering::Relaxed);
            log(signed);
        }
        let is_more = is_full || linker.checkpoints.len() >= DUE_AT_ONCE;
        Ok(if is_more { Outcome::More } else { Outcome::Done })
    }
}

/// Lazy pool with one connection to the database of `db`. Reconnects when the connection is lost.
fn pool_of_one(db: &PgPool) -> Pool {
    // Distinct name in pg_stat_activity, because this connection is not part of the pool.
    let options = db.connect_options().as_ref().clone().application_name("cloudapi sealer");
    Pool::connect_lazy(db::pool_options().max_connections(1).test_before_acquire(false), options)
}

async fn write(db: &mut PgConnection, before: AuditId, linker: &Linker<'_>) -> Result<()> {
    if linker.entries.is_empty() {
        return Ok(());
    }
    repo::insert(db, &linker.entries).await?;
    repo::set_ends(db, &linker.ends).await?;
    // In the same transaction as the entries that record the redactions, so that readers of a redacted entry find the
    // reason.
    let redactions: Vec<_> = linker.entries.iter().filter_map(Linked::redacts).collect();
    if !redactions.is_empty() {
        repo::redact(db, &redactions).await?;
    }
    if !linker.checkpoints.is_empty() {
        repo::insert_checkpoints(db, &linker.checkpoints).await?;
    }
    match repo::set_last(db, before, linker.last()).await? {
        true => Ok(()),
        false => Err(Error::internal("two servers seal the audit trail at the same time")),
    }
}

/// Logs a checkpoint, so that a copy exists outside the database wherever logs are stored.
fn log(signed: &Signed) {
    let project = (signed.project_id != DEPLOYMENT).then_some(signed.project_id);
    tracing::info!(
        target: "cloudapi::audit",
        project_id = project.map(tracing::field::display),
        seq = signed.seq,
        hash = hex::encode(&signed.hash),
        made_at = %signed.made_at,
        public_key = hex::encode(&signed.public_key),
        signature = hex::encode(&signed.signature),
        "checkpoint"
    );
}
