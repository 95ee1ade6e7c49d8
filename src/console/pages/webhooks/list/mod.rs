//! `/console/projects/{project_id}/webhooks`: the webhooks of a project.

use askama::Template;
use axum::{
    extract::Path,
    routing::{MethodRouter, get},
};

use crate::{
    api::webhooks::model::{DisabledReason, WebhookView},
    base::{id::ProjectId, identity::scope::Scope},
    console::{
        Console,
        browser::{Visit, visit::PageQuery},
        client::{Call, List},
        components::{
            icon::Icon,
            list::Paging,
            status::{Badge, Empty},
            time::When,
        },
        view::PageResult,
    },
};

#[derive(Template)]
#[template(path = "pages/webhooks/list/list.html")]
struct Webhooks {
    path: String,
    rows: Vec<Row>,
    paging: Paging,
    may_create: bool,
    empty: Empty,
}

struct Row {
    path: String,
    url: String,
    description: String,
    status: Badge,
    /// Why it does not work.
    reason: Option<String>,
    types: String,
    created: When,
}

/// Handlers of the page.
pub fn routes() -> MethodRouter<Console> {
    get(show)
}

async fn show(visit: Visit, Path(project): Path<ProjectId>, PageQuery(query): PageQuery) -> PageResult {
    let call = Call::get("/v1/webhooks").query("project_id", project).query("cursor", query.get("cursor"));
    let (webhooks, allowed) = tokio::try_join!(visit.api.send::<List<WebhookView>>(call), visit.scopes(project))?;
    let List { data, next_cursor } = webhooks.body;
    let may_create = allowed.contains(Scope::WebhooksWrite);
    let path = super::list_path(project);
    let empty = Empty::new(
        "No webhooks yet",
        "A webhook sends the events of the project to a URL of yours, signed and with retries.",
    );
    let page = Webhooks {
        rows: data.iter().map(|webhook| row(&visit, webhook)).collect(),
        paging: Paging::new(&visit, &query, &[], next_cursor.as_deref()),
        empty: if may_create { empty.action("Create a webhook", format!("{path}/new")) } else { empty },
        may_create,
        path,
    };
    visit.page("Webhooks").project(project).show(&page)
}

fn row(visit: &Visit, webhook: &WebhookView) -> Row {
    Row {
        path: super::path(webhook.project_id, webhook.id),
        url: webhook.url.clone(),
        description: webhook.description.clone(),
        status: webhook.into(),
        reason: reason(visit, webhook),
        types: match webhook.event_types.as_slice() {
            [] => "All".to_owned(),
            [only] => only.to_string(),
            several => format!("{} types", several.len()),
        },
        created: visit.when(webhook.created_at),
    }
}

fn reason(visit: &Visit, webhook: &WebhookView) -> Option<String> {
    match (webhook.enabled, webhook.disabled_reason, webhook.failing_since) {
        (false, Some(DisabledReason::Gone), _) => Some("The receiver answered 410 Gone.".into()),
        (false, Some(DisabledReason::Failing), _) => Some("Every attempt failed for five days.".into()),
        (true, _, Some(since)) => Some(format!("First failure {}.", visit.when(since).text())),
        _ => None,
    }
}
