//! Types of keys, and the shapes of requests and responses.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::types::Json;

use crate::{
    audit::model::Audited,
    base::{
        etag::{EntityTag, Versioned},
        id::{KeyId, ProjectId, UserId},
        identity::{
            credential::CredentialStatus,
            scope::{Scope, ScopeSet},
            secret::Secret,
        },
        input::{
            limit::RateLimit,
            metadata::Metadata,
            net::Cidr,
            page::ListQuery,
            patch::{Patch, Replace},
            schema::{input, patch},
            text::NO_CONTROL_CHARACTERS,
        },
        runtime::clock::Timestamp,
    },
};

/// Request to create a key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// Project of the key.
    pub project_id: ProjectId,
    /// Human-readable name. Empty if omitted.
    #[schemars(length(max = 100), regex(pattern = NO_CONTROL_CHARACTERS), example = "billing service")]
    pub name: Option<String>,
    /// Scopes of the key, at most your own. Default: all scopes that end in `:read`, `tokens:write`, `tokens:introspect`
    /// and `keys:write`, as far as you have them.
    #[schemars(length(min = 1, max = 32), extend("uniqueItems" = true))]
    pub scopes: Option<Vec<Scope>>,
    /// Expiration time, in the future. The key does not expire if omitted.
    #[schemars(example = "2099-12-31T23:59:59Z")]
    pub expires_at: Option<Timestamp>,
    /// Networks that the key and its tokens can be used from. All networks if omitted or empty.
    #[schemars(length(max = 64))]
    pub allowed_ips: Option<Vec<Cidr>>,
    /// Rate limit of the key and its tokens together. The operator's default if omitted.
    pub rate_limit: Option<RateLimit>,
    /// Custom metadata. Empty if omitted.
    pub metadata: Option<Metadata>,
}

/// Fields of a key to change. Omitted fields keep their value.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KeyPatch {
    /// Human-readable name. null clears it.
    #[schemars(length(max = 100), regex(pattern = NO_CONTROL_CHARACTERS), example = "billing service")]
    pub name: Patch<String>,
    /// Scopes of the key, at most your own. Scopes that are removed also become ineffective in the key's tokens.
    #[schemars(length(min = 1, max = 32), extend("uniqueItems" = true))]
    pub scopes: Replace<Vec<Scope>>,
    /// Expiration time, in the future. null removes it.
    pub expires_at: Patch<Timestamp>,
    /// Networks that the key and its tokens can be used from. All networks if empty or null.
    #[schemars(length(max = 64))]
    pub allowed_ips: Patch<Vec<Cidr>>,
    /// Rate limit of the key and its tokens together. null restores the operator's default.
    pub rate_limit: Patch<RateLimit>,
    /// Custom metadata. Replaces the existing metadata. null removes it.
    pub metadata: Patch<Metadata>,
}

/// Default overlap of a rotation: one day, in seconds.
pub const DEFAULT_OVERLAP_SECONDS: u32 = 24 * 3600;
/// Minimum overlap for a key that rotates itself, so that a lost response does not lock it out.
pub const MIN_SELF_OVERLAP_SECONDS: u32 = 300;

/// Request to rotate a key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// Time that the old secret remains valid, in seconds. Default: 86400 (one day). 0 ends all older secrets
    /// immediately. At least 300 if a key rotates itself.
    #[schemars(range(max = 604_800))]
    pub overlap_seconds: Option<u32>,
}

/// Filter of the list of keys.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct KeyFilter {
    /// Project ID. Required with a session, which can see several projects.
    pub project_id: Option<String>,
    /// Only keys with this status.
    pub status: Option<CredentialStatus>,
    /// Only keys whose name contains this text, in upper or lower case.
    #[schemars(length(min = 1, max = 100), regex(pattern = NO_CONTROL_CHARACTERS), example = &"billing")]
    pub name: Option<String>,
}

patch!(KeyPatch);
input!(NewKey, Rotation, ListQuery<KeyFilter>);

/// Scopes of a key that is created without scopes.
pub fn default_scopes() -> ScopeSet {
    let is_default = |scope: &Scope| {
        scope.is_read() || matches!(scope, Scope::TokensWrite | Scope::TokensIntrospect | Scope::KeysWrite)
    };
    Scope::ALL.iter().copied().filter(is_default).collect()
}

