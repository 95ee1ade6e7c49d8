//! SQL for keys.

use sqlx::{PgConnection, types::Json};

use super::model::StoredKey;
use crate::{
    base::{
        clock::Timestamp,
        id::{self, KeyId, ProjectId, UserId},
        metadata::Metadata,
        page::{Page, PageRequest, keyset},
        scope::ScopeSet,
        secret::Secret,
        secret::SecretHash,
        tenant::Tenant,
    },
    db::ProjectItem,
};

impl ProjectItem for id::Key {
    const PROJECT_OF: &'static str = "SELECT project_id FROM keys WHERE id = $1";
}

/// What a new key is made of.
#[derive(Debug)]
pub struct KeyRow {
    /// The key.
    pub id: KeyId,
    /// Its project.
    pub project_id: ProjectId,
    /// What people call it.
    pub name: String,
    /// What it may do.
    pub scopes: ScopeSet,
    /// Its maker's notes on it.
    pub metadata: Metadata,
    /// Who makes it.
    pub created_by: Option<UserId>,
    /// When.
    pub created_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
}

/// Adds a key and its secret, in one statement.
pub async fn insert(db: &mut PgConnection, key: KeyRow, secret: &Secret) -> sqlx::Result<StoredKey> {
    sqlx::query_as(
        "WITH key AS (
             INSERT INTO keys (id, project_id, name, scopes, metadata, created_by, created_at, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING *
         ), secret AS (
             INSERT INTO key_secrets (secret_hash, key_id, hint, created_at) VALUES ($9, $1, $10, $7) RETURNING hint
         )
         SELECT key.*, secret.hint FROM key, secret",
    )
    .bind(key.id)
    .bind(key.project_id)
    .bind(key.name)
    .bind(key.scopes.to_texts())
    .bind(Json(key.metadata))
    .bind(key.created_by)
    .bind(key.created_at)
    .bind(key.expires_at)
    .bind(secret.hash())
    .bind(secret.hint())
    .fetch_one(db)
    .await
}

/// The key with this secret, live or not.
pub async fn find_by_secret(db: &mut PgConnection, secret: &SecretHash) -> sqlx::Result<Option<StoredKey>> {
    sqlx::query_as("SELECT k.*, s.hint FROM key_secrets s JOIN keys k ON k.id = s.key_id WHERE s.secret_hash = $1")
        .bind(secret)
        .fetch_optional(db)
        .await
}

/// One of the tenant's keys.
pub async fn get(db: &mut PgConnection, tenant: Tenant, id: KeyId) -> sqlx::Result<Option<StoredKey>> {
    sqlx::query_as(
        "SELECT k.*, s.hint FROM keys k JOIN key_secrets s ON s.key_id = k.id WHERE k.project_id = $1 AND k.id = $2",
    )
    .bind(tenant.project_id())
    .bind(id)
    .fetch_optional(db)
    .await
}

/// The tenant's keys.
pub async fn list(
    db: &mut PgConnection,
    tenant: Tenant,
    page: &PageRequest<id::Key>,
) -> sqlx::Result<Page<StoredKey, id::Key>> {
    let sql = keyset!(
        page,
        "k.id",
        "SELECT k.*, s.hint FROM keys k JOIN key_secrets s ON s.key_id = k.id WHERE k.project_id = $3"
    );
    let rows: Vec<StoredKey> =
        sqlx::query_as(sql).bind(page.after).bind(page.rows()).bind(tenant.project_id()).fetch_all(db).await?;
    Ok(page.page(rows, |key| key.id))
}

/// Ends one of the tenant's keys; gives whether there is such a key, ended before or not. It waits
/// for tokens being issued under the key, so that whoever then looks for those sees them all.
pub async fn revoke(db: &mut PgConnection, tenant: Tenant, id: KeyId, now: Timestamp) -> sqlx::Result<bool> {
    // FOR UPDATE, because an insert that refers to the key holds FOR KEY SHARE on it, which a plain
    // update of this column would not wait for.
    sqlx::query(
        "UPDATE keys SET revoked_at = coalesce(revoked_at, $3)
         WHERE id = (SELECT id FROM keys WHERE id = $1 AND project_id = $2 FOR UPDATE)",
    )
    .bind(id)
    .bind(tenant.project_id())
    .bind(now)
    .execute(db)
    .await
    .map(|done| done.rows_affected() == 1)
}
