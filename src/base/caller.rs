//! Who is calling, once a secret has been recognised.

use std::{net::IpAddr, sync::Arc};

use super::{
    clock::Timestamp,
    credential::CredentialId,
    id::{KeyId, ProjectId, SessionId, TokenId, UserId},
    limit::RateLimit,
    net::Cidr,
    scope::ScopeSet,
    secret::SecretKind,
    tenant::ProjectStatus,
};

/// From where and how often a key, and what was issued under it, may be used.
#[derive(Clone, Debug, Default)]
pub struct Bounds {
    /// The key whose bounds these are; none for a token that no key stands behind.
    pub key: Option<KeyId>,
    /// The networks it may be used from; from everywhere if there is none.
    pub allowed_ips: Option<Arc<[Cidr]>>,
    /// How often it may be used; as the operator says if there is none.
    pub rate_limit: Option<RateLimit>,
}

impl Bounds {
    /// As the database has them. What this version cannot read admits nobody.
    pub fn stored(key: Option<KeyId>, allowed_ips: &[String], rate_limit: Option<RateLimit>) -> Self {
        let networks = || allowed_ips.iter().filter_map(|network| network.parse().ok()).collect();
        Self { key, allowed_ips: (!allowed_ips.is_empty()).then(networks), rate_limit }
    }

    /// Whether it may be used from `address`. From nowhere known, only where it may be used from everywhere.
    pub fn allow(&self, address: Option<IpAddr>) -> bool {
        let Some(networks) = &self.allowed_ips else { return true };
        address.is_some_and(|address| networks.iter().any(|network| network.contains(address)))
    }
}

/// A recognised, live credential.
#[derive(Clone, Debug)]
pub enum Caller {
    /// A signed-in user. What it may do depends on the user's role in each project.
    Session {
        /// The session.
        id: SessionId,
        /// Whose it is.
        user_id: UserId,
    },
    /// A project's API key.
    Key {
        /// The key.
        id: KeyId,
        /// Its project.
        project_id: ProjectId,
        /// How the project stands.
        project_status: ProjectStatus,
        /// What it may do.
        scopes: ScopeSet,
        /// When it was made.
        created_at: Timestamp,
        /// When it ends, if it does; its secret may end sooner.
        expires_at: Option<Timestamp>,
        /// From where and how often it may be used.
        bounds: Bounds,
    },
    /// A scoped token.
    Token {
        /// The token.
        id: TokenId,
        /// Its project.
        project_id: ProjectId,
        /// How the project stands.
        project_status: ProjectStatus,
        /// What it may do: its own scopes, cut to what each of its issuers still has.
        scopes: ScopeSet,
        /// When it was made.
        created_at: Timestamp,
        /// When it ends, at the latest with its issuer.
        expires_at: Timestamp,
        /// From where and how often it may be used: those of the key it was issued under.
        bounds: Bounds,
    },
}

impl Caller {
    /// The kind of credential.
    pub fn kind(&self) -> SecretKind {
        match self {
            Self::Session { .. } => SecretKind::Session,
            Self::Key { .. } => SecretKind::Key,
            Self::Token { .. } => SecretKind::Token,
        }
    }

    /// Which credential was shown.
    pub fn credential_id(&self) -> CredentialId {
        match self {
            Self::Session { id, .. } => CredentialId::Session(*id),
            Self::Key { id, .. } => CredentialId::Key(*id),
            Self::Token { id, .. } => CredentialId::Token(*id),
        }
    }

    /// From where and how often it may be used.
    pub fn bounds(&self) -> Option<&Bounds> {
        match self {
            Self::Session { .. } => None,
            Self::Key { bounds, .. } | Self::Token { bounds, .. } => Some(bounds),
        }
    }

    /// The user that a session speaks for.
    pub fn user_id(&self) -> Option<UserId> {
        match self {
            Self::Session { user_id, .. } => Some(*user_id),
            Self::Key { .. } | Self::Token { .. } => None,
        }
    }

    /// The one project it belongs to, for a key or a token.
    pub fn project_id(&self) -> Option<ProjectId> {
        match self {
            Self::Session { .. } => None,
            Self::Key { project_id, .. } | Self::Token { project_id, .. } => Some(*project_id),
        }
    }

    /// How that project stands.
    pub fn project_status(&self) -> Option<ProjectStatus> {
        match self {
            Self::Session { .. } => None,
            Self::Key { project_status, .. } | Self::Token { project_status, .. } => Some(*project_status),
        }
    }
}
