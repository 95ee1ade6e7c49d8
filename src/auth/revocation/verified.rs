//! Database reads that decide whether a request is accepted. Such a read counts only if it ran on the server that
//! commits this node's heartbeats, while the lease was valid, in a snapshot that contains everything the node has
//! applied. If a read does not count, its connection is closed and the read is repeated on a new one
//! (docs/revocation.md).

use std::{sync::atomic::Ordering, time::Duration};

use futures_util::future::{BoxFuture, FutureExt};
use sqlx::PgConnection;
use tokio::time::timeout;

use super::{
    lease::{ReadRequirement, ReadVersion},
    node::{self, Node},
};
use crate::{
    base::{
        error::{Code, Error, Result},
        runtime::clock::since_boot,
    },
    db::{self, Stamp, Stamped},
};

/// Timeout of a read, including retries. If the network loses responses, a request must not wait for its full timeout.
const READ_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a read waits for a heartbeat if there is no recent one. A node that was paused renews its lease within
/// milliseconds. A node that has just started or has just lost its server takes longer.
const HEARTBEAT_WAIT: Duration = Duration::from_secs(2);
/// Number of connections on which a read is tried. The first is from the pool and may be old, the others are new.
const ATTEMPTS: usize = 3;
/// Timeout of closing a connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A statement that returns its stamp. The future is boxed to keep callers `Send`, which costs only reads that missed
/// the cache.
pub trait StampedRead<T>:
    for<'a> Fn(&'a mut PgConnection) -> BoxFuture<'a, sqlx::Result<Stamped<T>>> + Send + Sync
{
}
impl<T, F> StampedRead<T> for F where
    F: for<'a> Fn(&'a mut PgConnection) -> BoxFuture<'a, sqlx::Result<Stamped<T>>> + Send + Sync
{
}

impl Node {
    /// Reads on a connection of the pool. Also returns the version to cache the value under.
    pub async fn read_verified<T: Send>(&self, read: impl StampedRead<T>) -> Result<(ReadVersion, T)> {
        // Boxed, because most callers find the credential in the cache. An unused read would otherwise be the largest
        // part of every handler's future, which is copied for each request.
        let reading = Box::pin(async {
            let requirement = self.read_requirement().await?;
            let mut db = self.db.acquire().await?;
            let verified = self.read_until_verified(requirement, &mut db, &read).await;
            if verified.is_err() {
                db.close_on_drop();
            }
            verified
        });
        with_read_timeout(reading).await
    }

    /// Reads on `db`, outside a transaction. Replaces `db` with a new connection if the read does not count.
    pub async fn read_verified_on<T: Send>(&self, db: &mut PgConnection, read: impl StampedRead<T>) -> Result<T> {
        let reading = Box::pin(async {
            let requirement = self.read_requirement().await?;
            let verified = self.read_until_verified(requirement, db, &read).await;
            if verified.as_ref().is_err_and(is_connection_error) {
                close(db).await;
            }
            verified.map(|(_, value)| value)
        });
        with_read_timeout(reading).await
    }

    /// Reads on `db`, inside a transaction. Fails if the read does not count, because the transaction cannot move to
    /// another connection.
    pub async fn read_verified_in_transaction<T: Send>(
        &self,
        db: &mut PgConnection,
        read: impl StampedRead<T>,
    ) -> Result<Stamped<T>> {
        let requirement = Box::pin(self.read_requirement()).await?;
        let read = read(db).await?;
        if requirement.is_met_by(&read.stamp) {
            return Ok(read);
        }
        self.count_rejected(&read.stamp);
        close(db).await;
        Err(wrong_server())
    }

    /// Checks that reads on the pool's connections count.
    pub async fn check_pool(&self) -> Result<()> {
        self.read_verified(|db| async move { Ok(Stamped { stamp: node::clock(db).await?, value: () }) }.boxed())
            .await
            .map(drop)
    }

    /// The condition for a read that begins now. Waits for a heartbeat if there is no recent one.
    async fn read_requirement(&self) -> Result<ReadRequirement> {
        if let Some(requirement) = self.lease.read_requirement(since_boot()) {
            return Ok(requirement);
        }
        let waiting = async {
            loop {
                let renewed = self.renewed();
                tokio::pin!(renewed);
                // Registered before the lease is checked again, so that no renewal is missed.
                renewed.as_mut().enable();
                if let Some(requirement) = self.lease.read_requirement(since_boot()) {
                    return requirement;
                }
                renewed.await;
            }
        };
        timeout(HEARTBEAT_WAIT, waiting).await.map_err(|_| {
            Error::new(
                Code::AuthUnavailable,
                "Credentials cannot be checked, because this server's heartbeat was not committed by PostgreSQL in the last 3 seconds; retry in a moment",
            )
        })
    }

    fn count_rejected(&self, stamp: &Stamp) {
        self.metrics.reads_rejected.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(
            server = %stamp.server,
            seq = stamp.seq,
            "database connection closed: it leads to a different or stale server than the heartbeat"
        );
    }

    async fn read_until_verified<T: Send>(
        &self,
        mut requirement: ReadRequirement,
        db: &mut PgConnection,
        read: &impl StampedRead<T>,
    ) -> Result<(ReadVersion, T)> {
        for attempt in 1..=ATTEMPTS {
            match read(db).await {
                Ok(Stamped { stamp, value }) if requirement.is_met_by(&stamp) => {
                    return Ok((requirement.version, value));
                }
                Ok(Stamped { stamp, .. }) => self.count_rejected(&stamp),
                // Only the connection is broken, for example after a restart of PostgreSQL.
                Err(error) if self.db.handle_sql_error(&error) && attempt < ATTEMPTS => {}
                Err(error) => return Err(error.into()),
            }
            if attempt < ATTEMPTS {
                // The assignment drops the old connection, which closes it.
                *db = db::connect(&self.db.connect_options()).await?;
                requirement = self.read_requirement().await?;
            }
        }
        Err(wrong_server())
    }
}

/// Terminates a connection that belongs to the pool, which discards it when it is returned.
async fn close(db: &mut PgConnection) {
    let ending = sqlx::query("SELECT pg_terminate_backend(pg_backend_pid())").execute(db);
    let _ = timeout(CLOSE_TIMEOUT, ending).await;
}

async fn with_read_timeout<T>(reading: impl Future<Output = Result<T>>) -> Result<T> {
    match timeout(READ_TIMEOUT, reading).await {
        Err(_) => Err(unreachable_database()),
        Ok(Err(error)) if error.code() == Code::DatabaseUnavailable => Err(unreachable_database().caused_by(error)),
        Ok(read) => read,
    }
}

fn is_connection_error(error: &Error) -> bool {
    matches!(error.code(), Code::AuthUnavailable | Code::DatabaseUnavailable)
}

pub(crate) fn unreachable_database() -> Error {
    Error::new(
        Code::AuthUnavailable,
        "Credentials cannot be checked while the database is unreachable; retry in a moment",
    )
}

fn wrong_server() -> Error {
    Error::new(
        Code::AuthUnavailable,
        "Credentials cannot be checked, because the database connections lead to another or an older PostgreSQL server than this server's heartbeat; retry in a moment",
    )
}
