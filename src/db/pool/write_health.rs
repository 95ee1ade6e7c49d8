//! Health of writes, for `/readyz`, and termination of writes that wait for a synchronous standby that does not
//! respond.
//!
//! No PostgreSQL timeout bounds that wait: a COMMIT waits as long as the standby is away, and holds its connection.
//! After [`MAX_WAIT`], [`watch`] terminates the connection. The write is committed on the primary and maybe on no
//! standby, so its client is told that the outcome is unknown.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::{Connection, PgConnection};
use tokio::time::timeout;

use super::connect::connect;
use crate::{
    base::runtime::heartbeat::Heartbeat,
    db::{Pool, sqlstate::WriteFailure},
};

/// Maximum wait of a write for a synchronous standby.
const MAX_WAIT: Duration = Duration::from_secs(10);
/// Wait of writes after which `/readyz` reports it.
const REPORTED_WAIT: Duration = Duration::from_secs(2);
/// Interval of checks for waiting writes.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// Time limit for a check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
/// Time for which a failure is reported without another one. Each server renews its lease once a second.
const FAILURE_TTL: Duration = Duration::from_secs(15);

/// Outcome of the latest writes.
#[derive(Debug, Default)]
pub struct WriteHealth {
    is_failing: AtomicBool,
    last: Mutex<Option<(WriteFailure, Instant)>>,
    last_commit: Mutex<Option<Instant>>,
}

impl WriteHealth {
    /// Records a failed write. Returns whether the failure is new.
    pub(crate) fn record_failure(&self, failure: WriteFailure) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = last.is_none_or(|(before, at)| before != failure || at.elapsed() >= FAILURE_TTL);
        *last = Some((failure, Instant::now()));
        self.is_failing.store(true, Ordering::Release);
        is_new
    }

    /// Records a committed write.
    pub fn record_success(&self) {
        self.record_commit();
        if self.is_failing.swap(false, Ordering::AcqRel) {
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = None;
            tracing::info!("database writes recovered");
        }
    }

    /// Records that a write was committed on a connection that is not the pool's, so that others may fail.
    pub fn record_commit(&self) {
        *self.last_commit.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether a write was committed within `time`, and none has failed since.
    fn has_committed_within(&self, time: Duration) -> bool {
        let last = *self.last_commit.lock().unwrap_or_else(PoisonError::into_inner);
        !self.is_failing.load(Ordering::Acquire) && last.is_some_and(|at| at.elapsed() < time)
    }

    /// Reason why recent writes failed, if they did.
    pub fn current_failure(&self) -> Option<WriteFailure> {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.filter(|(_, at)| at.elapsed() < FAILURE_TTL).map(|(failure, _)| failure)
    }
}

/// State of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct DatabaseState {
    /// Whether the database is a standby.
    pub in_recovery: bool,
    /// Whether its transactions are read-only.
    pub read_only: bool,
    /// Number of our writes that have waited for a synchronous standby for [`REPORTED_WAIT`].
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

/// Queries the state of the database in one round trip.
pub async fn read_state(db: &mut PgConnection) -> sqlx::Result<DatabaseState> {
    sqlx::query_as(concat!(
        "SELECT pg_is_in_recovery() AS in_recovery, current_setting('transaction_read_only')::boolean AS read_only,
                (SELECT count(*) ",
        waiting!(),
        ") AS waiting"
    ))
    .bind(REPORTED_WAIT.as_secs_f64())
    .fetch_one(db)
    .await
}

/// Like [`read_state`], and terminates connections whose writes have waited too long.
async fn terminate_waiting(db: &mut PgConnection) -> sqlx::Result<DatabaseState> {
    // Terminated, not canceled: the response to a COMMIT whose wait is canceled looks like success.
    sqlx::query_as(concat!(
        "SELECT pg_is_in_recovery() AS in_recovery, current_setting('transaction_read_only')::boolean AS read_only,
                (SELECT count(pg_terminate_backend(pid)) ",
        waiting!(),
        ") AS waiting"
    ))
    .bind(MAX_WAIT.as_secs_f64())
    .fetch_one(db)
    .await
}

/// Terminates, until shutdown, writes that have waited too long, and replaces the pool's connections if they lead to a
/// read-only server. Uses a separate connection, because all of the pool's connections may be waiting.
pub async fn watch(pool: Pool, heartbeat: Heartbeat) {
    let mut own: Option<PgConnection> = None;
    while heartbeat.pause(CHECK_INTERVAL).await {
        // Then no write waits, and the database accepts writes.
        if !pool.is_writing() && pool.writes().has_committed_within(CHECK_INTERVAL) {
            continue;
        }
        let checked = async {
            let mut db = match own.take() {
                Some(db) => db,
                None => connect(&pool.connect_options()).await?,
            };
            let state = terminate_waiting(&mut db).await?;
            Ok::<_, sqlx::Error>((db, state))
        };
        match timeout(CHECK_TIMEOUT, checked).await {
            Ok(Ok((db, state))) => {
                if state.waiting > 0 {
                    tracing::error!(
                        ended = state.waiting,
                        "terminated writes that waited for a synchronous standby; check synchronous_standby_names and the standby"
                    );
                }
                if state.in_recovery || state.read_only {
                    // The next check may reach another server.
                    pool.replace_connections("the database does not accept writes");
                } else {
                    own = Some(db);
                }
            }
            Ok(Err(error)) => tracing::debug!(%error, "database check failed"),
            Err(_) => tracing::debug!("database check timed out"),
        }
    }
    if let Some(db) = own {
        let _ = timeout(CHECK_TIMEOUT, db.close()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_failure_is_new_once_and_cleared_by_a_success() {
        let health = WriteHealth::default();
        assert_eq!(health.current_failure(), None);
        assert!(health.record_failure(WriteFailure::DiskFull));
        assert!(!health.record_failure(WriteFailure::DiskFull));
        assert!(health.record_failure(WriteFailure::ReadOnly));
        assert_eq!(health.current_failure(), Some(WriteFailure::ReadOnly));
        health.record_success();
        assert_eq!(health.current_failure(), None);
    }
}
