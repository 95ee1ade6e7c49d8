//! This node among those that share the database: what it has cached, and how it makes sure that a recall has
//! reached the others (docs/revocation.md).

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
    figures::Figures,
    lease::{Lease, LogPage, Timing},
};
use crate::{
    base::{clock::since_boot, subject::Subject},
    db::{Pool, ServerId, Stamp},
};

/// Where nodes are told that something was recalled.
pub const CHANNEL: &str = "cloudapi_recalls";
/// How often to look whether the others have confirmed a recall: at first, and at most.
const FIRST_LOOK: Duration = Duration::from_millis(1);
const LONGEST_LOOK: Duration = Duration::from_millis(25);

/// One node.
#[derive(Debug)]
pub struct Node {
    /// Another one each time the server starts.
    pub id: Uuid,
    /// The database that it shares with others.
    pub db: Pool,
    /// How long things last.
    pub timing: Timing,
    /// What its cache and its reads are good under. A node without a cache keeps it too: its reads count only on the
    /// server that commits its heartbeats.
    pub lease: Arc<Lease>,
    /// What it has recognised; none where each request reads the database.
    pub credentials: Option<Credentials>,
    /// What has happened.
    pub figures: Figures,
    /// How often something was recalled that answers under way may rest on.
    recalls: watch::Sender<u64>,
    /// Notified when the lease was renewed.
    renewals: Notify,
}

/// On how many connections acknowledgements are looked for that lead to another server than the recall was committed on.
const ACK_ATTEMPTS: usize = 3;

impl Node {
    /// A node on `db`, with a cache or without.
    pub fn new(db: Pool, has_cache: bool) -> Arc<Self> {
        let lease = Arc::<Lease>::default();
        let credentials = has_cache.then(|| Credentials::new(CAPACITY, Arc::clone(&lease)));
        Arc::new(Self {
            id: Uuid::new_v4(),
            db,
            timing: Timing::USUAL,
            lease,
            credentials,
            figures: Figures::default(),
            recalls: watch::Sender::default(),
            renewals: Notify::new(),
        })
    }

    /// Says that something was recalled, or that nobody can say that nothing was. To be called when what is cached
    /// of it is dropped, and before that is confirmed.
    pub fn tell_of_recall(&self) {
        self.recalls.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Changes whenever something was recalled, for answers that last: they are to look again whether they may go on.
    pub fn recalls(&self) -> watch::Receiver<u64> {
        self.recalls.subscribe()
    }

    /// To be called when the lease was renewed.
    pub(super) fn notify_renewal(&self) {
        self.renewals.notify_waiters();
    }

    /// Ready when the lease is renewed.
    pub(super) fn renewed(&self) -> Notified<'_> {
        self.renewals.notified()
    }

    /// Drops at once what this node has cached of what `recall` names, and returns when no node trusts any of it any
    /// more. `recall` has the recall's number and the server that committed it; `committed` is when its COMMIT had
    /// returned, since boot.
    ///
    /// That is when each other node has written that it knows of the recall, or when so much time has passed
    /// that a node which has not has no lease any more. Acknowledgements count only where the recall was committed:
    /// another server need not have it, or may have given its number to another one. It cannot fail.
    pub async fn confirm(&self, subjects: &[Subject], recall: &Stamp, committed: Duration) {
        let seq = recall.seq;
        if let Some(credentials) = &self.credentials {
            for subject in subjects {
                credentials.recall(*subject, seq);
            }
        }
        self.tell_of_recall();
        let by_ack = timeout(self.left_since(committed), self.acknowledged(recall)).await.is_ok();
        // A timer may be early, and a machine may have slept.
        while !by_ack && !self.left_since(committed).is_zero() {
            tokio::time::sleep(self.left_since(committed)).await;
        }
        let counter = if by_ack { &self.figures.recalls_by_ack } else { &self.figures.recalls_by_time };
        counter.fetch_add(1, Ordering::Relaxed);
        self.figures.recall_time.add(since_boot().saturating_sub(committed));
        if !by_ack {
            tracing::warn!(
                seq,
                "a node did not confirm a revocation, which was answered only when that node's lease had ended"
            );
        }
    }

    fn left_since(&self, committed: Duration) -> Duration {
        (committed + self.timing.wait).saturating_sub(since_boot())
    }

