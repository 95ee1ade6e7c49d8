//! What a route asks of whoever calls it.

use super::{scope::Scope, secret::SecretKind};

/// What a route asks of its caller; a handler's first argument fixes it at compile time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: anyone may call.
    Public,
    /// Nothing, but an address may not try too often: anyone may call to sign in.
    SignIn,
    /// A session, whatever its roles.
    Session,
    /// A credential of one of `kinds` that holds one of `scopes`.
    Scoped {
        /// The scopes of which it must hold one (a session: in the project it is used on). Where there are several, which one
        /// depends on what is asked for, and the handler goes on asking.
        scopes: &'static [Scope],
        /// The kinds of credential that may call at all.
        kinds: &'static [SecretKind],
        /// What a credential may do to itself.
        itself: Itself,
        /// Whether only an owner's session will do.
        owner: bool,
    },
}

/// What a credential may do to itself, where that differs from what it may do to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Itself {
    /// No difference.
    AsOthers,
    /// A credential may always do this to itself, without the scope.
    WithoutScope,
    /// A key may do this to itself, without the scope, and to no other; a session with the scope to any.
    KeyOnlyItself,
}

/// Session, key and token.
pub const ANY_KIND: &[SecretKind] = &[SecretKind::Session, SecretKind::Key, SecretKind::Token];

impl Need {
    /// The kinds of credential that may call.
    pub const fn kinds(self) -> &'static [SecretKind] {
        match self {
            Self::Public | Self::SignIn => &[],
            Self::Session => &[SecretKind::Session],
            Self::Scoped { kinds, .. } => kinds,
        }
    }

    /// The scopes of which one is needed, if one is.
    pub const fn scopes(self) -> &'static [Scope] {
        match self {
            Self::Public | Self::SignIn | Self::Session => &[],
            Self::Scoped { scopes, .. } => scopes,
        }
    }
}
