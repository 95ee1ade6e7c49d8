//! Types of tokens, and the shapes of requests and responses.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::{FromRow, Row, postgres::PgRow};

use crate::{
    audit::model::Audited,
    base::{
        etag::{EntityTag, Versioned},
        id::{KeyId, ProjectId, TokenId, UserId},
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

const ISSUER: &str = "^(key|tok|usr)_[1-9a-f][0-9a-f]{0,31}$";
const ISSUER_FORM: &str = "the id of a key, a token or a user";

/// Filter of the list of tokens.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct TokenFilter {
    /// Project of the tokens. Required with a session, because its user can be in several projects.
    pub project_id: Option<String>,
    /// Only tokens with this status.
    pub status: Option<CredentialStatus>,
    /// Only tokens that this key, token or user has issued.
    #[schemars(regex(pattern = ISSUER), extend("x-form" = ISSUER_FORM), example = &"key_7d1")]
    pub issuer: Option<String>,
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
    /// Issuer of the token.
    #[sqlx(flatten)]
    pub issuer: Issuer,
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

/// Issuer of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Issuer {
    /// A key.
    Key(KeyId),
    /// Another token.
    Token(TokenId),
    /// A member of the token's project.
    Member(UserId),
}

impl Issuer {
    /// The issuer with this ID, if it is the ID of a key, a token or a user.
    pub fn parse(id: &str) -> Option<Self> {
        let key = || id.parse().ok().map(Self::Key);
        let token = || id.parse().ok().map(Self::Token);
        key().or_else(token).or_else(|| id.parse().ok().map(Self::Member))
    }
}

impl<'r> FromRow<'r, PgRow> for Issuer {
    fn from_row(row: &'r PgRow) -> sqlx::Result<Self> {
        let key: Option<KeyId> = row.try_get("issuer_key_id")?;
        let token: Option<TokenId> = row.try_get("issuer_token_id")?;
        match (key, token) {
            (Some(key), _) => Ok(Self::Key(key)),
            (None, Some(token)) => Ok(Self::Token(token)),
            (None, None) => row.try_get("issuer_user_id").map(Self::Member),
        }
    }
}

/// Type of a token's issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum IssuerType {
    /// Key.
    Key,
    /// Token.
    Token,
    /// User with a session.
    User,
}

/// Issuer of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenIssuer {
    /// ID of the key, token or user.
    pub id: String,
    /// Type of the issuer.
    #[serde(rename = "type")]
    pub kind: IssuerType,
}

impl From<Issuer> for TokenIssuer {
    fn from(issuer: Issuer) -> Self {
        let (id, kind) = match issuer {
            Issuer::Key(id) => (id.to_string(), IssuerType::Key),
            Issuer::Token(id) => (id.to_string(), IssuerType::Token),
            Issuer::Member(id) => (id.to_string(), IssuerType::User),
        };
        Self { id, kind }
    }
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
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
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
    /// Issuer of the token, on which its access and its lifetime depend.
    pub issuer: TokenIssuer,
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
            issuer: token.issuer.into(),
            hint: token.hint,
            status: token.ends.status(now),
            created_at: token.created_at,
            expires_at: token.ends.expires_at,
            last_used_at: token.last_used_at,
        }
    }
}

/// A new token, with its secret.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
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
