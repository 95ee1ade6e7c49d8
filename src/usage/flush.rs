//! Adds to the database what has been counted: every second, and a last time when the server stops.

use std::{sync::Arc, time::Duration};

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use super::{counters::Counters, repo};
use crate::base::{clock::Clock, error::Result};

const INTERVAL: Duration = Duration::from_secs(1);

/// Runs until `stop`.
pub async fn run(counters: Arc<Counters>, db: PgPool, clock: Clock, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_some() {
        flush_or_log(&counters, &db, &clock).await;
    }
}

/// Writes what there is; what could not be written is kept for the next time.
pub async fn flush_or_log(counters: &Counters, db: &PgPool, clock: &Clock) {
    if let Err(error) = flush(counters, db, clock).await {
        tracing::warn!(%error, "usage could not be written; it is kept and will be tried again");
    }
}

async fn flush(counters: &Counters, db: &PgPool, clock: &Clock) -> Result<()> {
    let _turn = counters.writing.lock().await;
    let (counts, uses) = counters.take();
    if counts.is_empty() && uses.is_empty() {
        return Ok(());
    }
    // One statement: were it two, the first could be done and the second fail, and both be tried again.
    let written = async { Ok(repo::add(&mut *db.acquire().await?, &counts, &uses).await?) }.await;
    match &written {
        Ok(()) => counters.written(uses, clock.now()),
        Err(_) => counters.put_back(counts, uses),
    }
    written
}
