//! What a key is, to the server and to clients.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::types::Json;

use crate::base::{
    clock::Timestamp,
    credential::CredentialStatus,
    id::{KeyId, ProjectId, UserId},
    metadata::Metadata,
    schema::input,
    scope::{Scope, ScopeSet},
    secret::Secret,
    text::NO_CONTROL_CHARACTERS,
};

/// `POST /v1/keys`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// The project the key is for.
    pub project_id: ProjectId,
    /// What people call it; empty when left out.
    #[schemars(length(max = 100), regex(pattern = NO_CONTROL_CHARACTERS), example = "billing service")]
    pub name: Option<String>,
    /// What it may do, at most what you may. When left out: everything that ends in `:read`,
    /// `tokens:write`, `tokens:introspect` and `keys:write`, as far as you have them.
    #[schemars(length(min = 1, max = 32), extend("uniqueItems" = true))]
    pub scopes: Option<Vec<Scope>>,
    /// When it ends by itself, which must be later than now; never when left out.
    #[schemars(example = "2099-12-31T23:59:59Z")]
    pub expires_at: Option<Timestamp>,
    /// Your own notes on it; none when left out.
    pub metadata: Option<Metadata>,
}

input!(NewKey);

/// The scopes of a key that was made without naming any.
pub fn default_scopes() -> ScopeSet {
    let wanted = |scope: &Scope| {
        scope.is_read() || matches!(scope, Scope::TokensWrite | Scope::TokensIntrospect | Scope::KeysWrite)
    };
    Scope::ALL.iter().copied().filter(wanted).collect()
}

/// A key as the database has it.
#[derive(Debug, sqlx::FromRow)]
pub struct StoredKey {
    /// The key.
    pub id: KeyId,
    /// Its project.
    pub project_id: ProjectId,
    /// What people call it.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<String>,
    /// The first characters of its secret.
    pub hint: String,
    /// Its maker's notes on it.
    pub metadata: Json<Metadata>,
    /// Who made it.
    pub created_by: Option<UserId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// When it was ended, if it was.
    pub revoked_at: Option<Timestamp>,
}

/// A key as it is shown, without its secret.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(rename = "Key")]
pub struct KeyView {
    /// The key's id.
    pub id: KeyId,
    /// The project it belongs to.
    pub project_id: ProjectId,
    /// What people call it.
    pub name: String,
    /// What it may do.
    pub scopes: ScopeSet,
    /// The first characters of its secret.
    pub hint: String,
    /// Whether it still works.
    pub status: CredentialStatus,
    /// Your own notes on it.
    pub metadata: Metadata,
    /// Who made it; null when that was the operator.
    pub created_by: Option<UserId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends by itself; null for never.
    pub expires_at: Option<Timestamp>,
}

impl KeyView {
    /// `key` as it stands at `now`.
    pub fn new(key: StoredKey, now: Timestamp) -> Self {
        Self {
            id: key.id,
            project_id: key.project_id,
            name: key.name,
            scopes: ScopeSet::from_texts(&key.scopes),
            hint: key.hint,
            status: CredentialStatus::at(now, key.revoked_at, key.expires_at),
            metadata: key.metadata.0,
            created_by: key.created_by,
            created_at: key.created_at,
            expires_at: key.expires_at,
        }
    }
}

/// A key as it is given to its maker, once, with its secret.
#[derive(Debug, Serialize, JsonSchema)]
pub struct IssuedKey {
    /// The secret to send as `Authorization: Bearer`. Shown this once.
    pub key: Secret,
    /// Everything else about it.
    #[serde(flatten)]
    pub view: KeyView,
}

/// What revoking a key answers, however often it is asked.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RevokedKey {
    /// The key's id.
    pub id: KeyId,
    /// Always true.
    pub revoked: bool,
}
