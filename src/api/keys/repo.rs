//! SQL for keys.

use std::time::Duration;

use sqlx::PgConnection;

use super::model::{KeyFilter, StoredKey};
use crate::{
    base::{
        id::{self, KeyId},
        identity::{credential::CredentialStatus, secret::Secret, tenant::Tenant},
        input::page::{Order, Page, PageRequest},
        runtime::clock::Timestamp,
    },
    db::{Call, ProjectItem, lists::scan::Scan},
};

/// Columns of [`StoredKey`], by name: a migration while an older server runs changes the shape of `*`.
macro_rules! key_columns {
    () => {
        "id, project_id, name, scopes, hint, metadata, created_by, created_at, expires_at, revoked_at, \
         previous_expires_at, last_used_at, allowed_ips, rate_limit"
    };
}

/// Time after which the expiration of a key is recorded: longer than the clocks of servers differ.
const EXPIRATION_DELAY: Duration = Duration::from_secs(60);

/// Query for keys that have expired and are in the state `active`: looks for them by their time of expiration, like a
/// [`Scan`].
macro_rules! unrecorded_keys {
    ($page:literal) => {
        concat!(
            "SELECT ",
            key_columns!(),
            " FROM (
                 SELECT id AS expired_id FROM (
                     SELECT project_id, expires_at, id, name FROM keys
                     WHERE (project_id, expires_at, id) > ($3, '-infinity', $5) AND state = 'active' AND expires_at IS NOT NULL
                     ORDER BY project_id, expires_at, id LIMIT 2000
                 ) AS expiring WHERE project_id = $3 AND expires_at <= $4
                                 AND ($6 = '' OR strpos(lower(name), lower($6)) > 0) ",
            $page,
            " LIMIT $2
             ) AS expired CROSS JOIN LATERAL (SELECT ",
            key_columns!(),
            " FROM keys WHERE id = expired_id OFFSET 0) AS k"
        )
    };
}

impl ProjectItem for id::Key {
    const PROJECT_OF: &'static str = "SELECT project_id FROM keys WHERE id = $1";
}

/// The call that creates a key with its first secret.
pub fn create(key: &StoredKey, secret: &Secret) -> Call {
    Call::new("create_key", |_| None)
        .bind(key.id)
        .bind(key.project_id)
        .bind(&key.name)
        .bind(&key.scopes)
        .bind(&key.metadata)
        .bind(key.created_by)
        .bind(key.created_at)
        .bind(key.expires_at)
        .bind(secret.hash())
        .bind(&key.hint)
        .bind(&key.allowed_ips)
        .bind(key.rate_limit)
}

/// One of the tenant's keys.
pub async fn get(db: &mut PgConnection, tenant: Tenant, id: KeyId) -> sqlx::Result<Option<StoredKey>> {
    sqlx::query_as(concat!("SELECT ", key_columns!(), " FROM keys WHERE project_id = $1 AND id = $2"))
        .bind(tenant.project_id())
        .bind(id)
        .fetch_optional(db)
        .await
}

/// One of the tenant's keys, with a row lock until the transaction ends.
pub async fn lock(db: &mut PgConnection, tenant: Tenant, id: KeyId) -> sqlx::Result<Option<StoredKey>> {
    sqlx::query_as(concat!("SELECT ", key_columns!(), " FROM keys WHERE project_id = $1 AND id = $2 FOR NO KEY UPDATE"))
        .bind(tenant.project_id())
        .bind(id)
        .fetch_optional(db)
        .await
}

/// The tenant's keys.
pub async fn list(
    db: &mut PgConnection,
    tenant: Tenant,
    wanted: &KeyFilter,
    now: Timestamp,
    page: &PageRequest<id::Key>,
) -> sqlx::Result<Page<StoredKey, id::Key>> {
    let (status, name) = (wanted.status, wanted.name.as_deref().unwrap_or_default());
    // Before the others, so that a key whose expiration is recorded in between is found twice and not missed.
    let unrecorded = match status {
        Some(CredentialStatus::Expired) => list_unrecorded(&mut *db, tenant, name, now, page).await?,
        _ => Vec::new(),
    };
    let columns = concat!(key_columns!(), ", state");
    let key: &[_] = match status {
        Some(_) => &[("project_id", "$3"), ("state", "$4")],
        None => &[("project_id", "$3")],
    };
    let filter = match (status, name) {
        (Some(CredentialStatus::Active), "") => "expires_at IS NULL OR expires_at > $5",
        (Some(CredentialStatus::Active), _) => {
            "(expires_at IS NULL OR expires_at > $5) AND strpos(lower(name), lower($6)) > 0"
        }
        (_, "") => "",
        _ => "strpos(lower(name), lower($6)) > 0",
    };
    let scan = Scan { table: "keys", columns, key, filter, ..Scan::DEFAULT };
    let status = status.map(CredentialStatus::as_str);
    let mut listed =
        scan.page(db, page, |query| query.bind(tenant.project_id()).bind(status).bind(now).bind(name)).await?;
    if !unrecorded.is_empty() {
        listed.items.extend(unrecorded);
        listed.items.sort_unstable_by_key(|key| key.id);
        listed.items.dedup_by_key(|key| key.id);
        if page.order == Order::Desc {
            listed.items.reverse();
        }
        let more = listed.next.is_some() || listed.items.len() > usize::from(page.limit);
        listed.items.truncate(usize::from(page.limit));
        listed.next = listed.items.last().filter(|_| more).map(|key| key.id);
    }
    Ok(listed)
}

