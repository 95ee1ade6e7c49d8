//! `/console/projects/{project_id}/webhooks/{webhook_id}`: one webhook and its deliveries. Sends a test event, and enables
//! the webhook again.

use askama::Template;
use axum::{
    extract::Path,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::MethodRouter,
};
use serde_json::{Value, json};

use crate::{
    api::webhooks::model::{DeliveryView, DisabledReason, WebhookView},
    base::{
        action::Action,
        id::{ProjectId, WebhookId},
        identity::scope::Scope,
    },
    console::{
        Console,
        browser::{Visit, fields::Fields, visit::PageQuery},
        client::{Call, List},
        components::{
            list::{Paging, Timeline},
            live::Live,
            secret::Copy,
            status::{Badge, Empty},
            time::When,
        },
        forms::{Choice, Field, Form, Hidden, Summary},
        pages::trail,
        view::{Failure, PageResult, Redirected},
    },
};

#[derive(Template)]
#[template(path = "pages/webhooks/one/one.html")]
struct One {
    path: String,
    name: String,
    id: Copy,
    status: Badge,
    may_write: bool,
    summary: Summary,
    /// For the forms that send a test and enable the webhook.
    test: Hidden,
    enable: Hidden,
    /// Whether the receiver said that it is gone.
    is_gone: bool,
    has_failed: bool,
    failing: Option<When>,
    /// Until when the previous secret signs, while it does.
    overlap: Option<When>,
    created: When,
    deliveries: Option<Deliveries>,
    /// Follows the events that are sent.
    live: Live,
    trail: Option<Timeline>,
    webhook: WebhookView,
}

/// Deliveries, for those who may read them.
struct Deliveries {
    status: Field,
    rows: Vec<Row>,
    paging: Paging,
    is_filtered: bool,
    empty: Empty,
    /// Whether something is about to happen.
    is_moving: bool,
}

struct Row {
    path: String,
    event_type: String,
    status: Badge,
    /// Answer or error of the last attempt.
    last: Option<String>,
    attempts: usize,
    created: When,
}

/// Handlers of the page.
pub fn routes() -> MethodRouter<Console> {
    crate::console::pages::form(show, submit)
}

async fn show(
    visit: Visit,
    Path((project, id)): Path<(ProjectId, WebhookId)>,
    PageQuery(query): PageQuery,
) -> PageResult {
    page(&visit, project, id, &query, &Form::new(Fields::default())).await
}

async fn submit(
    visit: Visit,
    Path((project, id)): Path<(ProjectId, WebhookId)>,
    PageQuery(query): PageQuery,
) -> Result<Response, Failure> {
    let form = visit.submitted();
    super::get(&visit, project, id).await?;
    let (call, message) = match form.value("do") {
        "enable" => {
            (enable_call(id), "The webhook is enabled. Deliveries of the last 24 hours that wait are sent now.")
        }
        "test" => (test_call(id), "A test event is on its way. It is in the list of deliveries."),
        _ => return Err(Failure::NoPage(StatusCode::METHOD_NOT_ALLOWED)),
    };
    match visit.api.send::<Value>(call.once(form.once())).await {
        Ok(_) => Ok(Redirected::to(super::path(project, id)).message(&visit, message).into_response()),
        Err(fault) => {
            let form = form.rejected(fault, &[])?;
            Ok(page(&visit, project, id, &query, &form).await?.into_response())
        }
    }
}

fn test_call(id: WebhookId) -> Call {
    Call::post(format!("/v1/webhooks/{id}/test")).body(json!({}))
}

fn enable_call(id: WebhookId) -> Call {
    Call::patch(format!("/v1/webhooks/{id}")).body(json!({ "enabled": true }))
}

fn deliveries_call(id: WebhookId, query: &Fields) -> Call {
    let call = Call::get(format!("/v1/webhooks/{id}/deliveries")).query("status", query.get("status"));
    call.query("order", "desc").query("cursor", query.get("cursor"))
}

