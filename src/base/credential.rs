//! Whether a credential still works.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::clock::Timestamp;

/// Whether a credential still works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum CredentialStatus {
    /// It does.
    Active,
    /// It has reached its end.
    Expired,
    /// It, or what issued it, was ended before its time.
    Revoked,
}

impl CredentialStatus {
    /// The status as clients see it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }

    /// The status at `now`.
    pub fn at(now: Timestamp, revoked_at: Option<Timestamp>, expires_at: Option<Timestamp>) -> Self {
        match (revoked_at, expires_at) {
            (Some(_), _) => Self::Revoked,
            (None, Some(end)) if end <= now => Self::Expired,
            _ => Self::Active,
        }
    }
}