/// A key as stored in the database.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct StoredKey {
    /// Key ID.
    pub id: KeyId,
    /// Project of the key.
    pub project_id: ProjectId,
    /// Human-readable name.
    pub name: String,
    /// Scopes of the key.
    pub scopes: Vec<String>,
    /// First characters of the newest secret.
    pub hint: String,
    /// Custom metadata.
    pub metadata: Json<Metadata>,
    /// User who created the key.
    pub created_by: Option<UserId>,
    /// Creation time.
    pub created_at: Timestamp,
    /// Expiration time.
    pub expires_at: Option<Timestamp>,
    /// Revocation time.
    pub revoked_at: Option<Timestamp>,
    /// Time when the previous secret stops working.
    pub previous_expires_at: Option<Timestamp>,
    /// Time of the last use, to the minute.
    pub last_used_at: Option<Timestamp>,
    /// Networks that the key can be used from. Empty for all.
    pub allowed_ips: Vec<String>,
    /// Rate limit.
    pub rate_limit: Option<Json<RateLimit>>,
}

impl StoredKey {
    /// A new key with this secret, and without a name, scopes, limits or an end.
    pub fn new(id: KeyId, project_id: ProjectId, secret: &Secret, now: Timestamp) -> Self {
        Self {
            id,
            project_id,
            name: String::new(),
            scopes: Vec::new(),
            hint: secret.hint(),
            metadata: Json::default(),
            created_by: None,
            created_at: now,
            expires_at: None,
            revoked_at: None,
            previous_expires_at: None,
            last_used_at: None,
            allowed_ips: Vec::new(),
            rate_limit: None,
        }
    }
}

/// Scopes as stored in the database.
pub fn stored_scopes(scopes: ScopeSet) -> Vec<String> {
    scopes.to_texts().into_iter().map(str::to_owned).collect()
}

/// Networks as stored in the database.
pub fn stored_networks(networks: &[Cidr]) -> Vec<String> {
    networks.iter().map(ToString::to_string).collect()
}

/// A key, without its secret.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Key")]
pub struct KeyView {
    /// Key ID.
    pub id: KeyId,
    /// Project of the key.
    pub project_id: ProjectId,
    /// Human-readable name.
    pub name: String,
    /// Scopes of the key.
    pub scopes: ScopeSet,
    /// First characters of the newest secret.
    pub hint: String,
    /// Status of the key.
    pub status: CredentialStatus,
    /// Custom metadata.
    pub metadata: Metadata,
    /// User who created the key. null if the operator created it.
    pub created_by: Option<UserId>,
    /// Creation time.
    pub created_at: Timestamp,
    /// Expiration time. null if the key does not expire.
    pub expires_at: Option<Timestamp>,
    /// Time when the secret before the last rotation stops working. null if the key was never rotated.
    pub previous_expires_at: Option<Timestamp>,
    /// Time of the last use, to the minute. null if the key was never used.
    pub last_used_at: Option<Timestamp>,
    /// Networks that the key and its tokens can be used from. Empty for all networks.
    pub allowed_ips: Vec<Cidr>,
    /// Rate limit of the key and its tokens together. null for the operator's default.
    pub rate_limit: Option<RateLimit>,
}

impl Audited for KeyView {}

impl Versioned for KeyView {
    fn etag(&self) -> EntityTag {
        EntityTag::of(self, &["last_used_at"])
    }
}

impl KeyView {
    /// The view of `key` at `now`.
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

/// A new key or a rotated key, with its secret.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct IssuedKey {
    /// Secret to send as `Authorization: Bearer`. Shown only once.
    pub key: Secret,
    /// The key.
    #[serde(flatten)]
    pub view: KeyView,
}

impl Versioned for IssuedKey {
    fn etag(&self) -> EntityTag {
        self.view.etag()
    }
}

/// Result of revoking a key, also if it was revoked before.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct RevokedKey {
    /// Key ID.
    pub id: KeyId,
    /// Always true.
    #[schemars(extend("const" = true))]
    pub revoked: bool,
}
