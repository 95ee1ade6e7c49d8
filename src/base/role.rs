//! Roles: sets of scopes, in a project.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scope::{Scope, ScopeSet};

/// What a member may do in a project; each role holds all that the one before it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
#[schemars(inline)]
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

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Viewer => "viewer",
            Self::Member => "member",
            Self::Admin => "admin",
            Self::Owner => "owner",
        })
    }
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
}
