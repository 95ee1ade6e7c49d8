//! What a user is, to the server and to clients.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};
use unicode_normalization::UnicodeNormalization;

use crate::base::{
    clock::Timestamp,
    id::UserId,
    scope::{Scope, ScopeSet},
};

/// What a member may do in a project; each role holds all that the one before it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum Role {
    /// Reads everything but the audit trail.
    Viewer,
    /// Also issues tokens and works with cloud resources.
    Member,
    /// Holds every scope.
    Admin,
    /// Also decides over the project itself.
    Owner,
}

impl Role {
    /// The scopes a session has where its user has this role.
    pub fn scopes(self) -> ScopeSet {
        let holds = |scope: &Scope| match self {
            Self::Viewer => scope.is_read() && *scope != Scope::AuditRead,
            Self::Member => {
                Self::Viewer.scopes().contains(*scope)
                    || matches!(
                        scope,
                        Scope::TokensWrite
                            | Scope::TokensIntrospect
                            | Scope::ComputeWrite
                            | Scope::StorageWrite
                            | Scope::NetworkWrite
                    )
            }
            Self::Admin | Self::Owner => true,
        };
        Scope::ALL.iter().copied().filter(holds).collect()
    }
}

/// An e-mail address, lower-cased and in NFC, so that two spellings of one address are equal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, sqlx::Type)]
#[serde(transparent)]
#[sqlx(transparent)]
pub struct Email(String);

/// The longest address that SMTP can deliver to (RFC 5321 §4.5.3.1.3, less the angle brackets).
const EMAIL_MAX: usize = 254;

/// A text that is no e-mail address.
#[derive(Debug, thiserror::Error)]
#[error("not an e-mail address, such as ada@example.com")]
pub struct NotAnEmail;

impl FromStr for Email {
    type Err = NotAnEmail;

    fn from_str(text: &str) -> Result<Self, NotAnEmail> {
        let normal: String = text.trim().nfc().flat_map(char::to_lowercase).nfc().collect();
        let (local, domain) = normal.rsplit_once('@').ok_or(NotAnEmail)?;
        let plausible = !local.is_empty()
            && !domain.is_empty()
            && normal.len() <= EMAIL_MAX
            && !normal.chars().any(|c| c.is_control() || c.is_whitespace());
        plausible.then_some(Self(normal)).ok_or(NotAnEmail)
    }
}

impl fmt::Display for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Email {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Email {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Email".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "email", "maxLength": EMAIL_MAX, "examples": ["ada@example.com"] })
    }
}

/// A member of a project, as the database has it and as clients see it: no secret is near.
#[derive(Clone, Debug, Serialize, JsonSchema, sqlx::FromRow)]
#[schemars(rename = "User")]
pub struct Member {
    /// The user's id.
    pub id: UserId,
    /// Where they can be written to, and what they sign in with.
    pub email: Email,
    /// What they may do in this project.
    pub role: Role,
    /// When the user was made.
    pub created_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_holds_what_the_one_before_it_holds() {
        let roles = [Role::Viewer, Role::Member, Role::Admin, Role::Owner];
        for pair in roles.windows(2) {
            assert!(pair[0].scopes().difference(pair[1].scopes()).is_empty(), "{pair:?}");
        }
        assert!(!Role::Member.scopes().contains(Scope::AuditRead));
        assert!(!Role::Member.scopes().contains(Scope::KeysWrite));
        assert_eq!(Role::Admin.scopes(), ScopeSet::all());
    }

    #[test]
    fn spellings_of_one_address_are_equal() {
        let plain: Email = "josé@example.com".parse().unwrap();
        assert_eq!("JOSE\u{301}@Example.COM".parse::<Email>().unwrap(), plain);
        for text in ["", "@", "a@", "@b", "a b@c", "a\0@b", &format!("{}@b", "x".repeat(300))] {
            assert!(text.parse::<Email>().is_err(), "{text:?}");
        }
    }
}
