//! Recent deletions, so that a repeated DELETE gets the first response for at least a day.
//!
//! Everyone who may delete in the project may repeat. After the deletion of a project it has no members, and a member
//! who left is no longer in it either: for these, the row names the users who may repeat.

use std::time::Duration;

use sqlx::PgConnection;

use super::delete_batch;
use crate::base::{
    id::{self, Id, ProjectId, UserId},
    identity::role::Role,
    runtime::clock::Timestamp,
};

/// Time for which a DELETE can be repeated. More than the documented 24 hours.
const RETENTION: Duration = Duration::from_secs(48 * 3600);

/// Kind of item whose row is removed when it is deleted. Credentials and resources keep their rows.
pub trait Deletable: id::Kind {
    /// Name in the table.
    const NAME: &'static str;
}

impl Deletable for id::Project {
    const NAME: &'static str = "project";
}

impl Deletable for id::Webhook {
    const NAME: &'static str = "webhook";
}

impl Deletable for id::User {
    const NAME: &'static str = "member";
}

/// A deletion.
#[derive(Debug, sqlx::FromRow)]
pub struct Deletion {
    /// Role of the removed member.
    pub role: Option<Role>,
    /// Users who may repeat the deletion although they are no longer in the project.
    pub repeatable_by: Vec<UserId>,
}

/// Records that `item` of `project` is being deleted.
pub async fn record<K: Deletable>(
    db: &mut PgConnection,
    project: ProjectId,
    item: Id<K>,
    deletion: Deletion,
    now: Timestamp,
) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO deletions (kind, id, project_id, role, repeatable_by, deleted_at) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (kind, id, project_id) DO UPDATE
         SET role = excluded.role, repeatable_by = excluded.repeatable_by, deleted_at = excluded.deleted_at",
    )
    .bind(K::NAME)
    .bind(item)
    .bind(project)
    .bind(deletion.role)
    .bind(deletion.repeatable_by)
    .bind(now)
    .execute(db)
    .await
    .map(drop)
}

/// Finds the latest deletion of `item` of `project`.
pub async fn find<K: Deletable>(
    db: &mut PgConnection,
    project: ProjectId,
    item: Id<K>,
) -> sqlx::Result<Option<Deletion>> {
    sqlx::query_as("SELECT role, repeatable_by FROM deletions WHERE kind = $1 AND id = $2 AND project_id = $3")
        .bind(K::NAME)
        .bind(item)
        .bind(project)
        .fetch_optional(db)
        .await
}

/// Removes a batch of deletions that can no longer be repeated. Returns the number of removed rows.
pub async fn delete_expired(db: &mut PgConnection, now: Timestamp) -> sqlx::Result<u64> {
    sqlx::query(delete_batch!("deletions", "deleted_at"))
        .bind(now.minus(RETENTION))
        .execute(db)
        .await
        .map(|done| done.rows_affected())
}
