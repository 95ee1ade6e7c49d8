//! What a session is, to the server and to clients.

use std::time::Duration;

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::{
    audit::model::Audited,
    base::{
        clock::Timestamp,
        email::Email,
        etag::{EntityTag, Versioned},
        id::{SessionId, UserId},
        schema::input,
        secret::Secret,
    },
};

/// How long a session lasts at most.
pub const LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long it lasts without a request: 12 hours. Last uses are noted to the minute, so a minute more, or
/// some would end early.
pub const IDLE: Duration = Duration::from_secs(12 * 3600 + 60);

/// Who signs in.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    /// The user's e-mail address.
    #[schemars(length(max = 254), example = "ada@example.com")]
    pub email: String,
    /// Their password.
    #[schemars(
        with = "String",
        length(max = 1024),
        extend("format" = "password"),
        example = "correct horse battery staple"
    )]
    pub password: SecretString,
}

input!(SignIn);

/// A session as it is shown, without its secret.
#[derive(Clone, Debug, Serialize, JsonSchema, sqlx::FromRow)]
#[schemars(rename = "Session")]
pub struct SessionView {
    /// The session's id.
    pub id: SessionId,
    /// When its user signed in.
    pub created_at: Timestamp,
    /// When it ends at the latest; 12 hours without a request end it sooner.
    pub expires_at: Timestamp,
    /// When it was last used, to the minute; null if not since it was made.
    pub last_used_at: Option<Timestamp>,
}

impl Audited for SessionView {}

impl Versioned for SessionView {
    fn etag(&self) -> EntityTag {
        EntityTag::of(self, &["last_used_at"])
    }
}

/// Who a session speaks for.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct SessionUser {
    /// The user's id.
    pub id: UserId,
    /// Their e-mail address.
    pub email: Email,
}

/// A session as it is given to its user, once, with its secret.
#[derive(Debug, Serialize, JsonSchema)]
pub struct IssuedSession {
    /// The session's id.
    pub id: SessionId,
    /// The secret to send as `Authorization: Bearer`. Shown this once.
    pub token: Secret,
    /// Who it speaks for.
    pub user: SessionUser,
    /// When the user signed in.
    pub created_at: Timestamp,
    /// When it ends at the latest; 12 hours without a request end it sooner.
    pub expires_at: Timestamp,
    /// Null: it has not been used yet.
    pub last_used_at: Option<Timestamp>,
}

impl Versioned for IssuedSession {
    fn etag(&self) -> EntityTag {
        self.view().etag()
    }
}

impl IssuedSession {
    /// As it is shown from then on.
    pub fn view(&self) -> SessionView {
        let Self { id, created_at, expires_at, last_used_at, .. } = *self;
        SessionView { id, created_at, expires_at, last_used_at }
    }
}

/// What ending a session answers, however often it is asked.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RevokedSession {
    /// The session's id.
    pub id: SessionId,
    /// Always true.
    #[schemars(extend("const" = true))]
    pub revoked: bool,
}
