//! A node of the deployment: its credential cache, its lease, and the confirmation that an invalidation has reached the
//! other nodes (docs/revocation.md).

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use sqlx::PgConnection;
use tokio::{
    sync::{Notify, futures::Notified, watch},
    time::timeout,
};
use uuid::Uuid;

use super::{
    cache::{CAPACITY, Credentials},
    lease::{Lease, LeaseGuard, LogPage, Timing},
    watches::Watches,
};
use crate::{
    auth::metrics::AuthMetrics,
    base::{
        identity::subject::Subject,
        runtime::clock::{Timestamp, since_boot},
    },
    db::{Pool, ServerId, Stamp},
};

/// Channel of notifications about invalidations.
pub const CHANNEL: &str = "cloudapi_recalls";
/// First and longest interval between checks whether the other nodes have acknowledged an invalidation.
const MIN_POLL_INTERVAL: Duration = Duration::from_millis(1);
const MAX_POLL_INTERVAL: Duration = Duration::from_millis(25);

/// A node.
#[derive(Debug)]
pub struct Node {
    /// Random ID, new at each start of the server.
    pub id: Uuid,
    /// Connection pool of the shared database.
    pub db: Pool,
    /// Durations of the lease protocol.
    pub timing: Timing,
    /// Lease that makes the cache and database reads valid. A node without a cache keeps a lease too: its reads count
    /// only on the PostgreSQL server that commits its heartbeats.
    pub lease: Arc<Lease>,
    /// Credential cache. None if each request reads the database.
    pub credentials: Option<Credentials>,
    /// Counters.
    pub metrics: AuthMetrics,
    /// Responses in progress that invalidations can affect.
    pub(crate) watches: Arc<Watches>,
    /// Notified when the lease is renewed.
    renewals: Notify,
    /// Stamps of all nodes, as the latest renewal has read them.
    pub(crate) stamps: watch::Sender<Option<NodeStamps>>,
}

/// Number of connections to another server than the invalidation's that are tried for acknowledgments.
const ACK_ATTEMPTS: usize = 3;

impl Node {
    /// Creates a node on `db`, with or without a cache.
    pub fn new(db: Pool, has_cache: bool) -> Arc<Self> {
        let lease = Arc::<Lease>::default();
        let credentials = has_cache.then(|| Credentials::new(CAPACITY, Arc::clone(&lease)));
        Arc::new(Self {
            id: Uuid::new_v4(),
            db,
            timing: Timing::DEFAULT,
            lease,
            credentials,
            metrics: AuthMetrics::default(),
            watches: Arc::default(),
            renewals: Notify::new(),
            stamps: watch::Sender::default(),
        })
    }

    /// Guard with which cache entries can be checked; none without a cache or a lease. It must be taken before the entries
    /// are checked; see [`lease`](super::lease).
    pub(crate) fn lease_guard(&self) -> Option<LeaseGuard> {
        self.credentials.as_ref()?.lease().guard(since_boot())
    }

    /// Notifies the responses in progress that an invalidation affects: all if an invalidation may have been missed, or
    /// without a cache. Must be called after the cache entries are invalidated and before that is acknowledged.
    pub fn notify_invalidation(&self) {
        let guard = self.lease_guard();
        self.watches.notify_unless(|evidence| guard.as_ref().is_some_and(|guard| evidence.is_valid(guard)));
    }

    /// Notifies the responses in progress whose credential has expired at `now`; all if the lease was lost. Must be
    /// called periodically. Without a cache, nothing is known here.
    pub fn notify_expiry(&self, now: Timestamp) {
        if self.credentials.is_none() {
            return;
        }
        let guard = self.lease_guard();
        self.watches.notify_unless(|evidence| {
            guard.as_ref().is_some_and(|guard| evidence.is_valid(guard)) && evidence.is_unexpired(now)
        });
    }

    /// Must be called when the lease was renewed.
    pub(crate) fn notify_renewal(&self) {
        self.renewals.notify_waiters();
    }

