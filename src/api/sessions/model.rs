//! Types of sessions, and the shapes of requests and responses.

use std::time::Duration;

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::{
    audit::model::Audited,
    base::{
        etag::{EntityTag, Versioned},
        id::{SessionId, UserId},
        identity::secret::Secret,
        input::{email::Email, schema::input},
        runtime::clock::Timestamp,
    },
};

/// Maximum lifetime of a session.
pub const LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);
/// Request to sign in.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    /// Email address of the user.
    #[schemars(length(max = 254), example = "ada@example.com")]
    pub email: String,
    /// Password of the user.
    #[schemars(
        with = "String",
        length(max = 1024),
        extend("format" = "password"),
        example = "correct horse battery staple"
    )]
    pub password: SecretString,
}

input!(SignIn);

/// A session, without its secret.
#[derive(Clone, Debug, Serialize, JsonSchema, sqlx::FromRow)]
#[schemars(rename = "Session")]
pub struct SessionView {
    /// Session ID.
    pub id: SessionId,
    /// Sign-in time.
    pub created_at: Timestamp,
    /// Expiration time. The session ends earlier after 12 hours without a request.
    pub expires_at: Timestamp,
    /// Time of the last use, to the minute. null if the session was not used since it was created.
    pub last_used_at: Option<Timestamp>,
}

impl Audited for SessionView {}

impl Versioned for SessionView {
    fn etag(&self) -> EntityTag {
        EntityTag::of(self, &["last_used_at"])
    }
}

/// User of a session.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct SessionUser {
    /// User ID.
    pub id: UserId,
    /// Email address of the user.
    pub email: Email,
}

/// A new session, with its secret.
#[derive(Debug, Serialize, JsonSchema)]
pub struct IssuedSession {
    /// Session ID.
    pub id: SessionId,
    /// Secret to send as `Authorization: Bearer`. Shown only once.
    pub token: Secret,
    /// User of the session.
    pub user: SessionUser,
    /// Sign-in time.
    pub created_at: Timestamp,
    /// Expiration time. The session ends earlier after 12 hours without a request.
    pub expires_at: Timestamp,
    /// Always null, because the session was not used yet.
    pub last_used_at: Option<Timestamp>,
}

impl Versioned for IssuedSession {
    fn etag(&self) -> EntityTag {
        self.view().etag()
    }
}

impl IssuedSession {
    /// The session without its secret.
    pub fn view(&self) -> SessionView {
        let Self { id, created_at, expires_at, last_used_at, .. } = *self;
        SessionView { id, created_at, expires_at, last_used_at }
    }
}

/// Result of revoking a session, also if it was revoked before.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RevokedSession {
    /// Session ID.
    pub id: SessionId,
    /// Always true.
    #[schemars(extend("const" = true))]
    pub revoked: bool,
}
