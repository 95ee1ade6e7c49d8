//! Whether the database takes writes, for `/readyz`, and the end of writes that wait for a synchronous standby that does
//! not answer.
//!
//! No time-out of PostgreSQL bounds that wait: a COMMIT stays in it for as long as the standby is away, and with it the
//! connection. What has waited for [`LONGEST_WAIT`] is ended by [`watch`]. It is committed on the primary and may not be on
//! any standby, so its client is told that the outcome is unknown.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::{Connection, PgConnection};
use tokio::time::timeout;

use super::{Pool, connect, sqlstate::WriteFailure};
use crate::base::heartbeat::Heartbeat;

/// How long a write may wait for a synchronous standby.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// For how long writes have to wait for `/readyz` to say so.
const NOTICED_WAIT: Duration = Duration::from_secs(2);
/// How often to look for those.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// How long the database may take to say how it is.
const LOOK_TIME: Duration = Duration::from_secs(2);
/// How long a failure is believed in without another one. Each server writes at least once a second.
const FRESH: Duration = Duration::from_secs(15);

/// What the last writes have shown.
#[derive(Debug, Default)]
pub struct WriteHealth {
    is_failing: AtomicBool,
    last: Mutex<Option<(WriteFailure, Instant)>>,
}

impl WriteHealth {
    /// A write has failed so; gives whether that is news.
    pub(super) fn failed(&self, failure: WriteFailure) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = last.is_none_or(|(before, at)| before != failure || at.elapsed() >= FRESH);
        *last = Some((failure, Instant::now()));
        self.is_failing.store(true, Ordering::Release);
        is_news
    }

    /// A write has been committed.
    pub fn succeeded(&self) {
        if self.is_failing.swap(false, Ordering::AcqRel) {
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = None;
            tracing::info!("writes work again");
        }
    }

    /// Why writes have failed lately, if they have.
    pub fn failing(&self) -> Option<WriteFailure> {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.filter(|(_, at)| at.elapsed() < FRESH).map(|(failure, _)| failure)
    }
}

/// What the database says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Probe {
    /// Whether it is a standby.
    pub in_recovery: bool,
    /// Whether its transactions are read-only.
    pub read_only: bool,
    /// How many of our writes have waited for a synchronous standby for [`NOTICED_WAIT`].
    pub waiting: i64,
}

/// Our connections that wait for a synchronous standby.
macro_rules! waiting {
    () => {
        "FROM pg_stat_activity
         WHERE datname = current_database() AND usename = current_user AND application_name LIKE 'cloudapi%'
           AND wait_event = 'SyncRep' AND query_start < clock_timestamp() - make_interval(secs => $1)"
    };
}

/// Asks the database how it is, in one round trip.
pub async fn state(db: &mut PgConnection) -> sqlx::Result<Probe> {
    sqlx::query_as(concat!(
        "SELECT pg_is_in_recovery() AS in_recovery, current_setting('transaction_read_only')::boolean AS read_only,
                (SELECT count(*) ",
        waiting!(),
        ") AS waiting"
    ))
    .bind(NOTICED_WAIT.as_secs_f64())
    .fetch_one(db)
    .await
}

/// The same, and ends the writes that have waited for too long.
async fn end_waiting(db: &mut PgConnection) -> sqlx::Result<Probe> {
    // Ended, not canceled: the answer to a COMMIT whose wait is canceled reads like any other.
    sqlx::query_as(concat!(
        "SELECT pg_is_in_recovery() AS in_recovery, current_setting('transaction_read_only')::boolean AS read_only,
                (SELECT count(pg_terminate_backend(pid)) ",
        waiting!(),
        ") AS waiting"
    ))
    .bind(LONGEST_WAIT.as_secs_f64())
    .fetch_one(db)
    .await
}

/// Ends, until `stop`, writes that wait for too long, and replaces the pool's connections when they lead to a server that
/// takes no writes. On a connection of its own: the pool's may all be waiting.
pub async fn watch(pool: Pool, heartbeat: Heartbeat) {
    let mut own: Option<PgConnection> = None;
    while heartbeat.pause(LOOK_INTERVAL).await {
        let looked = async {
            let mut db = match own.take() {
                Some(db) => db,
                None => connect(&pool.connect_options()).await?,
            };
            let state = end_waiting(&mut db).await?;
            Ok::<_, sqlx::Error>((db, state))
        };
        match timeout(LOOK_TIME, looked).await {
            Ok(Ok((db, state))) => {
                if state.waiting > 0 {
                    tracing::error!(
                        ended = state.waiting,
                        "writes ended that waited for a synchronous standby; check synchronous_standby_names and the standby"
                    );
                }
                if state.in_recovery || state.read_only {
                    // The next look may find another server.
                    pool.replace_connections("the database takes no writes");
                } else {
                    own = Some(db);
                }
            }
            Ok(Err(error)) => tracing::debug!(%error, "database not watched"),
            Err(_) => tracing::debug!("database not watched: no answer in time"),
        }
    }
    if let Some(db) = own {
        let _ = timeout(LOOK_TIME, db.close()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_failure_is_news_once_and_forgotten_after_a_success() {
        let health = WriteHealth::default();
        assert_eq!(health.failing(), None);
        assert!(health.failed(WriteFailure::DiskFull));
        assert!(!health.failed(WriteFailure::DiskFull));
        assert!(health.failed(WriteFailure::ReadOnly));
        assert_eq!(health.failing(), Some(WriteFailure::ReadOnly));
        health.succeeded();
        assert_eq!(health.failing(), None);
    }
}