    /// Completes when the lease is renewed.
    pub(crate) fn renewed(&self) -> Notified<'_> {
        self.renewals.notified()
    }

    /// Invalidates the cache entries of `subjects` immediately, and returns when no node trusts such an entry any more.
    /// `invalidation` is the number of the invalidation and the server that committed it; `committed` is the time since
    /// boot when its COMMIT returned.
    ///
    /// This is the case when each other node has acknowledged the invalidation, or when the leases of the nodes that
    /// have not must have expired. Acknowledgments count only on the server that committed the invalidation: another
    /// server may not have it, or may have assigned its number to a different one. This function cannot fail.
    pub async fn confirm(&self, subjects: &[Subject], invalidation: &Stamp, committed: Duration) {
        let seq = invalidation.seq;
        if let Some(credentials) = &self.credentials {
            for subject in subjects {
                credentials.invalidate(*subject, seq);
            }
        }
        self.notify_invalidation();
        let by_ack = timeout(self.remaining_wait(committed), self.wait_for_acknowledgments(invalidation)).await.is_ok();
        // A timer can fire early, and the machine may have been suspended.
        while !by_ack && !self.remaining_wait(committed).is_zero() {
            tokio::time::sleep(self.remaining_wait(committed)).await;
        }
        let counter = if by_ack { &self.metrics.invalidations_by_ack } else { &self.metrics.invalidations_by_time };
        counter.fetch_add(1, Ordering::Relaxed);
        self.metrics.invalidation_duration.observe(since_boot().saturating_sub(committed));
        if !by_ack {
            tracing::warn!(seq, "revocation not acknowledged by a node; waited until the node's lease had expired");
        }
    }

    fn remaining_wait(&self, committed: Duration) -> Duration {
        (committed + self.timing.wait).saturating_sub(since_boot())
    }

    async fn wait_for_acknowledgments(&self, invalidation: &Stamp) {
        let (mut pause, mut attempts) = (MIN_POLL_INTERVAL, ACK_ATTEMPTS);
        loop {
            match self.are_all_acknowledged(invalidation).await {
                Ok(Some(true)) => return,
                Ok(None) if attempts == 0 => std::future::pending().await,
                Ok(None) => attempts -= 1,
                // A read that fails now may succeed soon. If not, the timeout ends the wait.
                Ok(Some(false)) | Err(_) => {}
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(MAX_POLL_INTERVAL);
        }
    }

    /// Whether all other nodes have acknowledged the invalidation, and this node too if its own lease is on another
    /// server: its reads and numbers there prove nothing about the invalidation. None if the connection leads to
    /// another server, which closes it.
    async fn are_all_acknowledged(&self, invalidation: &Stamp) -> sqlx::Result<Option<bool>> {
        let mut db = self.db.acquire().await?;
        let (server, seq, is_acknowledged): (String, i64, bool) = sqlx::query_as(
            "SELECT auth_server(), seq,
                    NOT EXISTS (SELECT FROM auth_nodes WHERE acked_seq < $1 AND (node_id <> $2 OR NOT $3))
             FROM auth_clock",
        )
        .bind(invalidation.seq)
        .bind(self.id)
        .bind(self.lease.record_own_revocation(invalidation))
        .fetch_one(&mut *db)
        .await?;
        if ServerId::from(server) == invalidation.server && seq >= invalidation.seq {
            return Ok(Some(is_acknowledged));
        }
        db.close_on_drop();
        Ok(None)
    }
}

/// Text form of subjects, as in the log.
pub fn subject_texts(subjects: &[Subject]) -> Vec<String> {
    subjects.iter().map(ToString::to_string).collect()
}

/// Registers a node, so that invalidations wait for its acknowledgment.
pub(crate) async fn register(db: &mut PgConnection, node: Uuid) -> sqlx::Result<ServerId> {
    let server: String = sqlx::query_scalar(
        "INSERT INTO auth_nodes (node_id) VALUES ($1)
         ON CONFLICT (node_id) DO UPDATE SET stamp = nextval('auth_stamps'), acked_seq = 0
         RETURNING auth_server()",
    )
    .bind(node)
    .fetch_one(db)
    .await?;
    Ok(server.into())
}

/// Removes a node.
pub(crate) async fn unregister(db: &mut PgConnection, node: Uuid) -> sqlx::Result<()> {
    sqlx::query("DELETE FROM auth_nodes WHERE node_id = $1").bind(node).execute(db).await.map(drop)
}

/// Number of the latest invalidation.
pub async fn clock(db: &mut PgConnection) -> sqlx::Result<Stamp> {
    sqlx::query_as("SELECT seq AS auth_seq, auth_server() AS auth_server FROM auth_clock").fetch_one(db).await
}

/// Stamps of all nodes, as read on one server.
#[derive(Clone, Debug)]
pub(crate) struct NodeStamps {
    /// The server.
    pub server: ServerId,
    /// Each node and its stamp.
    pub stamps: Vec<(Uuid, i64)>,
}

/// Result of [`renew`].
#[derive(Debug)]
pub(crate) struct Renewal {
    /// The log after the applied number.
    pub page: LogPage,
    /// Whether this is the server of the epoch, and the node is still registered.
    pub found: bool,
    /// Stamps of all nodes, before this renewal.
    pub nodes: NodeStamps,
}

#[derive(sqlx::FromRow)]
struct RenewalRow {
    server: String,
    clock: i64,
    seq: Option<i64>,
    subject: Option<String>,
    found: bool,
    nodes: Vec<Uuid>,
    stamps: Vec<i64>,
}

