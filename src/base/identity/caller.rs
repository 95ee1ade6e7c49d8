//! Caller of a request, after authentication.

use std::{net::IpAddr, sync::Arc};

use super::{credential::CredentialId, scope::ScopeSet, secret::SecretKind, tenant::ProjectStatus};
use crate::base::{
    id::{KeyId, ProjectId, SessionId, TokenId, UserId},
    input::{limit::RateLimit, net::Cidr},
    runtime::clock::Timestamp,
};

/// Restrictions of a key and of the tokens issued under it: networks and request rate.
#[derive(Clone, Debug, Default)]
pub struct Bounds {
    /// Key that has these restrictions; `None` for a token that was not issued under a key.
    pub key: Option<KeyId>,
    /// Allowed networks; `None` for any network.
    pub allowed_ips: Option<Arc<[Cidr]>>,
    /// Rate limit; `None` for the operator's default.
    pub rate_limit: Option<RateLimit>,
}

impl Bounds {
    /// Creates the restrictions from their stored form. A network that this version cannot parse allows no address.
    pub fn from_stored(key: Option<KeyId>, allowed_ips: &[String], rate_limit: Option<RateLimit>) -> Self {
        let networks = || allowed_ips.iter().filter_map(|network| network.parse().ok()).collect();
        Self { key, allowed_ips: (!allowed_ips.is_empty()).then(networks), rate_limit }
    }

    /// Returns whether `address` is allowed. An unknown address is allowed only if any network is.
    pub fn allows(&self, address: Option<IpAddr>) -> bool {
        let Some(networks) = &self.allowed_ips else { return true };
        address.is_some_and(|address| networks.iter().any(|network| network.contains(address)))
    }
}

/// State of a session of the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsoleSession {
    /// When the user last proved who they are.
    pub authenticated_at: Timestamp,
}

/// Authenticated, active credential.
#[derive(Clone, Debug)]
pub enum Caller {
    /// Session of a user. Its scopes depend on the user's role in each project.
    Session {
        /// Id of the session.
        id: SessionId,
        /// Id of the user.
        user_id: UserId,
        /// State of a session of the console; `None` for another session.
        console: Option<ConsoleSession>,
    },
    /// API key of a project.
    Key {
        /// Id of the key.
        id: KeyId,
        /// Id of the project.
        project_id: ProjectId,
        /// Status of the project.
        project_status: ProjectStatus,
        /// Scopes.
        scopes: ScopeSet,
        /// Creation time.
        created_at: Timestamp,
        /// Expiration time, if any. Its secret can expire earlier.
        expires_at: Option<Timestamp>,
        /// Restrictions.
        bounds: Bounds,
    },
    /// Scoped token.
    Token {
        /// Id of the token.
        id: TokenId,
        /// Id of the project.
        project_id: ProjectId,
        /// Status of the project.
        project_status: ProjectStatus,
        /// Effective scopes: its own scopes, limited to those that each of its issuers still has.
        scopes: ScopeSet,
        /// Creation time.
        created_at: Timestamp,
        /// Expiration time, not later than that of its issuer.
        expires_at: Timestamp,
        /// Restrictions of the key that it was issued under.
        bounds: Bounds,
    },
}

impl Caller {
    /// Kind of credential.
    pub fn kind(&self) -> SecretKind {
        match self {
            Self::Session { .. } => SecretKind::Session,
            Self::Key { .. } => SecretKind::Key,
            Self::Token { .. } => SecretKind::Token,
        }
    }

    /// Id of the credential.
    pub fn credential_id(&self) -> CredentialId {
        match self {
            Self::Session { id, .. } => CredentialId::Session(*id),
            Self::Key { id, .. } => CredentialId::Key(*id),
            Self::Token { id, .. } => CredentialId::Token(*id),
        }
    }

    /// Restrictions of a key or token.
    pub fn bounds(&self) -> Option<&Bounds> {
        match self {
            Self::Session { .. } => None,
            Self::Key { bounds, .. } | Self::Token { bounds, .. } => Some(bounds),
        }
    }

    /// User of a session.
    pub fn user_id(&self) -> Option<UserId> {
        match self {
            Self::Session { user_id, .. } => Some(*user_id),
            Self::Key { .. } | Self::Token { .. } => None,
        }
    }

    /// Project of a key or token.
    pub fn project_id(&self) -> Option<ProjectId> {
        match self {
            Self::Session { .. } => None,
            Self::Key { project_id, .. } | Self::Token { project_id, .. } => Some(*project_id),
        }
    }

    /// Status of that project.
    pub fn project_status(&self) -> Option<ProjectStatus> {
        match self {
            Self::Session { .. } => None,
            Self::Key { project_status, .. } | Self::Token { project_status, .. } => Some(*project_status),
        }
    }
}
