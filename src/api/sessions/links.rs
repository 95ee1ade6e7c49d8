//! One-time sign-in links. The operator creates them, for users without a password and for the first sign-in. The person
//! who opens the link is signed in as its user, so it works once and not for long, and only its hash is stored.

use std::time::Duration;

use sqlx::PgConnection;

use crate::{
    auth::credentials::accounts::Account,
    base::{
        action::Action,
        id::UserId,
        identity::secret::{Secret, SecretHash, SecretKind},
        runtime::clock::Timestamp,
    },
    tx::Change,
};

/// Lifetime of a link.
pub const LIFETIME: Duration = Duration::from_secs(60 * 60);

/// Address of a link, on the console at `base`. The secret is in a URL, which is why it must be short-lived.
pub fn url(base: &str, secret: &Secret) -> String {
    format!("{base}/console/sign-in?link={}", secret.expose())
}

/// The secret in `text`, if it has the form of a link's.
pub fn parse(text: &str) -> Option<Secret> {
    Secret::parse(text).filter(|secret| secret.kind() == SecretKind::SignInLink)
}

/// The change of a created link.
pub fn created_change(user: UserId) -> Change {
    Change::new(Action::SignInLinkCreated, user, None)
}

/// Creates a link for a user.
pub async fn issue(db: &mut PgConnection, user: UserId, now: Timestamp) -> sqlx::Result<Secret> {
    let secret = Secret::generate(SecretKind::SignInLink);
    sqlx::query("INSERT INTO sign_in_links (secret_hash, user_id, created_at, expires_at) VALUES ($1, $2, $3, $4)")
        .bind(secret.hash())
        .bind(user)
        .bind(now)
        .bind(now.plus(LIFETIME))
        .execute(db)
        .await?;
    Ok(secret)
}

/// The account that a valid link signs in.
pub async fn find_account(db: &mut PgConnection, link: &SecretHash, now: Timestamp) -> sqlx::Result<Option<Account>> {
    sqlx::query_as(
        "SELECT u.id, u.email, u.password_hash FROM sign_in_links l
         CROSS JOIN LATERAL (SELECT id, email, password_hash FROM users WHERE id = l.user_id OFFSET 0) u
         WHERE l.secret_hash = $1 AND l.expires_at > $2",
    )
    .bind(link)
    .bind(now)
    .fetch_optional(db)
    .await
}

/// Uses a link of a user. Returns false if it is not valid any more. Of concurrent uses, the first one that commits gets
/// true: the others wait for it.
pub async fn consume(db: &mut PgConnection, link: &SecretHash, user: UserId, now: Timestamp) -> sqlx::Result<bool> {
    sqlx::query("DELETE FROM sign_in_links WHERE secret_hash = $1 AND user_id = $2 AND expires_at > $3")
        .bind(link)
        .bind(user)
        .bind(now)
        .execute(db)
        .await
        .map(|done| done.rows_affected() == 1)
}

/// Deletes all links of a user.
pub async fn delete_all(db: &mut PgConnection, user: UserId) -> sqlx::Result<()> {
    sqlx::query("DELETE FROM sign_in_links WHERE user_id = $1").bind(user).execute(db).await.map(drop)
}
