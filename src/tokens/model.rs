//! What a token is, to the server and to clients.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    audit::model::Audited,
    base::{
        clock::Timestamp,
        credential::CredentialStatus,
        etag::{EntityTag, Versioned},
        id::{ProjectId, TokenId},
        schema::input,
        scope::{Scope, ScopeSet},
        secret::Secret,
        text::NO_CONTROL_CHARACTERS,
    },
};

/// The lifetime of a token that was made without naming one: 90 days, in seconds.
pub const DEFAULT_LIFETIME_SECONDS: u32 = 90 * 24 * 3600;
/// How many tokens deep a token may hang below the key or session it began with.
pub const MAX_DEPTH: i16 = 8;

/// What a new token shall be.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// The project; needed with a session.
    pub project_id: Option<ProjectId>,
    /// What people call it.
    #[schemars(length(min = 1, max = 100), regex(pattern = NO_CONTROL_CHARACTERS), example = "ci-token")]
    pub name: String,
    /// What it may do, at most what you may.
    #[schemars(length(min = 1, max = 32), extend("uniqueItems" = true))]
    pub scopes: Vec<Scope>,
    /// How many seconds it lasts; 90 days when left out, or until your own credential's end if that
    /// is sooner.
    #[schemars(range(min = 60, max = 31_536_000))]
    pub expires_in: Option<u32>,
}

input!(NewToken);

/// A token as the database has it.
#[derive(Debug, sqlx::FromRow)]
pub struct StoredToken {
    /// The token.
    pub id: TokenId,
    /// Its project.
    pub project_id: ProjectId,
    /// The first characters of its secret.
    pub hint: String,
    /// What people call it.
    pub name: String,
    /// What it may do, as far as its issuer may.
    pub scopes: Vec<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Timestamp,
    /// When it was ended, if it was.
    pub revoked_at: Option<Timestamp>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<Timestamp>,
}

/// A token as it is shown, without its secret.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(rename = "Token")]
pub struct TokenView {
    /// The token's id.
    pub id: TokenId,
    /// What it may do, as far as its issuer still may.
    pub scopes: ScopeSet,
    /// What people call it.
    pub name: String,
    /// The project it belongs to.
    pub project_id: ProjectId,
    /// The first characters of its secret.
    pub hint: String,
    /// Whether it still works.
    pub status: CredentialStatus,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Timestamp,
    /// When it was last used, to the minute; null for never.
    pub last_used_at: Option<Timestamp>,
}

impl Audited for TokenView {}

impl Versioned for TokenView {
    fn etag(&self) -> EntityTag {
        EntityTag::of(self, &["last_used_at"])
    }
}

impl TokenView {
    /// `token` as it stands at `now`.
    pub fn new(token: StoredToken, now: Timestamp) -> Self {
        Self {
            id: token.id,
            scopes: ScopeSet::from_texts(&token.scopes),
            name: token.name,
            project_id: token.project_id,
            hint: token.hint,
            status: CredentialStatus::at(now, token.revoked_at, Some(token.expires_at)),
            created_at: token.created_at,
            expires_at: token.expires_at,
            last_used_at: token.last_used_at,
        }
    }
}

/// A token as it is given to its maker, once, with its secret.
#[derive(Debug, Serialize, JsonSchema)]
pub struct IssuedToken {
    /// The secret to send as `Authorization: Bearer`. Shown this once.
    pub token: Secret,
    /// Everything else about it.
    #[serde(flatten)]
    pub view: TokenView,
}

impl Versioned for IssuedToken {
    fn etag(&self) -> EntityTag {
        self.view.etag()
    }
}

/// What revoking a token answers, however often it is asked.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RevokedToken {
    /// The token's id.
    pub id: TokenId,
    /// Always true.
    #[schemars(extend("const" = true))]
    pub revoked: bool,
}
