//! Ids and status of credentials.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::{
    id::{KeyId, SessionId, TokenId},
    runtime::clock::Timestamp,
};

/// Id of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CredentialId {
    /// Session.
    Session(SessionId),
    /// Key.
    Key(KeyId),
    /// Token.
    Token(TokenId),
}

impl CredentialId {
    /// Stored form: the number of the kind, and the number of the id.
    pub fn numbers(self) -> (u8, u128) {
        match self {
            Self::Session(id) => (1, id.as_u128()),
            Self::Key(id) => (2, id.as_u128()),
            Self::Token(id) => (3, id.as_u128()),
        }
    }

    /// Returns the credential with these [`CredentialId::numbers`].
    pub fn from_numbers(kind: u8, id: u128) -> Option<Self> {
        match kind {
            1 => Some(Self::Session(SessionId::from_u128(id))),
            2 => Some(Self::Key(KeyId::from_u128(id))),
            3 => Some(Self::Token(TokenId::from_u128(id))),
            _ => None,
        }
    }
}

impl fmt::Display for CredentialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session(id) => write!(f, "{id}"),
            Self::Key(id) => write!(f, "{id}"),
            Self::Token(id) => write!(f, "{id}"),
        }
    }
}

/// Status of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum CredentialStatus {
    /// The credential works.
    Active,
    /// The credential has expired.
    Expired,
    /// The credential or its issuer was revoked.
    Revoked,
}

impl CredentialStatus {
    /// Status as clients see it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }

    /// Returns the status at `now`.
    pub fn at(now: Timestamp, revoked_at: Option<Timestamp>, expires_at: Option<Timestamp>) -> Self {
        match (revoked_at, expires_at) {
            (Some(_), _) => Self::Revoked,
            (None, Some(end)) if end <= now => Self::Expired,
            _ => Self::Active,
        }
    }
}
