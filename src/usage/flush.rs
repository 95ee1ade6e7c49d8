//! Adds to the database what has been counted: every second, and a last time when the server stops.

use std::{sync::Arc, time::Duration};

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use super::{counters::Counters, repo};
use crate::base::error::Result;

const INTERVAL: Duration = Duration::from_secs(1);

/// Runs until `stop`.
pub async fn run(counters: Arc<Counters>, db: PgPool, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_some() {
        flush_or_log(&counters, &db).await;
    }
}

/// Writes what there is; what could not be written is kept for the next time.
pub async fn flush_or_log(counters: &Counters, db: &PgPool) {
    if let Err(error) = flush(counters, db).await {
        tracing::warn!(%error, "usage could not be written; it is kept and will be tried again");
    }
}

async fn flush(counters: &Counters, db: &PgPool) -> Result<()> {
    let counts = counters.take();
    if counts.is_empty() {
        return Ok(());
    }
    let written = async { Ok(repo::add(&mut *db.acquire().await?, &counts).await?) }.await;
    if written.is_err() {
        counters.add(counts);
    }
    written
}
