//! Accounts of users and their passwords, as needed to sign in.

use sqlx::PgConnection;

use crate::base::{
    id::UserId,
    input::email::{Email, EmailKey},
};

/// A user, as needed to sign in.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Account {
    /// User ID.
    pub id: UserId,
    /// Email address.
    pub email: Email,
    /// Argon2id hash in PHC string format, if the user has set a password.
    pub password_hash: Option<String>,
}

/// The user with this email address, in any spelling. An account with exactly this spelling takes precedence: older
/// versions could create two accounts for one address, and each is found by its own spelling.
pub async fn find_by_email(db: &mut PgConnection, email: &str) -> sqlx::Result<Option<Account>> {
    sqlx::query_as(
        "SELECT id, email, password_hash FROM users WHERE email = $1 OR email_key = $2 ORDER BY email = $1 DESC LIMIT 1",
    )
    .bind(Email::normalize(email))
    .bind(EmailKey::of(email))
    .fetch_optional(db)
    .await
}

/// The user with this ID.
pub async fn find(db: &mut PgConnection, id: UserId) -> sqlx::Result<Option<Account>> {
    sqlx::query_as("SELECT id, email, password_hash FROM users WHERE id = $1").bind(id).fetch_optional(db).await
}

/// Sets a user's password.
pub async fn set_password_hash(db: &mut PgConnection, id: UserId, hash: &str) -> sqlx::Result<()> {
    sqlx::query("UPDATE users SET password_hash = $2 WHERE id = $1").bind(id).bind(hash).execute(db).await.map(drop)
}

/// Changes a user's password if it is still `old`. Returns whether it was.
pub async fn replace_password_hash(
    db: &mut PgConnection,
    id: UserId,
    old: Option<&str>,
    new: &str,
) -> sqlx::Result<bool> {
    sqlx::query("UPDATE users SET password_hash = $3 WHERE id = $1 AND password_hash IS NOT DISTINCT FROM $2")
        .bind(id)
        .bind(old)
        .bind(new)
        .execute(db)
        .await
        .map(|done| done.rows_affected() == 1)
}

/// Locks a password that was just verified until the transaction ends. Returns false if it is not `verified_hash` any
/// more. A session that is created in the same transaction is therefore seen, and ended, by a later change of the
/// password. Stores `upgrade`, a stronger hash of the same password, if there is one.
pub async fn lock_password_hash(
    db: &mut PgConnection,
    id: UserId,
    verified_hash: Option<&str>,
    upgrade: Option<&str>,
) -> sqlx::Result<bool> {
    if let Some(upgrade) = upgrade {
        return replace_password_hash(db, id, verified_hash, upgrade).await;
    }
    sqlx::query("SELECT FROM users WHERE id = $1 AND password_hash IS NOT DISTINCT FROM $2 FOR SHARE")
        .bind(id)
        .bind(verified_hash)
        .fetch_optional(db)
        .await
        .map(|row| row.is_some())
}
