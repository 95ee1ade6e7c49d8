//! Roles, and what each may do, in words.

use crate::{
    base::{id::ProjectId, identity::role::Role},
    console::{
        browser::Visit,
        client::Fault,
        forms::{Choice, Field, Form},
    },
};

/// Roles: value, name, and what the role may do.
const ROLES: [(Role, &str, &str); 4] = [
    (Role::Viewer, "Viewer", "Sees everything except the audit log."),
    (Role::Member, "Member", "Also issues tokens, and manages cloud resources."),
    (Role::Admin, "Admin", "Also manages keys, webhooks and members, and reads the audit log."),
    (Role::Owner, "Owner", "Also suspends, archives and deletes the project, and makes others owners."),
];

/// Role of the signed-in person in a project. `None` if the person has so many projects that the profile does not list
/// this one.
pub async fn own(visit: &Visit, project: ProjectId) -> Result<Option<Role>, Fault> {
    let memberships = &visit.profile().await?.memberships;
    Ok(memberships.iter().find(|membership| membership.project_id == project).map(|membership| membership.role))
}

/// Name of a role.
pub fn name(role: Role) -> &'static str {
    ROLES.iter().find(|(of, ..)| *of == role).map_or("", |(_, name, _)| name)
}

/// What a role may do, with what it includes.
pub fn may(role: Role) -> String {
    let included = ROLES.iter().filter(|(of, ..)| *of <= role);
    included.map(|(.., may)| *may).collect::<Vec<_>>().join(" ")
}

/// The choice of a role. A person gives at most the own role.
pub fn field(form: &Form, own: Option<Role>) -> Field {
    let given = ROLES.iter().filter(|(role, ..)| own.is_none_or(|own| *role <= own));
    let choices = given.map(|(role, name, may)| Choice::new(role.to_string(), *name).hint(*may)).collect();
    form.radios("role", "Role", choices)
}
