//! Types of sessions, and the shapes of requests and responses.

use std::{ops::Deref, time::Duration};

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::{
    audit::model::Audited,
    auth::credentials::sessions::SessionKind,
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
    /// Kind of the session.
    pub kind: SessionKind,
    /// Sign-in time.
    pub created_at: Timestamp,
    /// Time when the user last proved who they are: at the sign-in, or later with
    /// `POST /v1/sessions/current/reauthenticate`.
    pub authenticated_at: Timestamp,
    /// Expiration time. The session ends earlier after 12 hours without a request.
    pub expires_at: Timestamp,
    /// Time of the last use, to the minute. null if the session was not used since it was created.
    pub last_used_at: Option<Timestamp>,
    /// User agent of the client that signed in. null for a session that the operator created.
    pub user_agent: Option<String>,
    /// Address of the client that signed in. null for a session that the operator created.
    pub source_ip: Option<String>,
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
    /// Secret to send as `Authorization: Bearer`. Shown only once.
    pub token: Secret,
    /// User of the session.
    pub user: SessionUser,
    /// The session.
    #[serde(flatten)]
    pub view: SessionView,
}

impl Versioned for IssuedSession {
    fn etag(&self) -> EntityTag {
        self.view.etag()
    }
}

impl Deref for IssuedSession {
    type Target = SessionView;

    fn deref(&self) -> &SessionView {
        &self.view
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
