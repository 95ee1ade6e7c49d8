//! SQL for usage.

use sqlx::PgConnection;
use time::Date;

use super::counters::{Counts, Credential, Uses};
use crate::base::{clock::Timestamp, id::ProjectId, tenant::Tenant};

/// Adds what a node has counted and noted, in one statement. What belongs to a project that is gone is
/// dropped.
pub async fn add(db: &mut PgConnection, counts: &Counts, uses: &Uses) -> sqlx::Result<()> {
    // In one order on every node, so that two of them cannot deadlock.
    let mut rows: Vec<(ProjectId, Date, i64)> =
        counts.iter().map(|(&(project, day), &requests)| (project, day, requests)).collect();
    rows.sort_unstable();
    let mut uses: Vec<(Credential, Timestamp)> =
        uses.iter().map(|(&credential, &minute)| (credential, minute)).collect();
    uses.sort_unstable();
    let (mut keys, mut keys_used, mut tokens, mut tokens_used) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut sessions, mut sessions_used) = (Vec::new(), Vec::new());
    for (credential, minute) in uses {
        match credential {
            Credential::Key(id) => {
                keys.push(id);
                keys_used.push(minute);
            }
            Credential::Token(id) => {
                tokens.push(id);
                tokens_used.push(minute);
            }
            Credential::Session(id) => {
                sessions.push(id);
                sessions_used.push(minute);
            }
        }
    }
    sqlx::query(
        "WITH used_keys AS (
             UPDATE keys SET last_used_at = greatest(last_used_at, u.at)
             FROM unnest($4::uuid[], $5::timestamptz[]) AS u (id, at) WHERE keys.id = u.id
         ), used_tokens AS (
             UPDATE tokens SET last_used_at = greatest(last_used_at, u.at)
             FROM unnest($6::uuid[], $7::timestamptz[]) AS u (id, at) WHERE tokens.id = u.id
         ), used_sessions AS (
             UPDATE sessions SET last_used_at = greatest(last_used_at, u.at)
             FROM unnest($8::uuid[], $9::timestamptz[]) AS u (id, at) WHERE sessions.id = u.id
         )
         INSERT INTO usage_daily (project_id, day, requests)
         SELECT c.project_id, c.day, c.requests FROM unnest($1::uuid[], $2::date[], $3::bigint[]) AS c (project_id, day, requests)
         WHERE EXISTS (SELECT FROM projects p WHERE p.id = c.project_id)
         ON CONFLICT (project_id, day) DO UPDATE SET requests = usage_daily.requests + excluded.requests",
    )
    .bind(rows.iter().map(|row| row.0).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.1).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.2).collect::<Vec<_>>())
    .bind(keys)
    .bind(keys_used)
    .bind(tokens)
    .bind(tokens_used)
    .bind(sessions)
    .bind(sessions_used)
    .execute(db)
    .await
    .map(drop)
}

/// The tenant's requests from `first` to `last`, both included.
pub async fn requests_between(db: &mut PgConnection, tenant: Tenant, first: Date, last: Date) -> sqlx::Result<i64> {
    sqlx::query_scalar(
        "SELECT coalesce(sum(requests), 0)::bigint FROM usage_daily WHERE project_id = $1 AND day BETWEEN $2 AND $3",
    )
    .bind(tenant.project_id())
    .bind(first)
    .bind(last)
    .fetch_one(db)
    .await
}
