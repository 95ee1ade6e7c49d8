//! SQL that removes old entries. Uses row comparisons, as in [`crate::db::lists::scan`], for the same reason.

use sqlx::{FromRow, PgConnection};

use crate::{
    audit::{chain::checkpoint::SignedStatement, model::Draft},
    base::id::{AuditId, ProjectId},
};

/// Chains with entries from before `before`, other than entries that the trail adds about itself. Otherwise, an
/// inactive chain would get an entry each month that records the removal of the previous month's entry.
pub async fn due_chains(db: &mut PgConnection, before: AuditId) -> sqlx::Result<Vec<ProjectId>> {
    sqlx::query_scalar(
        "SELECT c.project_id FROM audit_chains c
         WHERE EXISTS (
             SELECT FROM (
                 SELECT project_id, id, action FROM audit_entries
                 WHERE (project_id, id) > (c.project_id, $2) ORDER BY project_id, id LIMIT 100
             ) oldest
             WHERE project_id = c.project_id AND id < $1
               AND action IS DISTINCT FROM 'audit.retention_applied' AND action IS DISTINCT FROM 'audit.checkpoint'
         )
         ORDER BY 1",
    )
    .bind(before)
    .bind(AuditId::FIRST)
    .fetch_all(db)
    .await
}

/// Entries that are removed together.
#[derive(Debug, FromRow)]
pub struct Batch {
    project_id: ProjectId,
    id: AuditId,
    /// Number of the last entry.
    pub seq: i64,
    /// Hash of the last entry.
    pub hash: Vec<u8>,
    /// Number of the last entry that was removed earlier.
    pub removed_up_to: i64,
    /// Maximum number of entries.
    most: i64,
}

/// Finds up to `limit` of the oldest entries of a chain from before `before`. Returns `None` if there are none.
pub async fn next_batch(
    db: &mut PgConnection,
    chain: ProjectId,
    before: AuditId,
    limit: i64,
) -> sqlx::Result<Option<Batch>> {
    sqlx::query_as(
        "SELECT project_id, id, seq, hash, $3 AS most,
                coalesce((SELECT seq FROM audit_anchors WHERE project_id = $1), 0) AS removed_up_to
         FROM (
             SELECT project_id, id, seq, hash FROM audit_entries
             WHERE (project_id, id) > ($1, $4) ORDER BY project_id, id LIMIT $3
         ) oldest
         WHERE project_id = $1 AND id < $2
         ORDER BY id DESC LIMIT 1",
    )
    .bind(chain)
    .bind(before)
    .bind(limit)
    .bind(AuditId::FIRST)
    .fetch_optional(db)
    .await
}

/// Removes a batch, unless another server has done so. One statement writes the anchor, removes the entries and stages
/// the entry that records it, so there is no intermediate state. It waits only for a server that removes the same
/// batch.
pub async fn delete_batch(
    db: &mut PgConnection,
    batch: &Batch,
    anchor: &SignedStatement,
    entry: &Draft,
) -> sqlx::Result<()> {
    sqlx::query(
        "WITH moved AS (
             INSERT INTO audit_anchors AS a (project_id, seq, hash, made_at, public_key, signature)
             VALUES ($1, $3, $4, $5, $6, $7)
             ON CONFLICT (project_id) DO UPDATE
             SET seq = excluded.seq, hash = excluded.hash, made_at = excluded.made_at,
                 public_key = excluded.public_key, signature = excluded.signature
             WHERE a.seq = $8
             RETURNING a.seq
         ), entries AS (
             DELETE FROM audit_entries
             WHERE ctid = ANY(ARRAY(
                 SELECT ctid FROM (
                     SELECT ctid, project_id, id FROM audit_entries
                     WHERE (project_id, id) > ($1, $10) ORDER BY project_id, id LIMIT $11
                 ) oldest
                 WHERE project_id = $1 AND id <= $2
             )) AND EXISTS (SELECT FROM moved)
         ), checkpoints AS (
             DELETE FROM audit_checkpoints WHERE project_id = $1 AND seq <= $3 AND id <= $2 AND EXISTS (SELECT FROM moved)
         )
         INSERT INTO audit_staged (project_id, entry) SELECT $1, $9 FROM moved",
    )
    .bind(batch.project_id)
    .bind(batch.id)
    .bind(batch.seq)
    .bind(anchor.hash.as_slice())
    .bind(anchor.made_at)
    .bind(anchor.public_key.as_slice())
    .bind(anchor.signature.as_slice())
    .bind(batch.removed_up_to)
    .bind(entry.to_text())
    .bind(AuditId::FIRST)
    .bind(batch.most)
    .execute(db)
    .await
    .map(drop)
}
