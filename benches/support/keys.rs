//! Keys that are inserted as the API does, but faster.

use cloudapi::base::identity::secret::{Secret, SecretHash, SecretKind};
use sqlx::PgPool;
use uuid::Uuid;

use super::Result;

/// Inserts a key with `scopes` for each element of `projects`. Returns the secrets.
pub async fn insert(db: &PgPool, projects: &[Uuid], scopes: &[&str]) -> Result<Vec<String>> {
    let secrets: Vec<Secret> = projects.iter().map(|_| Secret::generate(SecretKind::Key)).collect();
    let hashes: Vec<SecretHash> = secrets.iter().map(Secret::hash).collect();
    let ids: Vec<Uuid> = projects.iter().map(|_| Uuid::now_v7()).collect();
    sqlx::query(
        "INSERT INTO keys (id, project_id, name, scopes, created_at, hint)
         SELECT id, project_id, 'bench', $3, now(), 'sk_live_xxxx' FROM unnest($1, $2) AS new (id, project_id)",
    )
    .bind(&ids)
    .bind(projects)
    .bind(scopes)
    .execute(db)
    .await?;
    sqlx::query(
        "INSERT INTO key_secrets (secret_hash, key_id, created_at)
         SELECT hash, id, now() FROM unnest($1, $2) AS new (id, hash)",
    )
    .bind(&ids)
    .bind(&hashes)
    .execute(db)
    .await?;
    Ok(secrets.iter().map(|secret| secret.expose().to_owned()).collect())
}
