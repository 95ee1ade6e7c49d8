//! Sessions, as needed to authenticate them.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use crate::{
    base::{
        id::{SessionId, UserId},
        identity::secret::{SecretHash, SecretKind},
        runtime::clock::Timestamp,
    },
    db::Stamped,
};

/// Idle timeout of a session: 12 hours. One more minute, because the time of the last use is stored to the minute and
/// sessions must not end early.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(12 * 3600 + 60);

/// Kind of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
#[schemars(inline)]
pub enum SessionKind {
    /// Session of an API client, such as the backend of a dashboard.
    #[default]
    Api,
    /// Session of the console, in a browser.
    Console,
}

impl SessionKind {
    /// Kind of the secrets of these sessions.
    pub const fn secret_kind(self) -> SecretKind {
        match self {
            Self::Api => SecretKind::Session,
            Self::Console => SecretKind::Console,
        }
    }
}

/// A session as stored in the database, with everything that decides whether it is valid.
#[derive(Debug, sqlx::FromRow)]
pub struct StoredSession {
    /// Session ID.
    pub id: SessionId,
    /// User of the session.
    pub user_id: UserId,
    /// Kind of the session.
    pub kind: SessionKind,
    /// When the user last proved who they are.
    pub authenticated_at: Timestamp,
    /// Creation time.
    pub created_at: Timestamp,
    /// Expiration time.
    pub expires_at: Timestamp,
    /// Revocation time.
    pub revoked_at: Option<Timestamp>,
    /// Time of the last use, to the minute.
    pub last_used_at: Option<Timestamp>,
}

impl StoredSession {
    /// Time when the session ends if it is not used any more. `list_active` and `revoke_others` in
    /// `api::sessions::repo` have the same rule in SQL.
    pub fn idle_expires_at(&self) -> Timestamp {
        self.last_used_at.map_or(self.created_at, |used| used.max(self.created_at)).plus(IDLE_TIMEOUT)
    }
}

/// The session with this secret, valid or not.
pub async fn find_by_secret(
    db: &mut PgConnection,
    secret: &SecretHash,
) -> sqlx::Result<Stamped<Option<StoredSession>>> {
    sqlx::query_as(
        "SELECT a.seq AS auth_seq, auth_server() AS auth_server, s.id IS NOT NULL AS is_found,
                s.id, s.user_id, s.kind, coalesce(s.authenticated_at, s.created_at) AS authenticated_at, s.created_at,
                s.expires_at, s.revoked_at, s.last_used_at
         FROM auth_clock a LEFT JOIN sessions s ON s.secret_hash = $1",
    )
    .bind(secret)
    .fetch_one(db)
    .await
}
