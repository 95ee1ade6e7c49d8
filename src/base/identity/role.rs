//! Roles of members: sets of scopes in a project.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scope::{Scope, ScopeSet};

/// Role of a member in a project. Each role includes the previous one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
#[schemars(inline)]
pub enum Role {
    /// Read access to everything except the audit trail.
    Viewer,
    /// Also issues tokens and manages cloud resources.
    Member,
    /// All scopes.
    Admin,
    /// Also suspends, resumes, archives and deletes the project, and assigns the role of owner.
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
    /// Scopes of a session whose user has this role.
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
    fn each_role_includes_the_scopes_of_the_previous_role() {
        let roles = [Role::Viewer, Role::Member, Role::Admin, Role::Owner];
        for pair in roles.windows(2) {
            assert!(pair[0].scopes().difference(pair[1].scopes()).is_empty(), "{pair:?}");
        }
        assert!(!Role::Member.scopes().contains(Scope::AuditRead));
        assert!(!Role::Member.scopes().contains(Scope::KeysWrite));
        assert_eq!(Role::Admin.scopes(), ScopeSet::all());
    }
}