/// Records that a node has applied the log up to a number, if this is `server`, and reads the log after that number.
pub(crate) async fn renew(db: &mut PgConnection, node: Uuid, applied: i64, server: &ServerId) -> sqlx::Result<Renewal> {
    // One statement, so that everything comes from the same snapshot. It returns when it is committed.
    let mut rows: Vec<RenewalRow> = sqlx::query_as(
        "WITH heartbeat AS (
             UPDATE auth_nodes SET stamp = nextval('auth_stamps'), acked_seq = $2
             WHERE node_id = $1 AND auth_server() = $3 RETURNING node_id
         )
         SELECT auth_server() AS server, c.seq AS clock, l.seq, l.subject, EXISTS (SELECT FROM heartbeat) AS found,
                ARRAY(SELECT node_id FROM auth_nodes ORDER BY node_id) AS nodes,
                ARRAY(SELECT stamp FROM auth_nodes ORDER BY node_id) AS stamps
         FROM auth_clock c LEFT JOIN auth_log l ON l.seq > $2
         ORDER BY l.seq",
    )
    .bind(node)
    .bind(applied)
    .bind(server.as_str())
    .fetch_all(db)
    .await?;
    let first = rows.first_mut().ok_or(sqlx::Error::RowNotFound)?;
    let (found, clock, server) = (first.found, first.clock, ServerId::from(first.server.clone()));
    let stamps = std::mem::take(&mut first.nodes).into_iter().zip(std::mem::take(&mut first.stamps)).collect();
    let page = log_page(server.clone(), clock, rows.into_iter().map(|row| (row.seq, row.subject)));
    Ok(Renewal { page, found, nodes: NodeStamps { server, stamps } })
}

/// Reads the log after a number.
pub(crate) async fn read_log(db: &mut PgConnection, after: i64) -> sqlx::Result<LogPage> {
    // One statement, so that the clock and the log come from the same snapshot.
    let rows: Vec<(String, i64, Option<i64>, Option<String>)> = sqlx::query_as(
        "SELECT auth_server(), c.seq, l.seq, l.subject FROM auth_clock c LEFT JOIN auth_log l ON l.seq > $1
         ORDER BY l.seq",
    )
    .bind(after)
    .fetch_all(db)
    .await?;
    let (server, clock) =
        rows.first().map(|(server, clock, ..)| (server.clone().into(), *clock)).ok_or(sqlx::Error::RowNotFound)?;
    Ok(log_page(server, clock, rows.into_iter().map(|(_, _, seq, subject)| (seq, subject))))
}

fn log_page(server: ServerId, clock: i64, entries: impl Iterator<Item = (Option<i64>, Option<String>)>) -> LogPage {
    // An entry that a newer version wrote and this one cannot parse leaves a gap, which invalidates the whole cache.
    let invalidations = entries.filter_map(|(seq, subject)| Some((seq?, subject?.parse().ok()?))).collect();
    LogPage { server, clock, invalidations }
}

/// Records that a node has applied the log up to a number, if this is `server`. Returns whether it is, and whether the
/// node is still registered.
pub(crate) async fn acknowledge(
    db: &mut PgConnection,
    node: Uuid,
    up_to: i64,
    server: &ServerId,
) -> sqlx::Result<bool> {
    let sql = "UPDATE auth_nodes SET stamp = nextval('auth_stamps'), acked_seq = $2
               WHERE node_id = $1 AND auth_server() = $3";
    sqlx::query(sql)
        .bind(node)
        .bind(up_to)
        .bind(server.as_str())
        .execute(db)
        .await
        .map(|done| done.rows_affected() == 1)
}

/// All nodes and their stamps.
pub(crate) async fn stamps(db: &mut PgConnection) -> sqlx::Result<NodeStamps> {
    let rows: Vec<(String, Uuid, i64)> =
        sqlx::query_as("SELECT auth_server(), node_id, stamp FROM auth_nodes").fetch_all(db).await?;
    let server = rows.first().map(|(server, ..)| server.clone()).unwrap_or_default().into();
    Ok(NodeStamps { server, stamps: rows.into_iter().map(|(_, node, stamp)| (node, stamp)).collect() })
}

/// Removes a node, unless it has sent a heartbeat since `stamp` was read. Does nothing on another server than the one
/// where it was read, because two servers can have equal stamps. Returns whether the node was removed.
pub(crate) async fn remove_if_dead(
    db: &mut PgConnection,
    node: Uuid,
    stamp: i64,
    server: &ServerId,
) -> sqlx::Result<bool> {
    sqlx::query("DELETE FROM auth_nodes WHERE node_id = $1 AND stamp = $2 AND auth_server() = $3")
        .bind(node)
        .bind(stamp)
        .bind(server.as_str())
        .execute(db)
        .await
        .map(|done| done.rows_affected() == 1)
}

/// Prunes a batch of log entries older than an hour, and returns their number. A node that has not read them by then
/// starts a new epoch. Removes all entries of a number or none: a part would look complete to a node.
pub async fn prune_log(db: &mut PgConnection) -> sqlx::Result<u64> {
    sqlx::query(
        "DELETE FROM auth_log
         WHERE seq = ANY (ARRAY(SELECT seq FROM (SELECT seq, made_at FROM auth_log ORDER BY seq LIMIT 1000) oldest
                                WHERE made_at < clock_timestamp() - interval '1 hour'))",
    )
    .execute(db)
    .await
    .map(|done| done.rows_affected())
}
