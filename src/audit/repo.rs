//! SQL for the audit trail.

use std::collections::HashMap;

use sqlx::PgConnection;

use super::{
    chain::{
        checkpoint::SignedStatement,
        link::{ChainEnd, LinkedEntry},
    },
    model::Draft,
};
use crate::{
    base::{
        error::{Error, Result},
        id::{AuditId, ProjectId},
        runtime::clock::Timestamp,
    },
    db::pulse,
};

/// Advisory lock of the sealer. No other lock of the server has this number: idempotency locks are hashes.
const SEALER_LOCK: i64 = 0x636c_6f75_6441_7564;

/// Stages entries that do not belong to a write.
pub async fn stage(db: &mut PgConnection, drafts: &[(ProjectId, Draft)]) -> sqlx::Result<()> {
    let (projects, entries): (Vec<_>, Vec<_>) =
        drafts.iter().map(|(project, draft)| (*project, draft.to_text())).unzip();
    sqlx::query("INSERT INTO audit_staged (project_id, entry) SELECT n.project_id, n.entry FROM unnest($1::uuid[], $2::text[]) AS n (project_id, entry)")
        .bind(projects)
        .bind(entries)
        .execute(db)
        .await
        .map(drop)
}

/// Position in the staged entries before which all entries are sealed: a transaction, and an index among the entries
/// that it staged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StagedPosition {
    /// Transaction ID.
    pub xact: u64,
    /// Index in the transaction, from 1.
    pub position: i64,
}

impl StagedPosition {
    /// Position before the entries of the transaction with this ID, in the text form of `xid8`.
    pub(crate) fn before(xact: &str) -> Result<Self> {
        Ok(Self { xact: xact.parse().map_err(Error::internal)?, position: 0 })
    }
}

/// State of the staged entries.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct SealerStatus {
    low_water: String,
    /// Number of staged entries, counted up to `limit`.
    pub staged: i64,
    /// Last sealed entry.
    pub last_id: AuditId,
    /// Whether a checkpoint is due.
    pub is_due: bool,
}

impl SealerStatus {
    /// Position before which all transactions have ended.
    pub(super) fn low_water(&self) -> Result<StagedPosition> {
        StagedPosition::before(&self.low_water)
    }
}

impl StagedRow {
    /// Position at which the entry was staged.
    pub(super) fn staged_position(&self) -> Result<StagedPosition> {
        Ok(StagedPosition { position: self.position, ..StagedPosition::before(&self.xact)? })
    }
}

/// Checks, without a lock, whether there is anything to seal after `last`.
pub(super) async fn sealer_status(
    db: &mut PgConnection,
    last: StagedPosition,
    limit: i64,
    due_since: Timestamp,
) -> sqlx::Result<SealerStatus> {
    sqlx::query_as(
        "SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS low_water,
                (SELECT count(*)
                 FROM (SELECT FROM audit_staged WHERE (xact, position) > ($1::text::xid8, $2) LIMIT $3) s) AS staged,
                (SELECT last_id FROM audit_sealer) AS last_id,
                coalesce((SELECT uncovered_since FROM audit_chains WHERE uncovered_since IS NOT NULL
                          ORDER BY uncovered_since LIMIT 1) <= $4, false) AS is_due",
    )
    .bind(last.xact.to_string())
    .bind(last.position)
    .bind(limit)
    .bind(due_since)
    .fetch_one(db)
    .await
}

/// Acquires the sealer lock until the transaction ends and returns the last assigned ID. Returns `None` if another
/// server holds the lock.
pub(super) async fn try_lock_sealer(db: &mut PgConnection) -> sqlx::Result<Option<AuditId>> {
    let is_locked: bool =
        sqlx::query_scalar("SELECT pg_try_advisory_xact_lock($1)").bind(SEALER_LOCK).fetch_one(&mut *db).await?;
    if !is_locked {
        return Ok(None);
    }
    // A separate statement, so that its snapshot includes commits of the previous lock holder.
    sqlx::query_scalar("SELECT last_id FROM audit_sealer").fetch_optional(db).await
}

/// Staged entry.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct StagedRow {
    xact: String,
    position: i64,
    /// Project of the entry.
    pub project_id: ProjectId,
    /// Content of the entry.
    pub entry: String,
}

