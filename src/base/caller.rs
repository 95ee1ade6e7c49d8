//! Who is calling, once a secret has been recognised.

use super::{
    clock::Timestamp,
    id::{KeyId, ProjectId, SessionId, TokenId, UserId},
    scope::ScopeSet,
    secret::SecretKind,
    tenant::ProjectStatus,
};

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

    /// The credential's id, as clients write it.
    pub fn credential_id(&self) -> String {
        match self {
            Self::Session { id, .. } => id.to_string(),
            Self::Key { id, .. } => id.to_string(),
            Self::Token { id, .. } => id.to_string(),
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
