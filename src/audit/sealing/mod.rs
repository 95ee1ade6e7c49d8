//! Seals staged entries into their chains. Every server tries, and an advisory lock admits one at a time. [`retention`]
//! removes old entries.

pub mod prune;
pub mod retention;

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::future::BoxFuture;
use sqlx::{Connection, PgConnection, PgPool};

use super::{
    chain::{
        checkpoint::{SignedStatement, Signer},
        link::{CHECKPOINT_AGE, LinkedEntry, Linker},
    },
    metrics::SealerMetrics,
    model::DEPLOYMENT,
    repo,
};
use crate::{
    base::{
        error::{Code, Error, Result},
        hex,
        id::AuditId,
        runtime::{
            clock::{Clock, Timestamp},
            heartbeat::Heartbeat,
            lifecycle::Lifecycle,
        },
    },
    db::{
        self, Pool,
        pulse::{Pulse, Work},
    },
};

/// Each statement must see commits that precede it, independent of the database's default isolation level.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";
/// Minimum interval between two attempts. A NOTIFY per staged entry would serialize the commits of all writes, so other
/// servers learn of staged entries only from the pulse.
const INTERVAL: Duration = Duration::from_millis(100);
/// Number of entries sealed in one transaction.
const BATCH_SIZE: usize = 2000;
/// Number of overdue checkpoints created in one transaction.
const MAX_DUE_CHAINS: usize = 500;
/// Limit up to which staged entries are counted for the metrics.
const MAX_COUNTED: i64 = 10_000;
/// Deadline for one poll and batch. A response that is lost in the network must not block later batches.
const SEAL_TIMEOUT: Duration = Duration::from_secs(15);

/// Work in the transaction that seals entries, after the insert. Called with the entries in the order of their IDs. A
/// failure rolls the entries back.
pub type OnSealed = for<'a> fn(&'a mut PgConnection, &'a [LinkedEntry]) -> BoxFuture<'a, sqlx::Result<()>>;

/// Result of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealOutcome {
    /// All visible entries are sealed.
    Done,
    /// More entries are waiting.
    More,
    /// Another server holds the sealer lock.
    LockedByOther,
}

/// Sealer of one server.
#[derive(Debug)]
pub struct Sealer {
    // A separate connection, so that sealing does not wait for requests that have exhausted the pool.
    db: Pool,
    clock: Clock,
    signer: Arc<Signer>,
    metrics: Arc<SealerMetrics>,
    on_sealed: OnSealed,
}

impl Sealer {
    /// Creates a sealer for the database of `db`.
    pub fn new(
        db: &PgPool,
        clock: Clock,
        signer: Arc<Signer>,
        metrics: Arc<SealerMetrics>,
        on_sealed: OnSealed,
    ) -> Self {
        Self { db: pool_of_one(db), clock, signer, metrics, on_sealed }
    }

    /// Seals entries from the time the server is open until it is stopped, then seals the remaining ones. `pulse` tells
    /// when there are any.
    pub async fn run(mut self, pulse: Arc<Pulse>, lifecycle: Arc<Lifecycle>, heartbeat: Heartbeat) {
        let stop = heartbeat.stop();
        let mut is_healthy = true;
        loop {
            // Before that, the tables may not exist.
            if !lifecycle.has_started() && heartbeat.pause(INTERVAL).await {
                continue;
            }
            heartbeat.progress();
            // Read before the attempt, so that entries staged before the stop are sealed by the last attempt.
            let is_last = stop.is_cancelled();
            let is_done = match self.seal().await {
                Ok(outcome) => {
                    if !std::mem::replace(&mut is_healthy, true) {
                        tracing::info!("audit sealing resumed");
                    }
                    if outcome == SealOutcome::More {
                        continue;
                    }
                    // Entries that another server is sealing need not be waited for.
                    if is_last {
                        break;
                    }
                    // Entries of this server may have been staged after the other one had begun.
                    outcome == SealOutcome::Done
                }
                Err(error) => {
                    self.db.handle_error(&error);
                    self.metrics.set_staged(None);
                    if std::mem::replace(&mut is_healthy, false) {
                        tracing::warn!(%error, "audit sealing failed; entries wait in the database and are retried");
                    }
                    if is_last {
                        break;
                    }
                    false
                }
            };
            heartbeat.pause(INTERVAL).await;
            if is_done {
                heartbeat.pause_until(work_arrives(&pulse)).await;
            }
        }
        self.db.close().await;
    }

    /// Seals one batch, if any entries are staged.
    pub async fn seal(&mut self) -> Result<SealOutcome> {
        match tokio::time::timeout(SEAL_TIMEOUT, self.seal_batch()).await {
            Ok(outcome) => outcome,
            Err(_) => {
                // The state of the old connection is unknown: a response may still arrive on it.
                self.db = pool_of_one(&self.db);
                Err(Error::new(Code::Timeout, "The database did not respond in time; retrying"))
            }
        }
    }

