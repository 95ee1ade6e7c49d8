//! `/console/projects/{project_id}/resources`: the resources of a project.

use askama::Template;
use axum::{
    extract::Path,
    routing::{MethodRouter, get},
};

use super::{conditions, kind_name, list_path, parts::providers};
use crate::{
    base::{id::ProjectId, identity::scope::ScopeSet},
    console::{
        Console,
        browser::{Visit, visit::PageQuery},
        client::{Call, List},
        components::{
            icon::Icon,
            list::Paging,
            live::Live,
            status::{Badge, Empty},
            text::words,
            time::When,
        },
        forms::{Choice, Field, Form},
        view::PageResult,
    },
    resources::{api::model::ResourceView, kinds::Kind},
};

/// Phases that a filter can have.
const PHASES: [&str; 7] = ["active", "pending", "provisioning", "updating", "failed", "deleting", "deleted"];
const FILTERS: [&str; 5] = ["kind", "phase", "provider", "label", "refers_to"];

#[derive(Template)]
#[template(path = "pages/resources/list/list.html")]
struct Resources {
    path: String,
    live: Live,
    filters: Vec<Field>,
    rows: Vec<Row>,
    paging: Paging,
    refers_to: String,
    is_filtered: bool,
    may_create: bool,
    empty: Empty,
}

struct Row {
    path: String,
    name: String,
    kind: String,
    kind_id: Kind,
    provider: String,
    phase: Badge,
    conditions: Vec<Badge>,
    labels: Vec<String>,
    expires: Option<When>,
    created: When,
}

/// Handlers of the page.
pub fn routes() -> MethodRouter<Console> {
    get(show)
}

/// Whether the person may create a resource of any kind.
pub fn may_write(allowed: ScopeSet) -> bool {
    Kind::ALL.iter().any(|kind| allowed.contains(kind.write_scope()))
}

async fn show(visit: Visit, Path(project): Path<ProjectId>, PageQuery(query): PageQuery) -> PageResult {
    let mut call = Call::get("/v1/resources").query("project_id", project);
    for filter in FILTERS {
        call = call.query(filter, query.get(filter));
    }
    let call = call.query("order", "desc").query("cursor", query.get("cursor"));
    let list = async { Ok(visit.api.send::<List<ResourceView>>(call).await) };
    let (found, allowed, providers) = tokio::try_join!(list, visit.scopes(project), providers::all(&visit))?;
    let form = Form::new(query.clone());
    let (form, found) = match found {
        Ok(found) => (form, found.body),
        // A label that cannot exist, for example.
        Err(fault) => (form.rejected(fault, &[])?, List { data: Vec::new(), next_cursor: None }),
    };
    let may_create = may_write(allowed);
    let is_filtered = FILTERS.iter().any(|filter| !query.get(filter).is_empty());
    let path = list_path(project);
    let page = Resources {
        live: Live::new(project).types(["resource.*"]),
        filters: filters(&form, &providers),
        rows: found.data.iter().map(|resource| row(&visit, resource)).collect(),
        paging: Paging::new(&visit, &query, &FILTERS, found.next_cursor.as_deref()),
        refers_to: query.get("refers_to").to_owned(),
        is_filtered,
        may_create,
        empty: if is_filtered {
            Empty::new("No resource matches", "Change the filters.")
        } else {
            let text = "A resource is a network, a volume or an instance at a cloud provider. You describe what you want, and \
                        the server makes it so.";
            let empty = Empty::new("No resources yet", text);
            if may_create { empty.action("Create a resource", format!("{path}/new")) } else { empty }
        },
        path,
    };
    visit.page("Resources").project(project).form(&form).show(&page)
}

fn filters(form: &Form, providers: &[providers::Provider]) -> Vec<Field> {
    let any = |label: &str| std::iter::once(Choice::new("", label));
    let kinds = Kind::ALL.iter().map(|kind| Choice::new(kind.as_str(), kind_name(*kind)));
    let phases = PHASES.map(|phase| Choice::new(phase, words(phase)));
    let names = providers.iter().map(|provider| Choice::new(provider.name.clone(), provider.name.clone()));
    let mut fields = vec![
        form.select("kind", "Kind", any("Any kind").chain(kinds).collect()),
        form.select("phase", "Phase", any("Not deleted").chain(phases).collect()),
    ];
    if providers.len() > 1 {
        fields.push(form.select("provider", "Provider", any("Any provider").chain(names).collect()));
    }
    fields.push(form.text("label", "Label, such as env=ci").kind("search"));
    fields
}

fn row(visit: &Visit, resource: &ResourceView) -> Row {
    Row {
        path: super::path(resource.project_id, resource.id),
        name: resource.name.clone(),
        kind: kind_name(resource.kind),
        kind_id: resource.kind,
        provider: resource.provider.clone(),
        phase: super::phase(resource),
        conditions: conditions(resource),
        labels: resource.labels.0.iter().map(|(key, value)| format!("{key}={value}")).collect(),
        expires: resource.expires_at.map(|time| visit.when(time)),
        created: visit.when(resource.created_at),
    }
}
