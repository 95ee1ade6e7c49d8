//! SQL for sessions.

use sqlx::PgConnection;

use super::model::{IssuedSession, LIFETIME, SessionUser, SessionView};
use crate::{
    auth::credentials::sessions::IDLE_TIMEOUT,
    base::{
        id::{self, SessionId, UserId},
        identity::{
            credential::CredentialStatus,
            secret::{Secret, SecretKind},
        },
        input::{
            email::Email,
            page::{Page, PageRequest},
        },
        runtime::clock::Timestamp,
    },
    db::lists::scan::Scan,
};

/// Creates a session for an authenticated user.
pub async fn issue(db: &mut PgConnection, user: UserId, email: Email, now: Timestamp) -> sqlx::Result<IssuedSession> {
    let token = Secret::generate(SecretKind::Session);
    let (id, expires_at) = (SessionId::new(), now.plus(LIFETIME));
    sqlx::query("INSERT INTO sessions (id, user_id, secret_hash, created_at, expires_at) VALUES ($1, $2, $3, $4, $5)")
        .bind(id)
        .bind(user)
        .bind(token.hash())
        .bind(now)
        .bind(expires_at)
        .execute(db)
        .await?;
    Ok(IssuedSession {
        id,
        token,
        user: SessionUser { id: user, email },
        created_at: now,
        expires_at,
        last_used_at: None,
    })
}

/// Revokes all of a user's sessions except one. Returns the number of valid sessions that it revoked.
pub async fn revoke_others(
    db: &mut PgConnection,
    user: UserId,
    except: SessionId,
    now: Timestamp,
) -> sqlx::Result<u64> {
    sqlx::query(
        "UPDATE sessions SET revoked_at = $3
         WHERE user_id = $1 AND id <> $2
           AND revoked_at IS NULL AND expires_at > $3 AND greatest(created_at, last_used_at) + $4 > $3",
    )
    .bind(user)
    .bind(except)
    .bind(now)
    .bind(IDLE_TIMEOUT)
    .execute(db)
    .await
    .map(|done| done.rows_affected())
}

/// A user's valid sessions.
pub async fn list_active(
    db: &mut PgConnection,
    user: UserId,
    now: Timestamp,
    page: &PageRequest<id::Session>,
) -> sqlx::Result<Page<SessionView, id::Session>> {
    let scan = Scan {
        table: "sessions",
        columns: "user_id, id, created_at, expires_at, last_used_at, revoked_at",
        key: &[("user_id", "$3")],
        filter: "revoked_at IS NULL AND expires_at > $4 AND greatest(created_at, last_used_at) + $5 > $4",
        ..Scan::DEFAULT
    };
    scan.page(db, page, |query| query.bind(user).bind(now).bind(IDLE_TIMEOUT)).await
}

/// One of a user's sessions, unless it was revoked.
pub async fn get_unrevoked(db: &mut PgConnection, user: UserId, id: SessionId) -> sqlx::Result<Option<SessionView>> {
    sqlx::query_as(
        "SELECT id, created_at, expires_at, last_used_at FROM sessions
         WHERE id = $1 AND user_id = $2 AND revoked_at IS NULL",
    )
    .bind(id)
    .bind(user)
    .fetch_optional(db)
    .await
}

/// Revokes one of a user's sessions. Returns its previous status, or none if there is no such session.
pub async fn revoke(
    db: &mut PgConnection,
    user: UserId,
    id: SessionId,
    now: Timestamp,
) -> sqlx::Result<Option<CredentialStatus>> {
    let before: Option<(Option<Timestamp>, Timestamp)> = sqlx::query_as(
        "WITH before AS (SELECT id, revoked_at, expires_at FROM sessions WHERE id = $1 AND user_id = $2 FOR UPDATE)
         UPDATE sessions s SET revoked_at = coalesce(s.revoked_at, $3) FROM before b
         WHERE s.id = b.id RETURNING b.revoked_at, b.expires_at",
    )
    .bind(id)
    .bind(user)
    .bind(now)
    .fetch_optional(db)
    .await?;
    Ok(before.map(|(revoked_at, expires_at)| CredentialStatus::at(now, revoked_at, Some(expires_at))))
}