    async fn acknowledged(&self, recall: &Stamp) {
        let (mut pause, mut attempts) = (FIRST_LOOK, ACK_ATTEMPTS);
        loop {
            match self.acknowledgement(recall).await {
                Ok(Some(true)) => return,
                Ok(None) if attempts == 0 => std::future::pending().await,
                Ok(None) => attempts -= 1,
                // What cannot be read now may be read soon; if not, time will tell.
                Ok(Some(false)) | Err(_) => {}
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_LOOK);
        }
    }

    /// Whether all others have heard of the recall, and this node too if its own lease is on another server: there its
    /// reads and its numbers say nothing about the recall. None if the connection leads elsewhere, which closes it.
    async fn acknowledgement(&self, recall: &Stamp) -> sqlx::Result<Option<bool>> {
        let mut db = self.db.acquire().await?;
        let (server, seq, is_acknowledged): (String, i64, bool) = sqlx::query_as(
            "SELECT auth_server(), seq,
                    NOT EXISTS (SELECT FROM auth_nodes WHERE acked_seq < $1 AND (node_id <> $2 OR NOT $3))
             FROM auth_clock",
        )
        .bind(recall.seq)
        .bind(self.id)
        .bind(self.lease.vouch_for(recall))
        .fetch_one(&mut *db)
        .await?;
        if ServerId::from(server) == recall.server && seq >= recall.seq {
            return Ok(Some(is_acknowledged));
        }
        db.close_on_drop();
        Ok(None)
    }
}

/// Subjects as the log has them.
pub fn texts(subjects: &[Subject]) -> Vec<String> {
    subjects.iter().map(ToString::to_string).collect()
}

/// Puts a node among those that recalls wait for.
pub(super) async fn register(db: &mut PgConnection, node: Uuid) -> sqlx::Result<ServerId> {
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

/// Takes it out again.
pub(super) async fn unregister(db: &mut PgConnection, node: Uuid) -> sqlx::Result<()> {
    sqlx::query("DELETE FROM auth_nodes WHERE node_id = $1").bind(node).execute(db).await.map(drop)
}

/// The number of the latest recall.
pub async fn clock(db: &mut PgConnection) -> sqlx::Result<Stamp> {
    sqlx::query_as("SELECT seq AS auth_seq, auth_server() AS auth_server FROM auth_clock").fetch_one(db).await
}

/// The log after a number.
pub(super) async fn read_log(db: &mut PgConnection, after: i64) -> sqlx::Result<LogPage> {
    // One statement, so that the clock and the log are of one snapshot.
    let rows: Vec<(String, i64, Option<i64>, Option<String>)> = sqlx::query_as(
        "SELECT auth_server(), c.seq, l.seq, l.subject FROM auth_clock c LEFT JOIN auth_log l ON l.seq > $1
         ORDER BY l.seq",
    )
    .bind(after)
    .fetch_all(db)
    .await?;
    let (server, clock) =
        rows.first().map(|(server, clock, ..)| (server.clone().into(), *clock)).ok_or(sqlx::Error::RowNotFound)?;
    // What cannot be read, because a newer version wrote it, leaves a gap: then nothing cached is trusted.
    let recalls = rows.into_iter().filter_map(|(_, _, seq, subject)| Some((seq?, subject?.parse().ok()?))).collect();
    Ok(LogPage { server, clock, recalls })
}

/// Says that a node has dropped all up to a number, if this is `server`; gives whether it is, and the node is still among
/// the others.
pub(super) async fn acknowledge(
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
pub(super) async fn stamps(db: &mut PgConnection) -> sqlx::Result<Vec<(Uuid, i64)>> {
    sqlx::query_as("SELECT node_id, stamp FROM auth_nodes").fetch_all(db).await
}

/// Counts a node out, unless it has shown a sign of life since `stamp` was read; gives whether it did.
pub(super) async fn count_out(db: &mut PgConnection, node: Uuid, stamp: i64) -> sqlx::Result<bool> {
    sqlx::query("DELETE FROM auth_nodes WHERE node_id = $1 AND stamp = $2")
        .bind(node)
        .bind(stamp)
        .execute(db)
        .await
        .map(|done| done.rows_affected() == 1)
}

/// Forgets the oldest part of the log. A node that has not followed it for an hour begins anew.
pub async fn forget_old(db: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query(
        "DELETE FROM auth_log
         WHERE seq <= (SELECT max(seq) FROM auth_log WHERE made_at < clock_timestamp() - interval '1 hour')",
    )
    .execute(db)
    .await
    .map(drop)
}
