//! Pages of objects, by the prefix of their IDs.

use super::TABLE;
use crate::base::id::{ProjectId, UserId};

/// Kind of object: prefix of its ID, path of the API, and path of the page.
pub struct Object {
    /// Prefix of the ID.
    prefix: &'static str,
    /// Path of the API.
    api: &'static str,
    /// Path of the page.
    page: &'static str,
}

/// Objects that can have a page. A page that is not in the table yet is not linked.
const OBJECTS: &[Object] = &[
    Object { prefix: "key_", api: "/v1/keys/", page: "/console/projects/{project_id}/keys/{key_id}" },
    Object { prefix: "tok_", api: "/v1/tokens/", page: "/console/projects/{project_id}/tokens/{token_id}" },
    Object { prefix: "wh_", api: "/v1/webhooks/", page: "/console/projects/{project_id}/webhooks/{webhook_id}" },
    Object { prefix: "res_", api: "/v1/resources/", page: "/console/projects/{project_id}/resources/{resource_id}" },
    Object { prefix: "op_", api: "/v1/operations/", page: "/console/projects/{project_id}/operations/{operation_id}" },
    Object { prefix: "aud_", api: "/v1/audit-logs/", page: "/console/projects/{project_id}/audit/{entry_id}" },
];

/// Kind of the object with this ID, if it has a page.
pub fn kind_of(id: &str) -> Option<&'static Object> {
    let is_id = id.len() <= 64 && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let known = OBJECTS.iter().find(|object| is_id && id.starts_with(object.prefix));
    known.filter(|object| TABLE.iter().any(|row| row.path == object.page))
}

/// Path of the page of an object, if it has one. Users have one in each project.
pub fn page_of(project: ProjectId, id: &str) -> Option<String> {
    if id.parse::<UserId>().is_ok() {
        return Some(format!("/console/projects/{project}/members/{id}"));
    }
    kind_of(id).map(|object| object.page(project, id))
}

impl Object {
    /// Path of the API for the object with this ID.
    pub fn api(&self, id: &str) -> String {
        format!("{}{id}", self.api)
    }

    /// Path of the page of the object with this ID.
    pub fn page(&self, project: ProjectId, id: &str) -> String {
        let path = self.page.replace("{project_id}", &project.to_string());
        let end = path.find('{').unwrap_or(path.len());
        format!("{}{id}", path.get(..end).unwrap_or_default())
    }
}
