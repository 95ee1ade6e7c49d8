//! Types of sessions, and the shapes of requests and responses.

use std::{ops::Deref, time::Duration};

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::{
    audit::model::Audited,
    auth::credentials::sessions::SessionKind,
    base::{
        error::{Error, ItemCode, Result},
        etag::{EntityTag, Versioned},
        id::{SessionId, UserId},
        identity::secret::Secret,
        input::{email::Email, schema::input, text::NO_CONTROL_CHARACTERS},
        runtime::clock::Timestamp,
    },
};

/// Maximum lifetime of a session.
pub const LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// Request to sign in: with an email address and a password, or with a sign-in link.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("anyOf" = [{ "required": ["email", "password"] }, { "required": ["sign_in_link"] }]))]
pub struct SignIn {
    /// Email address of the user.
    #[schemars(length(max = 254), example = "ada@example.com")]
    pub email: Option<String>,
    /// Password of the user.
    #[schemars(
        with = "Option<String>",
        length(max = 1024),
        extend("format" = "password"),
        example = "correct horse battery staple"
    )]
    pub password: Option<SecretString>,
    /// Secret of a sign-in link, `lnk_…`, instead of an email address and a password. It works once, within 60 minutes.
    #[schemars(with = "Option<String>", regex(pattern = LINK), extend("writeOnly" = true, "x-form" = LINK_FORM))]
    pub sign_in_link: Option<SecretString>,
    /// New password, with a sign-in link only. Common passwords are rejected.
    #[schemars(with = "Option<String>", length(min = 12, max = 128), regex(pattern = NO_CONTROL_CHARACTERS), extend("format" = "password", "writeOnly" = true))]
    pub new_password: Option<SecretString>,
}

/// Pattern of the secret of a sign-in link.
pub const LINK: &str = "^lnk_[0-9A-Za-z]{49}$";
/// Describes [`LINK`], for error messages.
pub const LINK_FORM: &str = "the secret of a sign-in link, which is lnk_ and 49 letters and digits; copy it completely";

/// What a user signs in with.
#[derive(Debug)]
pub enum SignInProof {
    /// Email address and password.
    Password {
        /// Email address.
        email: String,
        /// Password.
        password: SecretString,
    },
    /// Secret of a sign-in link, and the new password to set, if any.
    Link(SecretString, Option<SecretString>),
}

impl SignIn {
    /// What the user signs in with.
    pub fn proof(self) -> Result<SignInProof> {
        match (self.email, self.password, self.sign_in_link) {
            (Some(email), Some(password), None) if self.new_password.is_none() => {
                Ok(SignInProof::Password { email, password })
            }
            (None, None, Some(link)) => Ok(SignInProof::Link(link, self.new_password)),
            (Some(_), Some(_), None) => Err(Error::invalid_member(
                "/new_password",
                ItemCode::InvalidFormat,
                "can be sent only with 'sign_in_link'; change the password with POST /v1/users/me/password",
            )),
            _ => Err(Error::invalid_member(
                "/sign_in_link",
                ItemCode::InvalidFormat,
                "cannot be combined with 'email' or 'password'; send either the link or both of them",
            )),
        }
    }
}

/// Request to confirm that the session's user is present: with the password, or with a sign-in link.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("anyOf" = [{ "required": ["password"] }, { "required": ["sign_in_link"] }]))]
pub struct Reauthentication {
    /// Password of the session's user.
    #[schemars(
        with = "Option<String>",
        length(max = 1024),
        extend("format" = "password", "writeOnly" = true),
        example = "correct horse battery staple"
    )]
    pub password: Option<SecretString>,
    /// Secret of a sign-in link of the session's user, `lnk_…`, instead of the password.
    #[schemars(with = "Option<String>", regex(pattern = LINK), extend("writeOnly" = true, "x-form" = LINK_FORM))]
    pub sign_in_link: Option<SecretString>,
}

/// Proof that the session's user is present.
#[derive(Debug)]
pub enum ReauthenticationProof {
    /// Password.
    Password(SecretString),
    /// Secret of a sign-in link.
    Link(SecretString),
}

impl Reauthentication {
    /// Proof that the session's user is present.
    pub fn proof(self) -> Result<ReauthenticationProof> {
        match (self.password, self.sign_in_link) {
            (Some(password), None) => Ok(ReauthenticationProof::Password(password)),
            (None, Some(link)) => Ok(ReauthenticationProof::Link(link)),
            _ => Err(Error::invalid_member(
                "/sign_in_link",
                ItemCode::InvalidFormat,
                "cannot be combined with 'password'; send one of them",
            )),
        }
    }
}

input!(SignIn, Reauthentication);

/// A session, without its secret.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, sqlx::FromRow)]
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
