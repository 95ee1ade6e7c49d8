//! `/console/projects/{project_id}/resources/{resource_id}`: one resource.

mod condition;
pub mod dependents;

use std::collections::BTreeMap;

use askama::Template;
use axum::{
    extract::Path,
    routing::{MethodRouter, get},
};
use futures_util::future::join_all;
use serde_json::Value;

use super::{
    act::{self, Offered},
    conditions, kind_name, list_path,
    parts::{label, providers, shown},
};
use crate::{
    base::id::{ProjectId, ResourceId},
    console::{
        Console,
        browser::Visit,
        client::{Call, List},
        components::{
            icon::Icon, list::Timeline, live::Live, secret::Copy, status::Badge, text::words, time::When,
            timeline::Steps,
        },
        pages::{objects::page_of, operations, trail},
        view::PageResult,
    },
    resources::api::model::{OperationView, Reconcile, ResourceView},
};
use dependents::Dependents;

/// Number of operations that are shown.
const OPERATIONS: usize = 10;
/// Number of referenced resources that are shown by name.
const NAMED: usize = 8;

#[derive(Template)]
#[template(path = "pages/resources/one/one.html")]
struct One {
    path: String,
    id: Copy,
    kind: String,
    phase: Badge,
    badges: Vec<Badge>,
    live: Live,
    may_change: bool,
    may_delete: bool,
    actions: Vec<Offered>,
    is_busy: bool,
    conditions: Vec<condition::Shown>,
    power: Option<String>,
    reference: Option<Copy>,
    enforces: bool,
    created: When,
    expires: Option<When>,
    synced: Option<When>,
    spec: Vec<Fact>,
    outputs: Vec<Fact>,
    labels: Vec<String>,
    dependents: Dependents,
    operations: Steps,
    trail: Option<Timeline>,
    resource: ResourceView,
}

/// Name and values, some of which have a page.
struct Fact {
    name: String,
    values: Vec<(String, Option<String>)>,
}

/// Handlers of the page.
pub fn routes() -> MethodRouter<Console> {
    get(show)
}

async fn show(visit: Visit, Path((project, id)): Path<(ProjectId, ResourceId)>) -> PageResult {
    let resource = super::get(&visit, project, id).await?.body;
    let call = Call::get("/v1/operations").query("project_id", project).query("resource_id", id);
    let call = call.query("order", "desc").query("limit", OPERATIONS);
    let target = id.to_string();
    let (operations, dependents, provider, allowed, trail) = tokio::try_join!(
        visit.api.send::<List<OperationView>>(call),
        Dependents::of(&visit, project, id),
        providers::get(&visit, &resource.provider),
        visit.scopes(project),
        trail::of(&visit, project, &target),
    )?;
    let operations = operations.body.data;
    let names = names(&visit, &resource).await;
    let is_busy = operations.iter().any(|operation| operation.finished_at.is_none());
    let phase = resource.status.phase.as_str();
    let may_write = allowed.contains(resource.kind.write_scope()) && !is_busy;
    let may_delete = may_write && matches!(phase, "active" | "failed");
    let may_change = may_delete && (phase == "active" || resource.status.provider_ref.is_some());
    let capabilities = provider.as_ref().and_then(|provider| provider.of(resource.kind));
    let offered = capabilities.filter(|_| may_change).map(|capabilities| act::offered(&resource, capabilities));
    let open = operations.iter().filter(|operation| operation.finished_at.is_none());
    let subjects: Vec<String> =
        std::iter::once(id.to_string()).chain(open.map(|operation| operation.id.to_string())).collect();
    let page = One {
        path: super::path(project, id),
        id: Copy::new(id.to_string(), "the resource ID"),
        kind: kind_name(resource.kind),
        phase: super::phase(&resource),
        badges: conditions(&resource),
        live: Live::new(project).types(["resource.*", "operation.*"]).subjects(subjects),
        may_change,
        may_delete,
        actions: offered.unwrap_or_default(),
        is_busy,
        conditions: condition::of(&visit, &resource, may_delete),
        power: resource.status.power.map(|power| shown(&serde_json::json!(power))),
        reference: resource.status.provider_ref.clone().map(|text| Copy::new(text, "the provider’s name")),
        enforces: resource.reconcile == Reconcile::Enforce,
        created: visit.when(resource.created_at),
        expires: resource.expires_at.map(|time| visit.when(time)),
        synced: resource.status.last_synced_at.map(|time| visit.when(time)),
        spec: resource.spec.as_object().into_iter().flatten().map(|member| fact(project, member, &names)).collect(),
        outputs: resource.status.outputs.iter().map(|member| fact(project, member, &names)).collect(),
        labels: resource.labels.0.iter().map(|(key, value)| format!("{key}={value}")).collect(),
        dependents,
        operations: Steps { entries: operations.iter().map(|operation| operations::step(&visit, operation)).collect() },
        trail,
        resource,
    };
    let builder = visit.page(page.resource.name.clone()).project(project).crumb("Resources", list_path(project));
    builder.show(&page)
}

/// Names of the first resources that the spec refers to, by ID. Those that the person may not read have none.
async fn names(visit: &Visit, resource: &ResourceView) -> BTreeMap<String, String> {
    let texts = |value: &Value| match value {
        Value::Array(items) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        value => value.as_str().map(str::to_owned).into_iter().collect::<Vec<_>>(),
    };
    let ids = resource.spec.as_object().into_iter().flatten().flat_map(|(_, value)| texts(value));
    let ids = ids.filter(|id| id.starts_with("res_")).take(NAMED);
    let name = async |id: String| {
        let found = visit.api.send_unrecorded::<ResourceView>(&Call::get(format!("/v1/resources/{id}"))).await;
        Some((id, found.ok()?.body.name))
    };
    join_all(ids.map(name)).await.into_iter().flatten().collect()
}

fn fact(project: ProjectId, (name, value): (&String, &Value), names: &BTreeMap<String, String>) -> Fact {
    let linked = |value: &Value| {
        let text = shown(value);
        let path = page_of(project, &text);
        (names.get(&text).cloned().unwrap_or(text), path)
    };
    let values = match value {
        Value::Array(items) if !items.is_empty() => items.iter().map(linked).collect(),
        value => vec![linked(value)],
    };
    Fact { name: label(name), values }
}

impl One {
    fn power(&self) -> String {
        self.power.as_deref().map(words).unwrap_or_default()
    }
}
