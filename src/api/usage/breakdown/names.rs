//! Current names of keys and tokens beside their IDs. They are looked up for each page: a name can change, and usage is
//! kept longer than the credentials.

use std::collections::HashMap;

use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    api::usage::model::BreakdownRow,
    base::identity::{scope::Scope, tenant::Tenant},
};

/// Sets the names that the caller may read.
pub async fn resolve(db: &mut PgConnection, tenant: Tenant, rows: &mut [BreakdownRow]) -> sqlx::Result<()> {
    let may_read = |scope| tenant.scopes().contains(scope);
    let (keys, tokens) = (may_read(Scope::KeysRead), may_read(Scope::TokensRead));
    let keys: Vec<Uuid> = rows.iter().filter(|_| keys).filter_map(key_of).collect();
    let tokens: Vec<Uuid> = rows.iter().filter(|_| tokens).filter_map(token_of).collect();
    if keys.is_empty() && tokens.is_empty() {
        return Ok(());
    }
    let found: Vec<(Uuid, String)> = sqlx::query_as(
        "SELECT i.id, n.name FROM unnest($2::uuid[]) AS i (id)
         CROSS JOIN LATERAL (SELECT project_id, name FROM keys WHERE id = i.id OFFSET 0) AS n
         WHERE n.project_id = $1 AND n.name <> ''
         UNION ALL
         SELECT i.id, n.name FROM unnest($3::uuid[]) AS i (id)
         CROSS JOIN LATERAL (SELECT project_id, name FROM tokens WHERE id = i.id OFFSET 0) AS n
         WHERE n.project_id = $1 AND n.name <> ''",
    )
    .bind(tenant.project_id())
    .bind(keys)
    .bind(tokens)
    .fetch_all(db)
    .await?;
    let names: HashMap<Uuid, String> = found.into_iter().collect();
    let name = |id: Option<Uuid>| names.get(&id?).cloned();
    for row in rows {
        let (key, token) = (name(key_of(row)), name(token_of(row)));
        row.key_name = row.key_name.take().map(|_| key);
        row.token_name = row.token_name.take().map(|_| token);
    }
    Ok(())
}

fn key_of(row: &BreakdownRow) -> Option<Uuid> {
    row.key_id.flatten().map(|id| Uuid::from_u128(id.as_u128()))
}

fn token_of(row: &BreakdownRow) -> Option<Uuid> {
    row.token_id.flatten().map(|id| Uuid::from_u128(id.as_u128()))
}