async fn page(visit: &Visit, project: ProjectId, id: WebhookId, query: &Fields, form: &Form) -> PageResult {
    let allowed = visit.scopes(project).await?;
    let may_write = allowed.contains(Scope::WebhooksWrite);
    let deliveries = async {
        if !may_write {
            return Ok(None);
        }
        deliveries(visit, project, id, query).await.map(Some)
    };
    let trail = async { trail::of(visit, project, &id.to_string()).await.map_err(Failure::from) };
    let (found, deliveries, trail) = tokio::try_join!(super::get(visit, project, id), deliveries, trail)?;
    let webhook = found.body;
    // All types if there are none.
    let mut types: Vec<String> = webhook.event_types.iter().map(ToString::to_string).collect();
    if !types.is_empty() {
        types.push(Action::WebhookTested.to_string());
    }
    let page = One {
        path: super::path(project, id),
        name: super::name(&webhook),
        id: Copy::new(id.to_string(), "the webhook ID"),
        status: (&webhook).into(),
        may_write,
        summary: form.summary(),
        test: Form::new(Fields::default()).hidden(),
        enable: Form::new(Fields::default()).hidden(),
        is_gone: webhook.disabled_reason == Some(DisabledReason::Gone),
        has_failed: webhook.disabled_reason == Some(DisabledReason::Failing),
        failing: webhook.failing_since.map(|since| visit.when(since)),
        overlap: webhook.previous_expires_at.filter(|end| *end > visit.now).map(|end| visit.when(end)),
        created: visit.when(webhook.created_at),
        deliveries,
        live: Live::new(project).types(types),
        trail,
        webhook,
    };
    let mut builder = visit.page(page.name.clone()).project(project).crumb("Webhooks", super::list_path(project));
    builder = builder.call(Call::get(format!("/v1/webhooks/{id}")));
    if may_write {
        let action = if page.webhook.enabled { test_call(id) } else { enable_call(id) };
        builder = builder.call(deliveries_call(id, query)).call(action.once(form.once()));
    }
    builder.form(form).show(&page)
}

async fn deliveries(visit: &Visit, project: ProjectId, id: WebhookId, query: &Fields) -> Result<Deliveries, Failure> {
    let status = query.get("status");
    let found = visit.api.send::<List<DeliveryView>>(deliveries_call(id, query)).await?;
    let List { data, next_cursor } = found.body;
    let statuses = [("", "Any status"), ("pending", "Pending"), ("delivered", "Delivered"), ("failed", "Failed")];
    let statuses = statuses.map(|(value, label)| Choice::new(value, label)).into();
    // After a test or a redelivery, the delivery shows up in a moment.
    let is_moving = visit.message.is_some() || data.iter().any(|delivery| super::is_due_soon(visit, delivery));
    Ok(Deliveries {
        status: Form::new(query.clone()).select("status", "Status", statuses),
        rows: data.iter().map(|delivery| row(visit, project, delivery)).collect(),
        paging: Paging::new(visit, query, &["status"], next_cursor.as_deref()),
        is_filtered: !status.is_empty(),
        empty: match status.is_empty() {
            true => Empty::new(
                "No deliveries yet",
                "Each event that is sent shows up here, with every attempt, for 30 days.",
            ),
            false => Empty::new("No delivery has this status", "Deliveries are kept for 30 days."),
        },
        is_moving: is_moving && visit.is_read(),
    })
}

fn row(visit: &Visit, project: ProjectId, delivery: &DeliveryView) -> Row {
    let last = delivery.attempts.last();
    Row {
        path: format!("{}/deliveries/{}", super::path(project, delivery.webhook_id), delivery.id),
        event_type: delivery.event_type.clone(),
        status: delivery.status.into(),
        last: last.and_then(|last| {
            let answer = last.status_code.map(|status| status.to_string());
            answer.or_else(|| last.error.as_deref().map(str::to_owned))
        }),
        attempts: delivery.attempts.len(),
        created: visit.when(delivery.created_at),
    }
}
