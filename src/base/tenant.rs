//! The tenant filter: a project that its caller has been let into.

use super::{
    error::{Code, Error, Result},
    id::ProjectId,
    scope::{Scope, ScopeSet},
};

/// A project the caller may act in, with the need of the route already met there. Repositories take
/// it where they would otherwise take a project id, so a query cannot forget the tenant filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tenant {
    project_id: ProjectId,
    scopes: ScopeSet,
}

impl Tenant {
    /// To be called where the caller's right has just been established, which is in `auth` alone; a
    /// test holds that no other place does.
    pub(crate) fn admitted(project_id: ProjectId, scopes: ScopeSet) -> Self {
        Self { project_id, scopes }
    }

    /// The project's id.
    pub fn project_id(self) -> ProjectId {
        self.project_id
    }

    /// All that the caller may do in it.
    pub fn scopes(self) -> ScopeSet {
        self.scopes
    }

    /// `wanted`, provided that the caller gives nobody more than they hold.
    pub fn hand_out(self, wanted: Vec<Scope>) -> Result<ScopeSet> {
        let wanted: ScopeSet = wanted.into_iter().collect();
        let excess = wanted.difference(self.scopes);
        if excess.is_empty() {
            return Ok(wanted);
        }
        Err(Error::new(
            Code::ScopeEscalation,
            format!(
                "You cannot hand out what you do not hold: {excess}; ask for less, or use a credential that holds it"
            ),
        ))
    }
}
