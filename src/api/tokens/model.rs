//! Types of tokens, and the shapes of requests and responses.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    audit::model::Audited,
    base::{
        etag::{EntityTag, Versioned},
        id::{ProjectId, TokenId},
        identity::{
            credential::CredentialStatus,
            scope::{Scope, ScopeSet},
            secret::Secret,
        },
        input::{page::ListQuery, schema::input, text::NO_CONTROL_CHARACTERS},
        runtime::clock::Timestamp,
    },
};

/// Default lifetime of a token: 90 days, in seconds.
pub const DEFAULT_LIFETIME_SECONDS: u32 = 90 * 24 * 3600;
/// Maximum depth of a token below the key or member at the start of its chain.
pub const MAX_DEPTH: i16 = 8;

/// Request to create a token.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// Project of the token. Required with a session.
    pub project_id: Option<ProjectId>,
    /// Human-readable name.
    #[schemars(length(min = 1, max = 100), regex(pattern = NO_CONTROL_CHARACTERS), example = "ci-token")]
    pub name: String,
    /// Scopes of the token, at most your own.
    #[schemars(length(min = 1, max = 32), extend("uniqueItems" = true))]
    pub scopes: Vec<Scope>,
    /// Lifetime in seconds. Default: 90 days, or until your own credential expires if that is earlier.
    #[schemars(range(min = 60, max = 31_536_000))]
    pub expires_in: Option<u32>,
}

/// Filter of the list of tokens.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct TokenFilter {
    /// Project of the tokens. Required with a session, because its user can be in several projects.
    pub project_id: Option<String>,
    /// Only tokens whose name contains this text, in upper or lower case.
    #[schemars(length(min = 1, max = 100), regex(pattern = NO_CONTROL_CHARACTERS), example = &"ci-")]
    pub name: Option<String>,
}

input!(NewToken, ListQuery<TokenFilter>);

/// A token as stored in the database.
#[derive(Debug, sqlx::FromRow)]
pub struct StoredToken {
    /// Token ID.
    pub id: TokenId,
    /// Project of the token.
    pub project_id: ProjectId,
    /// First characters of the secret.
    pub hint: String,
    /// Human-readable name.
    pub name: String,
    /// Scopes of the token. Effective only as far as its issuer has them.
    pub scopes: Vec<String>,
    /// Creation time.
    pub created_at: Timestamp,
    /// When the token ends or has ended.
    #[sqlx(flatten)]
    pub ends: TokenEnds,
    /// Time of the last use, to the minute.
    pub last_used_at: Option<Timestamp>,
}

/// The times that decide whether a token has ended.
#[derive(Debug, sqlx::FromRow)]
pub struct TokenEnds {
    /// Expiration time.
    pub expires_at: Timestamp,
    /// Time when the token itself was revoked.
    pub revoked_at: Option<Timestamp>,
    /// Time when the first of the issuers expires. [`Timestamp::EARLIEST`] if one was revoked or is missing.
    pub issuers_end_at: Option<Timestamp>,
}

impl TokenEnds {
    /// Status of the token at `now`. A token ends with its issuers.
    pub fn status(&self, now: Timestamp) -> CredentialStatus {
        let issuer_revoked_at = self.issuers_end_at.filter(|end| *end == Timestamp::EARLIEST);
        let first_end = self.issuers_end_at.map_or(self.expires_at, |end| end.min(self.expires_at));
        CredentialStatus::at(now, self.revoked_at.or(issuer_revoked_at), Some(first_end))
    }
}

/// A token, without its secret.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(rename = "Token")]
pub struct TokenView {
    /// Token ID.
    pub id: TokenId,
    /// Scopes of the token. Effective only as far as its issuer still has them.
    pub scopes: ScopeSet,
    /// Human-readable name.
    pub name: String,
    /// Project of the token.
    pub project_id: ProjectId,
    /// First characters of the secret.
    pub hint: String,
    /// Status of the token.
    pub status: CredentialStatus,
    /// Creation time.
    pub created_at: Timestamp,
    /// Expiration time.
    pub expires_at: Timestamp,
    /// Time of the last use, to the minute. null if the token was never used.
    pub last_used_at: Option<Timestamp>,
}

impl Audited for TokenView {}

impl Versioned for TokenView {
    fn etag(&self) -> EntityTag {
        EntityTag::of(self, &["last_used_at"])
    }
}

impl TokenView {
    /// The view of `token` at `now`.
    pub fn new(token: StoredToken, now: Timestamp) -> Self {
        Self {
            id: token.id,
            scopes: ScopeSet::from_texts(&token.scopes),
            name: token.name,
            project_id: token.project_id,
            hint: token.hint,
            status: token.ends.status(now),
            created_at: token.created_at,
            expires_at: token.ends.expires_at,
            last_used_at: token.last_used_at,
        }
    }
}

/// A new token, with its secret.
#[derive(Debug, Serialize, JsonSchema)]
pub struct IssuedToken {
    /// Secret to send as `Authorization: Bearer`. Shown only once.
    pub token: Secret,
    /// The token.
    #[serde(flatten)]
    pub view: TokenView,
}

impl Versioned for IssuedToken {
    fn etag(&self) -> EntityTag {
        self.view.etag()
    }
}

/// Result of revoking a token, also if it was revoked before.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RevokedToken {
    /// Token ID.
    pub id: TokenId,
    /// Always true.
    #[schemars(extend("const" = true))]
    pub revoked: bool,
}