/// Removes and returns up to `limit` entries staged after `last`, oldest first.
pub(super) async fn take_staged(
    db: &mut PgConnection,
    last: StagedPosition,
    limit: i64,
) -> sqlx::Result<Vec<StagedRow>> {
    // Ordered by transaction ID, which preserves causality: a transaction that began after another had ended has a
    // higher ID.
    sqlx::query_as(
        "WITH taken AS (
             DELETE FROM audit_staged
             WHERE ctid = ANY(ARRAY(SELECT ctid FROM audit_staged WHERE (xact, position) > ($1::text::xid8, $2)
                                    ORDER BY xact, position LIMIT $3))
             RETURNING xact, position, project_id, entry
         )
         SELECT xact::text AS xact, position, project_id, entry FROM taken ORDER BY taken.xact, position",
    )
    .bind(last.xact.to_string())
    .bind(last.position)
    .bind(limit)
    .fetch_all(db)
    .await
}

#[derive(sqlx::FromRow)]
struct ChainEndRow {
    project_id: ProjectId,
    seq: i64,
    hash: [u8; 32],
    latest_by: i64,
    earliest_by: i64,
    uncovered: i64,
    uncovered_since: Option<Timestamp>,
}

/// Reads the ends of the chains of these projects, and of chains for which a checkpoint is due. Chains without entries
/// are omitted.
pub(super) async fn chain_ends(
    db: &mut PgConnection,
    projects: &[ProjectId],
    due_since: Timestamp,
    max_due: i64,
) -> sqlx::Result<HashMap<ProjectId, ChainEnd>> {
    let rows: Vec<ChainEndRow> = sqlx::query_as(
        "SELECT project_id, seq, hash, latest_by, earliest_by, uncovered, uncovered_since
         FROM audit_chains WHERE project_id = ANY($1)
         UNION
         (SELECT project_id, seq, hash, latest_by, earliest_by, uncovered, uncovered_since
          FROM audit_chains WHERE uncovered_since <= $2 ORDER BY uncovered_since LIMIT $3)",
    )
    .bind(projects)
    .bind(due_since)
    .bind(max_due)
    .fetch_all(db)
    .await?;
    let end = |row: ChainEndRow| {
        let ChainEndRow { project_id, seq, hash, latest_by, earliest_by, uncovered, uncovered_since } = row;
        (project_id, ChainEnd { seq, hash, latest_by, earliest_by, uncovered, uncovered_since })
    };
    Ok(rows.into_iter().map(end).collect())
}

/// Inserts sealed entries.
pub(super) async fn insert(db: &mut PgConnection, entries: &[LinkedEntry]) -> sqlx::Result<()> {
    macro_rules! column {
        ($field:expr) => {
            entries.iter().map($field).collect::<Vec<_>>()
        };
    }
    sqlx::query(
        "INSERT INTO audit_entries (project_id, id, seq, payload, salt, payload_hash, prev_hash, hash, action, actor_id,
                                    target_id, is_event)
         SELECT n.project_id, n.id, n.seq, n.payload, n.salt, n.payload_hash, n.prev_hash, n.hash, n.action, n.actor_id,
                n.target_id, n.is_event
         FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bytea[], $5::bytea[], $6::bytea[], $7::bytea[],
                     $8::bytea[], $9::text[], $10::text[], $11::text[], $12::bool[])
              AS n (project_id, id, seq, payload, salt, payload_hash, prev_hash, hash, action, actor_id, target_id, is_event)",
    )
    .bind(column!(|entry| entry.project_id))
    .bind(column!(|entry| entry.id))
    .bind(column!(|entry| entry.seq))
    .bind(column!(|entry| entry.payload.as_slice()))
    .bind(column!(|entry| entry.salt.as_slice()))
    .bind(column!(|entry| entry.payload_hash.as_slice()))
    .bind(column!(|entry| entry.prev_hash.as_slice()))
    .bind(column!(|entry| entry.hash.as_slice()))
    .bind(column!(|entry| entry.columns.action.as_str()))
    .bind(column!(|entry| entry.columns.actor_id.as_deref()))
    .bind(column!(|entry| entry.columns.target_id.as_deref()))
    .bind(column!(|entry| entry.is_event))
    .execute(db)
    .await
    .map(drop)
}

