//! Fills in the keys of email addresses ([`EmailKey`]) that an older version stored without a key.

use std::collections::HashMap;

use sqlx::{Connection, PgConnection};

use crate::base::{id::UserId, input::email::EmailKey};

/// Advisory lock that only one server at a time holds to fill in keys.
const LOCK: i64 = 0x6b65_7973_656d_6169;
/// Maximum number of rows per statement.
const BATCH: usize = 5_000;
/// Maximum number of collisions that are logged.
const LOGGED: usize = 20;

/// Sets the key of each account, in one transaction, and logs the accounts whose key another account already has. These
/// accounts keep working: they are found by their own spelling.
pub(super) async fn fill(db: &mut PgConnection) -> sqlx::Result<()> {
    let mut tx = db.begin().await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *tx).await?;
    let mut plan = plan(&mut tx).await?;
    if !plan.free.is_empty() {
        // Prevents other servers from adding an account with one of these keys meanwhile.
        sqlx::query("LOCK TABLE users IN SHARE ROW EXCLUSIVE MODE").execute(&mut *tx).await?;
        plan = self::plan(&mut tx).await?;
        for batch in plan.free.chunks(BATCH) {
            let (ids, keys): (Vec<UserId>, Vec<&str>) = batch.iter().map(|(id, key)| (*id, key.as_str())).unzip();
            sqlx::query(
                "UPDATE users u SET email_key = k.email_key FROM unnest($1::uuid[], $2::text[]) AS k (id, email_key)
                 WHERE u.id = k.id",
            )
            .bind(ids)
            .bind(keys)
            .execute(&mut *tx)
            .await?;
        }
    }
    tx.commit().await?;
    for collision in plan.collisions.iter().take(LOGGED) {
        let Collision { user: (id, email), other: (other_id, other_email) } = collision;
        tracing::warn!(
            user_id = %id, email, other_user_id = %other_id, other_email,
            "two accounts have the same email address in different spellings; each signs in with its own spelling. Decide which account to keep, invite it to the projects of the other, and remove the other from them"
        );
    }
    if plan.collisions.len() > LOGGED {
        tracing::warn!(
            accounts = plan.collisions.len(),
            "more accounts share their email address with another account"
        );
    }
    Ok(())
}

/// Two accounts with the same key. The `other` account has it.
struct Collision {
    user: (UserId, String),
    other: (UserId, String),
}

/// Keys to set, and collisions to log.
#[derive(Default)]
struct Plan {
    free: Vec<(UserId, EmailKey)>,
    collisions: Vec<Collision>,
}

async fn plan(db: &mut PgConnection) -> sqlx::Result<Plan> {
    // Of several accounts with one key, the oldest account that can sign in gets it.
    let missing: Vec<(UserId, String)> =
        sqlx::query_as("SELECT id, email FROM users WHERE email_key IS NULL ORDER BY password_hash IS NULL, id")
            .fetch_all(&mut *db)
            .await?;
    if missing.is_empty() {
        return Ok(Plan::default());
    }
    let missing: Vec<_> = missing.into_iter().map(|(id, email)| (EmailKey::of(&email), id, email)).collect();
    let keys: Vec<&str> = missing.iter().map(|(key, ..)| key.as_str()).collect();
    let taken: Vec<(EmailKey, UserId, String)> =
        sqlx::query_as("SELECT email_key, id, email FROM users WHERE email_key = ANY ($1)")
            .bind(keys)
            .fetch_all(db)
            .await?;
    let mut owners: HashMap<EmailKey, (UserId, String)> =
        taken.into_iter().map(|(key, id, email)| (key, (id, email))).collect();
    let mut plan = Plan::default();
    for (key, id, email) in missing {
        match owners.get(&key) {
            Some(other) => plan.collisions.push(Collision { user: (id, email), other: other.clone() }),
            None => {
                owners.insert(key.clone(), (id, email));
                plan.free.push((id, key));
            }
        }
    }
    Ok(plan)
}
