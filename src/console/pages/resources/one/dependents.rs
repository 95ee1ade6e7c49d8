//! The resources that refer to a resource.

use askama::Template;

use crate::{
    base::id::{ProjectId, ResourceId},
    console::{
        browser::Visit,
        client::{Call, Fault, List},
        components::{html_safe, status::Badge},
        pages::resources::{kind_name, list_path, path, phase},
    },
    resources::api::model::ResourceView,
};

/// Maximum number of resources that are listed.
const LISTED: usize = 10;

/// Resources that refer to a resource, or that it refers to.
#[derive(Clone, Debug, Template)]
#[template(
    source = r#"<ul class="rows">{% for row in rows %}<li><span class="clip"><a href="{{ row.path }}">{{ row.name }}</a> <span class="muted">{{ row.kind }}</span></span>{{ row.phase }}</li>{% endfor %}</ul>{% if let Some(more) = more %}<p><a href="{{ more }}">Show all</a></p>{% endif %}"#,
    ext = "html"
)]
pub struct Dependents {
    /// The resources.
    pub rows: Vec<Row>,
    /// Path of the list with all of them, if there are more.
    more: Option<String>,
}

/// Resource.
#[derive(Clone, Debug)]
pub struct Row {
    path: String,
    name: String,
    kind: String,
    phase: Badge,
}

html_safe!(Dependents);

impl Dependents {
    /// Reads the resources that refer to `id`.
    pub async fn of(visit: &Visit, project: ProjectId, id: ResourceId) -> Result<Self, Fault> {
        let call =
            Call::get("/v1/resources").query("project_id", project).query("refers_to", id).query("limit", LISTED);
        let found = visit.api.send::<List<ResourceView>>(call).await?.body;
        let row = |resource: &ResourceView| Row {
            path: path(project, resource.id),
            name: resource.name.clone(),
            kind: kind_name(resource.kind),
            phase: phase(resource),
        };
        let more = found.next_cursor.is_some().then(|| format!("{}?refers_to={id}", list_path(project)));
        Ok(Self { rows: found.data.iter().map(row).collect(), more })
    }
}