/// Deletes the content of these entries. Entries about the trail itself are kept, because verification needs them.
pub(super) async fn redact(db: &mut PgConnection, entries: &[(ProjectId, AuditId)]) -> sqlx::Result<()> {
    let (projects, ids): (Vec<_>, Vec<_>) = entries.iter().copied().unzip();
    sqlx::query(
        "UPDATE audit_entries e
         SET payload = NULL, salt = NULL, action = NULL, actor_id = NULL, target_id = NULL, is_event = false
         FROM unnest($1::uuid[], $2::uuid[]) AS r (project_id, id)
         WHERE e.project_id = r.project_id AND e.id = r.id
           AND e.action <> ALL ('{audit.redacted,audit.retention_applied,audit.checkpoint}')",
    )
    .bind(projects)
    .bind(ids)
    .execute(db)
    .await
    .map(drop)
}

/// Updates the ends of chains.
pub(super) async fn upsert_chain_ends(db: &mut PgConnection, ends: &HashMap<ProjectId, ChainEnd>) -> sqlx::Result<()> {
    let mut ends: Vec<_> = ends.iter().collect();
    ends.sort_unstable_by_key(|(project, _)| **project);
    macro_rules! column {
        ($field:expr) => {
            ends.iter().map(|(_, end)| $field(end)).collect::<Vec<_>>()
        };
    }
    sqlx::query(
        "INSERT INTO audit_chains (project_id, seq, hash, latest_by, earliest_by, uncovered, uncovered_since)
         SELECT n.project_id, n.seq, n.hash, n.latest_by, n.earliest_by, n.uncovered, n.uncovered_since
         FROM unnest($1::uuid[], $2::bigint[], $3::bytea[], $4::bigint[], $5::bigint[], $6::bigint[], $7::timestamptz[])
              AS n (project_id, seq, hash, latest_by, earliest_by, uncovered, uncovered_since)
         ON CONFLICT (project_id) DO UPDATE
         SET seq = excluded.seq, hash = excluded.hash, latest_by = excluded.latest_by,
             earliest_by = excluded.earliest_by, uncovered = excluded.uncovered,
             uncovered_since = excluded.uncovered_since",
    )
    .bind(ends.iter().map(|(project, _)| **project).collect::<Vec<_>>())
    .bind(column!(|end: &ChainEnd| end.seq))
    .bind(column!(|end: &ChainEnd| end.hash.to_vec()))
    .bind(column!(|end: &ChainEnd| end.latest_by))
    .bind(column!(|end: &ChainEnd| end.earliest_by))
    .bind(column!(|end: &ChainEnd| end.uncovered))
    .bind(column!(|end: &ChainEnd| end.uncovered_since))
    .execute(db)
    .await
    .map(drop)
}

/// Inserts checkpoints, each with the ID of the entry that records it.
pub(super) async fn insert_checkpoints(
    db: &mut PgConnection,
    checkpoints: &[(AuditId, SignedStatement)],
) -> sqlx::Result<()> {
    macro_rules! column {
        ($field:expr) => {
            checkpoints.iter().map(|(_, signed)| $field(signed)).collect::<Vec<_>>()
        };
    }
    sqlx::query(
        "INSERT INTO audit_checkpoints (project_id, id, seq, hash, made_at, public_key, signature)
         SELECT n.project_id, n.id, n.seq, n.hash, n.made_at, n.public_key, n.signature
         FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bytea[], $5::timestamptz[], $6::bytea[], $7::bytea[])
              AS n (project_id, id, seq, hash, made_at, public_key, signature)",
    )
    .bind(column!(|signed: &SignedStatement| signed.project_id))
    .bind(checkpoints.iter().map(|(id, _)| *id).collect::<Vec<_>>())
    .bind(column!(|signed: &SignedStatement| signed.seq))
    .bind(column!(|signed: &SignedStatement| signed.hash.to_vec()))
    .bind(column!(|signed: &SignedStatement| signed.made_at))
    .bind(column!(|signed: &SignedStatement| signed.public_key.to_vec()))
    .bind(column!(|signed: &SignedStatement| signed.signature.to_vec()))
    .execute(db)
    .await
    .map(drop)
}

/// Records the last assigned ID and notifies all servers, unless another server has assigned one since `before`; returns
/// whether it succeeded. Only the holder of the sealer lock notifies, because notifications serialize commits.
/// The sealer lock already prevents this. The check ensures that a chain does not fork even if the lock fails.
pub(super) async fn set_last_id(db: &mut PgConnection, before: AuditId, last: AuditId) -> sqlx::Result<bool> {
    sqlx::query("UPDATE audit_sealer SET last_id = $2 WHERE last_id = $1 RETURNING pg_notify($3, '')")
        .bind(before)
        .bind(last)
        .bind(pulse::CHANNEL)
        .execute(db)
        .await
        .map(|done| done.rows_affected() == 1)
}
