//! Keys, as needed to authenticate them.

use sqlx::{PgConnection, types::Json};

use crate::{
    base::{
        id::{KeyId, ProjectId},
        identity::{secret::SecretHash, tenant::ProjectStatus},
        input::limit::RateLimit,
        runtime::clock::Timestamp,
    },
    db::Stamped,
};

/// A key and one of its secrets, as needed to authenticate it.
#[derive(Debug, sqlx::FromRow)]
pub struct PresentedKey {
    /// Key ID.
    pub id: KeyId,
    /// Project of the key.
    pub project_id: ProjectId,
    /// Status of the project.
    pub project_status: ProjectStatus,
    /// Scopes of the key.
    pub scopes: Vec<String>,
    /// Creation time.
    pub created_at: Timestamp,
    /// Expiration time.
    pub expires_at: Option<Timestamp>,
    /// Revocation time.
    pub revoked_at: Option<Timestamp>,
    /// Time when this secret stops working, if it was rotated out.
    pub secret_expires_at: Option<Timestamp>,
    /// Networks that the key can be used from. Empty for all.
    pub allowed_ips: Vec<String>,
    /// Rate limit.
    pub rate_limit: Option<Json<RateLimit>>,
}

/// The key with this secret, valid or not.
pub async fn find_by_secret(db: &mut PgConnection, secret: &SecretHash) -> sqlx::Result<Stamped<Option<PresentedKey>>> {
    sqlx::query_as(
        "SELECT a.seq AS auth_seq, auth_server() AS auth_server, k.id IS NOT NULL AS is_found, k.id, k.project_id, p.status AS project_status, k.scopes, k.created_at, k.expires_at, k.revoked_at,
                s.expires_at AS secret_expires_at, k.allowed_ips, k.rate_limit
         FROM auth_clock a
         LEFT JOIN (key_secrets s JOIN keys k ON k.id = s.key_id JOIN projects p ON p.id = k.project_id)
                ON s.secret_hash = $1",
    )
    .bind(secret)
    .fetch_one(db)
    .await
}
