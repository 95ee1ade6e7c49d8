//! Summary of a project's keys.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use crate::base::{id::KeyId, identity::tenant::Tenant, runtime::clock::Timestamp};

/// Time before the expiration of a key from which on it is reported.
const EXPIRES_WITHIN: Duration = Duration::from_secs(14 * 24 * 3600);
/// Time without a use after which a key is reported.
const UNUSED_FOR: Duration = Duration::from_secs(90 * 24 * 3600);
/// Keys are counted up to this number, so that the cost does not grow with the project.
const MAX_COUNT: i64 = 1_000;
/// Maximum number of reported keys of each sort.
const MAX_REPORTED: i64 = 10;

/// Summary of a project's keys. Each status is counted up to 1,000, which means 1,000 or more.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct KeysOverview {
    /// Number of active keys. A key that expires is counted here for up to two more minutes.
    #[schemars(range(min = 0, max = 1000))]
    pub active: i64,
    /// Number of expired keys.
    #[schemars(range(min = 0, max = 1000))]
    pub expired: i64,
    /// Number of revoked keys.
    #[schemars(range(min = 0, max = 1000))]
    pub revoked: i64,
    /// Active keys that expire within 14 days: the next 10.
    #[schemars(length(max = 10))]
    pub expiring: Vec<KeySummary>,
    /// Active keys that were not used for 90 days: up to 10 of the oldest 1,000 active keys.
    #[schemars(length(max = 10))]
    pub unused: Vec<KeySummary>,
}

/// A key that needs attention.
#[derive(Debug, Serialize, Deserialize, JsonSchema, sqlx::FromRow)]
pub struct KeySummary {
    /// Key ID.
    pub id: KeyId,
    /// Human-readable name.
    pub name: String,
    /// Creation time.
    pub created_at: Timestamp,
    /// Expiration time. null if the key does not expire.
    pub expires_at: Option<Timestamp>,
    /// Time of the last use, to the minute. null if the key was never used.
    pub last_used_at: Option<Timestamp>,
}

/// Reads the summary of the tenant's keys.
pub async fn read(db: &mut PgConnection, tenant: Tenant, now: Timestamp) -> sqlx::Result<KeysOverview> {
    let counts: Vec<(String, i64)> = sqlx::query_as(
        "SELECT s.state, (SELECT count(k.id) FROM (
                              SELECT project_id, state, id FROM keys WHERE (project_id, state, id) > ($1, s.state, $2)
                              ORDER BY project_id, state, id LIMIT $3) AS k
                          WHERE k.project_id = $1 AND k.state = s.state)
         FROM unnest(ARRAY['active', 'expired', 'revoked']) AS s (state)",
    )
    .bind(tenant.project_id())
    .bind(KeyId::FIRST)
    .bind(MAX_COUNT)
    .fetch_all(&mut *db)
    .await?;
    let count = |state: &str| counts.iter().find(|(of, _)| of == state).map_or(0, |(_, count)| *count);
    let expiring = sqlx::query_as(
        "SELECT id, name, created_at, expires_at, last_used_at FROM (
             SELECT project_id, id, name, created_at, expires_at, last_used_at FROM keys
             WHERE (project_id, expires_at, id) > ($1, $2, $3) AND state = 'active' AND expires_at IS NOT NULL
             ORDER BY project_id, expires_at, id LIMIT $4) AS k
         WHERE project_id = $1 AND expires_at <= $5",
    )
    .bind(tenant.project_id())
    .bind(now)
    .bind(KeyId::LAST)
    .bind(MAX_REPORTED)
    .bind(now.plus(EXPIRES_WITHIN))
    .fetch_all(&mut *db)
    .await?;
    let unused = sqlx::query_as(
        "SELECT id, name, created_at, expires_at, last_used_at FROM (
             SELECT project_id, state, id, name, created_at, expires_at, last_used_at FROM keys
             WHERE (project_id, state, id) > ($1, 'active', $2) ORDER BY project_id, state, id LIMIT $3) AS k
         WHERE project_id = $1 AND state = 'active' AND coalesce(expires_at > $4, true)
           AND coalesce(last_used_at, created_at) <= $5
         ORDER BY coalesce(last_used_at, created_at), id LIMIT $6",
    )
    .bind(tenant.project_id())
    .bind(KeyId::FIRST)
    .bind(MAX_COUNT)
    .bind(now)
    .bind(now.minus(UNUSED_FOR))
    .bind(MAX_REPORTED)
    .fetch_all(db)
    .await?;
    Ok(KeysOverview { active: count("active"), expired: count("expired"), revoked: count("revoked"), expiring, unused })
}
