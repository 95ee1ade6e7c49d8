//! SQL for sessions.

use std::net::IpAddr;

use sqlx::PgConnection;

use super::model::{IssuedSession, LIFETIME, SessionUser, SessionView};
use crate::{
    audit,
    auth::credentials::sessions::{IDLE_TIMEOUT, SessionKind},
    base::{
        id::{self, SessionId, UserId},
        identity::{credential::CredentialStatus, secret::Secret},
        input::{
            email::Email,
            page::{Page, PageRequest},
        },
        runtime::{clock::Timestamp, request::RequestContext},
    },
    db::lists::scan::Scan,
};

/// Columns of [`SessionView`].
macro_rules! session_columns {
    () => {
        "id, kind, created_at, coalesce(authenticated_at, created_at) AS authenticated_at, expires_at, last_used_at, \
         user_agent, source_ip"
    };
}

/// Client that signs in.
#[derive(Clone, Debug, Default)]
pub struct SessionClient {
    /// Kind of the session that it gets.
    pub kind: SessionKind,
    /// User agent, if any.
    pub user_agent: Option<String>,
    /// Address, if known.
    pub source_ip: Option<IpAddr>,
}

impl SessionClient {
    /// The client that sent `request`.
    pub fn of(request: &RequestContext) -> Self {
        let kind = if request.is_console { SessionKind::Console } else { SessionKind::Api };
        Self { kind, user_agent: audit::model::user_agent(request), source_ip: request.client }
    }
}

/// Creates a session for a user whom the operator has chosen.
pub async fn issue(db: &mut PgConnection, user: UserId, email: Email, now: Timestamp) -> sqlx::Result<IssuedSession> {
    issue_to(db, SessionClient::default(), SessionUser { id: user, email }, now).await
}

/// Creates a session for an authenticated user.
pub async fn issue_to(
    db: &mut PgConnection,
    client: SessionClient,
    user: SessionUser,
    now: Timestamp,
) -> sqlx::Result<IssuedSession> {
    let token = Secret::generate(client.kind.secret_kind());
    let view = SessionView {
        id: SessionId::new(),
        kind: client.kind,
        created_at: now,
        authenticated_at: now,
        expires_at: now.plus(LIFETIME),
        last_used_at: None,
        user_agent: client.user_agent,
        source_ip: client.source_ip.map(|address| address.to_string()),
    };
    sqlx::query(
        "INSERT INTO sessions (id, user_id, secret_hash, kind, created_at, expires_at, user_agent, source_ip)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(view.id)
    .bind(user.id)
    .bind(token.hash())
    .bind(view.kind)
    .bind(view.created_at)
    .bind(view.expires_at)
    .bind(&view.user_agent)
    .bind(&view.source_ip)
    .execute(db)
    .await?;
    Ok(IssuedSession { token, user, view })
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
        columns: "user_id, id, kind, created_at, authenticated_at, expires_at, last_used_at, user_agent, source_ip, revoked_at",
        key: &[("user_id", "$3")],
        item: session_columns!(),
        filter: "revoked_at IS NULL AND expires_at > $4 AND greatest(created_at, last_used_at) + $5 > $4",
        ..Scan::DEFAULT
    };
    scan.page(db, page, |query| query.bind(user).bind(now).bind(IDLE_TIMEOUT)).await
}

/// One of a user's sessions, unless it was revoked.
pub async fn get_unrevoked(db: &mut PgConnection, user: UserId, id: SessionId) -> sqlx::Result<Option<SessionView>> {
    sqlx::query_as(concat!(
        "SELECT ",
        session_columns!(),
        " FROM sessions WHERE id = $1 AND user_id = $2 AND revoked_at IS NULL"
    ))
    .bind(id)
    .bind(user)
    .fetch_optional(db)
    .await
}

/// Records that the user of a session proved who they are. None if the session was revoked.
pub async fn set_authenticated(
    db: &mut PgConnection,
    user: UserId,
    id: SessionId,
    now: Timestamp,
) -> sqlx::Result<Option<SessionView>> {
    sqlx::query_as(concat!(
        "UPDATE sessions SET authenticated_at = $3 WHERE id = $1 AND user_id = $2 AND revoked_at IS NULL RETURNING ",
        session_columns!()
    ))
    .bind(id)
    .bind(user)
    .bind(now)
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
