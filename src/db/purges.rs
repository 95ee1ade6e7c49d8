//! Removal of what belonged to deleted projects and webhooks, after the response to their DELETE.
//!
//! A DELETE removes the row of the project or webhook and adds a job to the table `purges`. From then on, everything that
//! belonged to it is unreachable, because each access joins the project or webhook. The worker `purge` removes these rows
//! in batches, so the duration of a DELETE does not depend on their number.

use sqlx::PgConnection;

/// Maximum number of rows in a batch.
const BATCH: i32 = 1000;

/// Removes a batch. Returns 0 if no job is due.
pub async fn purge_batch(db: &mut PgConnection) -> sqlx::Result<u64> {
    let removed: i32 = sqlx::query_scalar("SELECT purge_some($1)").bind(BATCH).fetch_one(db).await?;
    Ok(u64::try_from(removed).unwrap_or(0))
}
