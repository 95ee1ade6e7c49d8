//! The tenant filter: a project that its caller has been let into.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    error::{Code, Error, Result},
    id::ProjectId,
    role::Role,
    scope::{Scope, ScopeSet},
};

/// Whether a project's credentials work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
#[schemars(inline)]
pub enum ProjectStatus {
    /// They do.
    Active,
    /// They do not, until it is resumed.
    Suspended,
    /// They do not, until it is resumed; it may be deleted.
    Archived,
}

impl ProjectStatus {
    /// The status as clients see it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Archived => "archived",
        }
    }
}

/// A user's place in a project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Membership {
    /// What the user may do there.
    pub role: Role,
    /// How the project stands.
    pub status: ProjectStatus,
}

/// A project the caller may act in, with the need of the route already met there. Repositories take
/// it where they would otherwise take a project id, so a query cannot forget the tenant filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tenant {
    project_id: ProjectId,
    scopes: ScopeSet,
    membership: Option<Membership>,
}

impl Tenant {
    /// For a key or token. To be called where the caller's right has just been established, which is
    /// in `auth` alone; a test holds that no other place does.
    pub(crate) fn admitted(project_id: ProjectId, scopes: ScopeSet) -> Self {
        Self { project_id, scopes, membership: None }
    }

    /// For a session. To be called as [`Tenant::admitted`] is.
    pub(crate) fn admitted_member(project_id: ProjectId, membership: Membership) -> Self {
        Self { project_id, scopes: membership.role.scopes(), membership: Some(membership) }
    }

    /// The project's id.
    pub fn project_id(self) -> ProjectId {
        self.project_id
    }

    /// All that the caller may do in it.
    pub fn scopes(self) -> ScopeSet {
        self.scopes
    }

    /// Whether the caller holds `scope` here: where a route asks for one of several, and it turns out to be about this one.
    pub fn require(self, scope: Scope) -> Result<()> {
        if self.scopes.contains(scope) { Ok(()) } else { Err(Error::insufficient_scope(&[scope])) }
    }

    /// `wanted`, provided that the caller gives nobody more than they hold.
    pub fn hand_out(self, wanted: Vec<Scope>) -> Result<ScopeSet> {
        let wanted: ScopeSet = wanted.into_iter().collect();
        self.within("hand out", wanted).map(|()| wanted)
    }

    /// Whether the caller may take hold of what has `scopes`, by changing it or learning its new secret.
    pub fn take_hold(self, scopes: ScopeSet) -> Result<()> {
        self.within("take hold of", scopes)
    }

    fn within(self, verb: &str, scopes: ScopeSet) -> Result<()> {
        let excess = scopes.difference(self.scopes);
        if excess.is_empty() {
            return Ok(());
        }
        let detail = format!(
            "You cannot {verb} what you do not hold: {excess}; ask for less, or use a credential that holds it"
        );
        Err(Error::new(Code::ScopeEscalation, detail))
    }

    /// Whether the caller may give `role` to somebody, or change somebody who has it.
    pub fn reach(self, role: Role) -> Result<()> {
        match self.membership {
            Some(Membership { role: own, .. }) if role <= own => Ok(()),
            _ => Err(Error::new(
                Code::RoleEscalation,
                format!("The role '{role}' is above your own in this project; ask somebody who has it"),
            )),
        }
    }

    /// Whether things may be added or changed here. What is not active can be read, revoked from and
    /// resumed. (A key or token of such a project has been refused long before.)
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
