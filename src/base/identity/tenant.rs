//! Tenant: a project that the caller has been admitted to.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    role::Role,
    scope::{Scope, ScopeSet},
};
use crate::base::{
    error::{Code, Error, Result},
    id::ProjectId,
};

/// Status of a project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
#[schemars(inline)]
pub enum ProjectStatus {
    /// The project's keys and tokens work.
    Active,
    /// The project's keys and tokens do not work until it is resumed.
    Suspended,
    /// The project's keys and tokens do not work until it is resumed. The project can be deleted.
    Archived,
}

impl ProjectStatus {
    /// Status as clients see it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Archived => "archived",
        }
    }
}

/// A user's membership in a project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Membership {
    /// Role of the user in the project.
    pub role: Role,
    /// Status of the project.
    pub status: ProjectStatus,
}

/// Project that the caller has been admitted to; the access requirements of the route are met. Repositories take a
/// `Tenant` instead of a project id, so that no query misses the tenant filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tenant {
    project_id: ProjectId,
    scopes: ScopeSet,
    membership: Option<Membership>,
}

impl Tenant {
    /// Creates the tenant of a key or token. Only `auth` may call it, after it has checked the caller's access; a test
    /// enforces this.
    pub(crate) fn from_credential(project_id: ProjectId, scopes: ScopeSet) -> Self {
        Self { project_id, scopes, membership: None }
    }

    /// Creates the tenant of a session. The rule of [`Tenant::from_credential`] applies.
    pub(crate) fn from_membership(project_id: ProjectId, membership: Membership) -> Self {
        Self { project_id, scopes: membership.role.scopes(), membership: Some(membership) }
    }

    /// Id of the project.
    pub fn project_id(self) -> ProjectId {
        self.project_id
    }

    /// Membership that admitted a session's user.
    pub fn membership(self) -> Option<Membership> {
        self.membership
    }

    /// Scopes of the caller in the project.
    pub fn scopes(self) -> ScopeSet {
        self.scopes
    }

    /// Checks that the caller has `scope`, on a route that requires one of several scopes, depending on the request.
    pub fn require(self, scope: Scope) -> Result<()> {
        if self.scopes.contains(scope) { Ok(()) } else { Err(Error::insufficient_scope(&[scope])) }
    }

    /// Returns `wanted` as a set, after checking that the caller has all of these scopes.
    pub fn grant_scopes(self, wanted: Vec<Scope>) -> Result<ScopeSet> {
        let wanted: ScopeSet = wanted.into_iter().collect();
        self.check_subset("grant", wanted).map(|()| wanted)
    }

    /// Checks that the caller may manage a credential with `scopes`: change it, or receive its new secret.
    pub fn check_manage(self, scopes: ScopeSet) -> Result<()> {
        self.check_subset("manage a credential with", scopes)
    }

    fn check_subset(self, verb: &str, scopes: ScopeSet) -> Result<()> {
        let excess = scopes.difference(self.scopes);
        if excess.is_empty() {
            return Ok(());
        }
        let detail = format!(
            "You cannot {verb} scopes that you do not have: {excess}; request fewer scopes, or use a credential that has them"
        );
        Err(Error::new(Code::ScopeEscalation, detail))
    }

    /// Checks that the caller may assign `role`, and may change a user who has it.
    pub fn check_role(self, role: Role) -> Result<()> {
        match self.membership {
            Some(Membership { role: own, .. }) if role <= own => Ok(()),
            _ => Err(Error::new(
                Code::RoleEscalation,
                format!("The role '{role}' is above your own in this project; ask a user who has it"),
            )),
        }
    }

    /// Checks that the project is active, so that objects can be added or changed. Otherwise, sessions can only read,
    /// revoke and resume. Keys and tokens of such a project have been rejected before.
    pub fn require_active(self) -> Result<()> {
        match self.membership.map(|membership| membership.status) {
            None | Some(ProjectStatus::Active) => Ok(()),
            Some(status) => Err(Error::new(
                Code::ProjectNotActive,
                format!(
                    "The project is {}; an owner can resume it with POST /v1/projects/{}/resume",
                    status.as_str(),
                    self.project_id
                ),
            )),
        }
    }
}
