//! Access requirements of a route.

use super::{scope::Scope, secret::SecretKind};

/// Access requirements of a route. The first argument of the handler determines them at compile time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessPolicy {
    /// No credential.
    Public,
    /// No credential, with a rate limit per address, for sign-in.
    SignIn,
    /// A session with any roles.
    Session,
    /// A credential of one of `kinds` with one of `scopes`.
    Scoped {
        /// Scopes, one of which is required; for a session, in the project of the request. If there are several, the
        /// required one depends on the request, and the handler checks it.
        scopes: &'static [Scope],
        /// Accepted kinds of credential.
        kinds: &'static [SecretKind],
        /// Rule for a credential that is the target of its own request.
        self_access: SelfAccess,
        /// Whether a session of an owner is required.
        owner: bool,
    },
}

/// Rule for a credential that is the target of its own request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelfAccess {
    /// The same rule as for other targets.
    Standard,
    /// The credential needs no scope for itself.
    ScopeNotRequired,
    /// A key can target only itself, without the scope. A session with the scope can target any key.
    KeySelfOnly,
}

/// All kinds of credential: session, key and token.
pub const ANY_KIND: &[SecretKind] = &[SecretKind::Session, SecretKind::Key, SecretKind::Token];

impl AccessPolicy {
    /// Accepted kinds of credential.
    pub const fn kinds(self) -> &'static [SecretKind] {
        match self {
            Self::Public | Self::SignIn => &[],
            Self::Session => &[SecretKind::Session],
            Self::Scoped { kinds, .. } => kinds,
        }
    }

    /// Scopes, one of which is required, if any.
    pub const fn scopes(self) -> &'static [Scope] {
        match self {
            Self::Public | Self::SignIn | Self::Session => &[],
            Self::Scoped { scopes, .. } => scopes,
        }
    }
}
