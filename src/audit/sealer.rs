//! Gives staged entries their places. Every server tries to, one at a time does.

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

/// Each statement has to see what was committed before it, whatever the database's own default is.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";
/// How often to look. Telling by NOTIFY what was staged would have every write wait for every other.
const INTERVAL: Duration = Duration::from_millis(100);
/// How many entries are sealed in one transaction.
const BATCH: usize = 2000;
/// How many checkpoints of quiet chains are made in one.
const DUE_AT_ONCE: usize = 500;
/// How far staged entries are counted for the figures.
const COUNTED: i64 = 10_000;
/// How long one look and batch may take. A network that swallows an answer must not hold up all that come after.
const LONGEST: Duration = Duration::from_secs(15);

/// What one attempt came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All that could be seen is sealed.
    Done,
    /// There is more.
    More,
    /// Another server seals.
    NotOurTurn,
}

/// The sealer of one server.
#[derive(Debug)]
pub struct Sealer {
    // A connection of its own: entries are sealed however many requests wait for one.
    db: Pool,
    clock: Clock,
    signer: Arc<Signer>,
    figures: Arc<Figures>,
    /// All that was staged before is sealed: nothing before it is looked at again, nor what was removed there.
    mark: Mark,
}

impl Sealer {
    /// One for the database that `db` reaches.
    pub fn new(db: &PgPool, clock: Clock, signer: Arc<Signer>, figures: Arc<Figures>) -> Self {
        Self { db: pool_of_one(db), clock, signer, figures, mark: Mark::default() }
    }

    /// Seals from when the server is open until it must stop, and then what is left.
    pub async fn run(mut self, lifecycle: Arc<Lifecycle>, heartbeat: Heartbeat) {
        let stop = heartbeat.stop();
        let mut is_well = true;
        loop {
            // Before, there may be no tables.
            if !lifecycle.is_open() && heartbeat.pause(INTERVAL).await {
                continue;
            }
            heartbeat.progress();
            // Read before it is tried: what was staged before the stop is sealed by the attempt after it.
            let is_last = stop.is_cancelled();
            match self.seal().await {
                Ok(outcome) => {
                    if !std::mem::replace(&mut is_well, true) {
                        tracing::info!("the audit trail is being sealed again");
                    }
                    if outcome == Outcome::More {
                        continue;
                    }
                    // What another server is just sealing need not be waited for.
                    if is_last {
                        break;
                    }
                }
                Err(error) => {
                    self.db.note(&error);
                    self.figures.look(None);
                    if std::mem::replace(&mut is_well, false) {
                        tracing::warn!(%error, "the audit trail cannot be sealed; entries wait in the database, and this is tried again");
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

    /// Seals one batch, if there is anything to seal.
    pub async fn seal(&mut self) -> Result<Outcome> {
        match tokio::time::timeout(LONGEST, self.try_to_seal()).await {
            Ok(outcome) => outcome,
            Err(_) => {
                // Nobody knows what is on the way on that connection, if anything ever comes.
                self.db = pool_of_one(&self.db);
                Err(Error::new(Code::Timeout, "The database did not answer in time; it is tried again"))
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
        // With the entries or not at all: what can be read as an event is on its way.
        if !linker.entries.is_empty() {
            webhooks::repo::enqueue(&mut transaction, last, linker.last()).await?;
        }
        transaction.commit().await?;

        // What was taken was seen later than the look; of a full batch, all that came before its last.
        let is_full = taken.len() == BATCH;
        let reached = taken.last().filter(|_| is_full).map(repo::Taken::mark).transpose()?;
        // And never beyond a transaction that may still stage something.
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

/// A connection of its own to what `db` reaches, made when it is needed and as often as it is lost.
fn pool_of_one(db: &PgPool) -> Pool {
    // A name of its own in pg_stat_activity, because it is no connection of the pool.
    let options = db.connect_options().as_ref().clone().application_name("cloudapi sealer");
    Pool::connect_lazy(db::pool_options().max_connections(1).test_before_acquire(false), options)
}

async fn write(db: &mut PgConnection, before: AuditId, linker: &Linker<'_>) -> Result<()> {
    if linker.entries.is_empty() {
        return Ok(());
    }
    repo::insert(db, &linker.entries).await?;
    repo::set_ends(db, &linker.ends).await?;
    // Together with the entries that tell of it: whoever reads what is left of one finds out why.
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

/// The line that carries a checkpoint out of the database, to wherever logs go.
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
