//! Current names of the objects in audit entries. Entries contain IDs only: a name can change and can be personal data,
//! and the trail keeps its entries for years.

use std::collections::HashMap;

use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use super::view::Entry;
use crate::base::id::{self, Id, Kind};

/// Prefix of a kind of ID, and the number of an ID.
type AnyId = (&'static str, u128);

/// Sets the names of actor and target of each entry, with one query. Every object of an entry belongs to the project of
/// the chain, so that its name is not new to those who may read the trail.
pub async fn resolve(db: &mut PgConnection, entries: &mut [Entry]) -> sqlx::Result<()> {
    let ids = entries.iter().flat_map(|entry| [id_in(&entry.actor), id_in(&entry.target)]).flatten();
    let names = find(db, &ids.collect::<Vec<_>>()).await?;
    for entry in entries {
        let name = |object| id_in(object).and_then(|id| names.get(&id)).cloned();
        entry.actor_name = name(&entry.actor);
        entry.target_name = name(&entry.target);
    }
    Ok(())
}

fn id_in(object: &Value) -> Option<AnyId> {
    let text = object.get("id")?.as_str()?;
    (parse::<id::User>(text))
        .or_else(|| parse::<id::Key>(text))
        .or_else(|| parse::<id::Token>(text))
        .or_else(|| parse::<id::Project>(text))
        .or_else(|| parse::<id::Webhook>(text))
        .or_else(|| parse::<id::Resource>(text))
}

fn parse<K: Kind>(text: &str) -> Option<AnyId> {
    text.parse::<Id<K>>().ok().map(|id| (K::PREFIX, id.as_u128()))
}

/// The IDs of kind `K`.
fn of_kind<K: Kind>(ids: &[AnyId]) -> Vec<Id<K>> {
    ids.iter().filter(|(prefix, _)| *prefix == K::PREFIX).map(|(_, number)| Id::from_u128(*number)).collect()
}

async fn find(db: &mut PgConnection, ids: &[AnyId]) -> sqlx::Result<HashMap<AnyId, String>> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<(String, Uuid, String)> = sqlx::query_as(
        "SELECT 'usr', i.id, n.email FROM unnest($1::uuid[]) AS i (id)
         CROSS JOIN LATERAL (SELECT email FROM users WHERE id = i.id OFFSET 0) AS n
         UNION ALL
         SELECT 'key', i.id, n.name FROM unnest($2::uuid[]) AS i (id)
         CROSS JOIN LATERAL (SELECT name FROM keys WHERE id = i.id OFFSET 0) AS n
         UNION ALL
         SELECT 'tok', i.id, n.name FROM unnest($3::uuid[]) AS i (id)
         CROSS JOIN LATERAL (SELECT name FROM tokens WHERE id = i.id OFFSET 0) AS n
         UNION ALL
         SELECT 'proj', i.id, n.name FROM unnest($4::uuid[]) AS i (id)
         CROSS JOIN LATERAL (SELECT name FROM projects WHERE id = i.id OFFSET 0) AS n
         UNION ALL
         SELECT 'wh', i.id, n.url FROM unnest($5::uuid[]) AS i (id)
         CROSS JOIN LATERAL (SELECT url FROM webhooks WHERE id = i.id OFFSET 0) AS n
         UNION ALL
         SELECT 'res', i.id, n.name FROM unnest($6::uuid[]) AS i (id)
         CROSS JOIN LATERAL (SELECT name FROM resources WHERE id = i.id OFFSET 0) AS n",
    )
    .bind(of_kind::<id::User>(ids))
    .bind(of_kind::<id::Key>(ids))
    .bind(of_kind::<id::Token>(ids))
    .bind(of_kind::<id::Project>(ids))
    .bind(of_kind::<id::Webhook>(ids))
    .bind(of_kind::<id::Resource>(ids))
    .fetch_all(db)
    .await?;
    let known = |prefix: String| id::PREFIXES.iter().copied().find(|known| *known == prefix);
    let named = rows.into_iter().filter(|(_, _, name)| !name.is_empty());
    Ok(named.filter_map(|(prefix, id, name)| Some(((known(prefix)?, id.as_u128()), name))).collect())
}
