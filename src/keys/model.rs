//! What a key is, to the server and to clients.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::types::Json;

use crate::{
    audit::model::Audited,
    base::{
        clock::Timestamp,
        credential::CredentialStatus,
        etag::{EntityTag, Versioned},
        id::{KeyId, ProjectId, UserId},
        limit::RateLimit,
        metadata::Metadata,
        net::Cidr,
        page::ListQuery,
        patch::{Patch, Replace},
        schema::{input, patch},
        scope::{Scope, ScopeSet},
        secret::Secret,
        tenant::ProjectStatus,
        text::NO_CONTROL_CHARACTERS,
    },
};

/// What a new key shall be.
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
    /// The networks that it, and what is issued under it, may be used from; everywhere when left out or empty.
    #[schemars(length(max = 64))]
    pub allowed_ips: Option<Vec<Cidr>>,
    /// How often it, and what is issued under it, may be used; as the operator says when left out.
    pub rate_limit: Option<RateLimit>,
    /// Your own notes on it; none when left out.
    pub metadata: Option<Metadata>,
}

/// What changes; what is left out stays as it is.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KeyPatch {
    /// What people call it; null for nothing.
    #[schemars(length(max = 100), regex(pattern = NO_CONTROL_CHARACTERS), example = "billing service")]
    pub name: Patch<String>,
    /// What it may do, at most what you may. What its tokens may do shrinks with it.
    #[schemars(length(min = 1, max = 32), extend("uniqueItems" = true))]
    pub scopes: Replace<Vec<Scope>>,
    /// When it ends by itself; null for never.
    pub expires_at: Patch<Timestamp>,
    /// The networks that it, and what is issued under it, may be used from; everywhere when empty or null.
    #[schemars(length(max = 64))]
    pub allowed_ips: Patch<Vec<Cidr>>,
    /// How often it, and what is issued under it, may be used; null for as often as the operator says.
    pub rate_limit: Patch<RateLimit>,
    /// Your own notes on it; these take the place of all earlier ones, and null removes them.
    pub metadata: Patch<Metadata>,
}

/// How long an old secret works beside the new one when nothing else is said: a day, in seconds.
pub const DEFAULT_OVERLAP_SECONDS: u32 = 24 * 3600;
/// The least overlap for a key that rotates itself, so that a lost answer does not lock it out.
pub const SELF_OVERLAP_SECONDS: u32 = 300;

/// How to rotate a key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// How many seconds the old secret goes on working; a day when left out. 0 ends every older secret at
    /// once. A key that rotates itself: at least 300.
    #[schemars(range(max = 604_800))]
    pub overlap_seconds: Option<u32>,
}

/// The filter of the list of keys.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct KeyFilter {
    /// The project; needed with a session, whose user may see several.
    pub project_id: Option<String>,
    /// Only keys that stand so.
    pub status: Option<CredentialStatus>,
}

patch!(KeyPatch);
input!(NewKey, Rotation, ListQuery<KeyFilter>);

/// The scopes of a key that was made without naming any.
pub fn default_scopes() -> ScopeSet {
    let wanted = |scope: &Scope| {
        scope.is_read() || matches!(scope, Scope::TokensWrite | Scope::TokensIntrospect | Scope::KeysWrite)
    };
    Scope::ALL.iter().copied().filter(wanted).collect()
}

/// A key as the database has it.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct StoredKey {
    /// The key.
    pub id: KeyId,
    /// Its project.
    pub project_id: ProjectId,
    /// What people call it.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<String>,
    /// The first characters of its newest secret.
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
    /// When the secret before the newest stops working.
    pub previous_expires_at: Option<Timestamp>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<Timestamp>,
    /// The networks it may be used from; none for all.
    pub allowed_ips: Vec<String>,
    /// How often it may be used.
    pub rate_limit: Option<Json<RateLimit>>,
}

/// A key with what decides over one of its secrets.
#[derive(Debug, sqlx::FromRow)]
pub struct PresentedKey {
    /// The key.
    pub id: KeyId,
    /// Its project.
    pub project_id: ProjectId,
    /// How the project stands.
    pub project_status: ProjectStatus,
    /// What it may do.
    pub scopes: Vec<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// When it was ended, if it was.
    pub revoked_at: Option<Timestamp>,
    /// When this secret stops working, if another has taken its place.
    pub secret_expires_at: Option<Timestamp>,
    /// The networks it may be used from; none for all.
    pub allowed_ips: Vec<String>,
    /// How often it may be used.
    pub rate_limit: Option<Json<RateLimit>>,
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
    /// The first characters of its newest secret.
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
    /// After a rotation, when the secret before the newest stops working; null before any.
    pub previous_expires_at: Option<Timestamp>,
    /// When it was last used, to the minute; null for never.
    pub last_used_at: Option<Timestamp>,
    /// The networks that it, and what is issued under it, may be used from; empty for everywhere.
    pub allowed_ips: Vec<Cidr>,
    /// How often it, and what is issued under it, may be used; null for what the operator says.
    pub rate_limit: Option<RateLimit>,
}

impl Audited for KeyView {}

impl Versioned for KeyView {
    fn etag(&self) -> EntityTag {
        EntityTag::of(self, &["last_used_at"])
    }
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
            previous_expires_at: key.previous_expires_at,
            last_used_at: key.last_used_at,
            allowed_ips: key.allowed_ips.iter().filter_map(|network| network.parse().ok()).collect(),
            rate_limit: key.rate_limit.map(|limit| limit.0),
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

impl Versioned for IssuedKey {
    fn etag(&self) -> EntityTag {
        self.view.etag()
    }
}

/// What revoking a key answers, however often it is asked.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RevokedKey {
    /// The key's id.
    pub id: KeyId,
    /// Always true.
    #[schemars(extend("const" = true))]
    pub revoked: bool,
}