    async fn seal_batch(&mut self) -> Result<SealOutcome> {
        let now = self.clock.now();
        let due_since = checkpoint_due_since(now);
        let mut db = self.db.acquire().await?;
        let sealed_up_to = self.metrics.sealed_up_to();
        let status = repo::sealer_status(&mut db, sealed_up_to, MAX_COUNTED, due_since).await?;
        self.metrics.set_staged(u64::try_from(status.staged).ok());
        self.metrics.set_last_sealed(status.last_id);
        if status.staged == 0 && !status.is_due {
            self.metrics.set_sealed_up_to(status.low_water()?);
            return Ok(SealOutcome::Done);
        }
        let mut transaction = db.begin_with(BEGIN).await?;
        let Some(last) = repo::try_lock_sealer(&mut transaction).await? else { return Ok(SealOutcome::LockedByOther) };
        let staged =
            repo::take_staged(&mut transaction, sealed_up_to, BATCH_SIZE.try_into().unwrap_or(i64::MAX)).await?;
        let projects: BTreeSet<_> = staged.iter().map(|row| row.project_id).collect();
        let projects: Vec<_> = projects.into_iter().collect();
        let max_due = i64::try_from(MAX_DUE_CHAINS).unwrap_or(i64::MAX);
        let ends = repo::chain_ends(&mut transaction, &projects, due_since, max_due).await?;
        let mut linker = Linker::new(&self.signer, now, last, ends);
        for row in &staged {
            linker.add(row.project_id, &row.entry);
        }
        linker.checkpoint_due();
        write_entries(&mut transaction, last, &linker).await?;
        // In the same transaction as the entries, so that each event that can be read also has its deliveries.
        if !linker.entries.is_empty() {
            (self.on_sealed)(&mut transaction, &linker.entries).await?;
        }
        transaction.commit().await?;

        // The batch may include entries staged after the poll. If the batch is full, everything up to its last entry is
        // sealed.
        let is_full = staged.len() == BATCH_SIZE;
        let last_position = staged.last().filter(|_| is_full).map(repo::StagedRow::staged_position).transpose()?;
        // Never beyond a transaction that may still stage entries.
        let low_water = status.low_water()?;
        self.metrics.set_sealed_up_to(last_position.map_or(low_water, |last_position| last_position.min(low_water)));
        if !is_full {
            self.metrics.set_staged(Some(0));
        }
        self.metrics.sealed.fetch_add(linker.entries.len().try_into().unwrap_or(0), Ordering::Relaxed);
        self.metrics.set_last_sealed(linker.last());
        for (_, signed) in &linker.checkpoints {
            self.metrics.checkpoints.fetch_add(1, Ordering::Relaxed);
            log(signed);
        }
        let has_more = is_full || linker.checkpoints.len() >= MAX_DUE_CHAINS;
        Ok(if has_more { SealOutcome::More } else { SealOutcome::Done })
    }
}

/// Completes when this server has staged entries, or when there may be entries to seal.
async fn work_arrives(pulse: &Pulse) {
    tokio::select! {
        () = pulse.staged() => {}
        () = pulse.due(Work::Sealing) => {}
    }
}

/// Time of the first entry after the last checkpoint of a chain from which on a checkpoint is due at `now`.
pub(crate) fn checkpoint_due_since(now: Timestamp) -> Timestamp {
    now.minus(CHECKPOINT_AGE)
}

/// Lazy pool with one connection to the database of `db`. Reconnects when the connection is lost.
fn pool_of_one(db: &PgPool) -> Pool {
    // Distinct name in pg_stat_activity, because this connection is not part of the pool.
    let options = db.connect_options().as_ref().clone().application_name("cloudapi sealer");
    Pool::connect_lazy(db::pool_options().max_connections(1).test_before_acquire(false), options)
}

async fn write_entries(db: &mut PgConnection, before: AuditId, linker: &Linker<'_>) -> Result<()> {
    if linker.entries.is_empty() {
        return Ok(());
    }
    repo::insert(db, &linker.entries).await?;
    repo::upsert_chain_ends(db, &linker.ends).await?;
    // In the same transaction as the entries that record the redactions, so that readers of a redacted entry find the
    // reason.
    let redactions: Vec<_> = linker.entries.iter().filter_map(LinkedEntry::redacts).collect();
    if !redactions.is_empty() {
        repo::redact(db, &redactions).await?;
    }
    if !linker.checkpoints.is_empty() {
        repo::insert_checkpoints(db, &linker.checkpoints).await?;
    }
    match repo::set_last_id(db, before, linker.last()).await? {
        true => Ok(()),
        false => Err(Error::internal("two servers seal the audit trail at the same time")),
    }
}

/// Logs a checkpoint, so that a copy exists outside the database wherever logs are stored.
fn log(signed: &SignedStatement) {
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