/// Reads keys that have expired, but whose expiration is not recorded yet: the cleanup records it within minutes. While
/// it has more to do than this query reads, the list of expired keys is incomplete.
async fn list_unrecorded(
    db: &mut PgConnection,
    tenant: Tenant,
    name: &str,
    now: Timestamp,
    page: &PageRequest<id::Key>,
) -> sqlx::Result<Vec<StoredKey>> {
    let sql = match page.order {
        Order::Asc => unrecorded_keys!("AND id > $1 ORDER BY id"),
        Order::Desc => unrecorded_keys!("AND id < $1 ORDER BY id DESC"),
    };
    sqlx::query_as(sql)
        .bind(page.after)
        .bind(page.rows())
        .bind(tenant.project_id())
        .bind(now)
        .bind(KeyId::FIRST)
        .bind(name)
        .fetch_all(db)
        .await
}

/// Records which keys have expired, so that lists find them by their state. Returns how many.
pub async fn record_expired(db: &mut PgConnection, now: Timestamp) -> sqlx::Result<u64> {
    sqlx::query(
        "UPDATE keys SET expired_at = expires_at WHERE id = ANY (ARRAY(
             SELECT id FROM keys WHERE state = 'active' AND expires_at IS NOT NULL AND expires_at <= $1
             ORDER BY expires_at LIMIT 1000 FOR NO KEY UPDATE SKIP LOCKED))",
    )
    .bind(now.minus(EXPIRATION_DELAY))
    .execute(db)
    .await
    .map(|done| done.rows_affected())
}

/// Stores every member of a key that can change. The caller has locked the key.
pub async fn update(db: &mut PgConnection, tenant: Tenant, key: &StoredKey) -> sqlx::Result<StoredKey> {
    sqlx::query_as(concat!(
        "UPDATE keys SET name = $3, scopes = $4, expires_at = $5, metadata = $6, allowed_ips = $7, rate_limit = $8
         WHERE project_id = $1 AND id = $2 RETURNING ",
        key_columns!()
    ))
    .bind(tenant.project_id())
    .bind(key.id)
    .bind(&key.name)
    .bind(&key.scopes)
    .bind(key.expires_at)
    .bind(&key.metadata)
    .bind(&key.allowed_ips)
    .bind(key.rate_limit)
    .fetch_one(db)
    .await
}

/// Sets the expiration time of one of the tenant's keys.
pub async fn set_expires_at(db: &mut PgConnection, tenant: Tenant, id: KeyId, end: Timestamp) -> sqlx::Result<()> {
    sqlx::query("UPDATE keys SET expires_at = $3 WHERE project_id = $1 AND id = $2")
        .bind(tenant.project_id())
        .bind(id)
        .bind(end)
        .execute(db)
        .await
        .map(drop)
}

/// Adds a secret to one of the tenant's keys, which the caller has locked. All older secrets expire at `previous_end`
/// at the latest.
pub async fn rotate(
    db: &mut PgConnection,
    tenant: Tenant,
    id: KeyId,
    secret: &Secret,
    previous_end: Timestamp,
    now: Timestamp,
) -> sqlx::Result<StoredKey> {
    sqlx::query("UPDATE key_secrets SET expires_at = least(expires_at, $2) WHERE key_id = $1")
        .bind(id)
        .bind(previous_end)
        .execute(&mut *db)
        .await?;
    sqlx::query_as(concat!(
        "WITH secret AS (INSERT INTO key_secrets (secret_hash, key_id, created_at) VALUES ($3, $2, $4))
         UPDATE keys SET hint = $5, previous_expires_at = $6 WHERE project_id = $1 AND id = $2 RETURNING ",
        key_columns!()
    ))
    .bind(tenant.project_id())
    .bind(id)
    .bind(secret.hash())
    .bind(now)
    .bind(secret.hint())
    .bind(previous_end)
    .fetch_one(db)
    .await
}

/// Revokes one of the tenant's keys, and with it every token issued under it. Returns its previous status, or none if
/// there is no such key.
pub async fn revoke(
    db: &mut PgConnection,
    tenant: Tenant,
    id: KeyId,
    now: Timestamp,
) -> sqlx::Result<Option<CredentialStatus>> {
    let before: Option<(Option<Timestamp>, Option<Timestamp>)> = sqlx::query_as(
        "WITH before AS (SELECT id, revoked_at, expires_at FROM keys WHERE id = $1 AND project_id = $2
                         FOR NO KEY UPDATE)
         UPDATE keys k SET revoked_at = coalesce(k.revoked_at, $3) FROM before b
         WHERE k.id = b.id RETURNING b.revoked_at, b.expires_at",
    )
    .bind(id)
    .bind(tenant.project_id())
    .bind(now)
    .fetch_optional(db)
    .await?;
    Ok(before.map(|(revoked_at, expires_at)| CredentialStatus::at(now, revoked_at, expires_at)))
}
