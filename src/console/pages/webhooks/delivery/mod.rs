//! `/console/projects/{project_id}/webhooks/{webhook_id}/deliveries/{delivery_id}`: one delivery with its attempts. Sends it
//! again.

use askama::Template;
use axum::{
    extract::Path,
    response::{IntoResponse, Response},
    routing::MethodRouter,
};
use serde_json::{Value, json};

use crate::{
    api::{
        events::model::RETENTION,
        webhooks::model::{Attempt, DeliveryView, FailureCause},
    },
    base::id::{DeliveryId, ProjectId, WebhookId},
    console::{
        Console,
        browser::{Visit, fields::Fields},
        client::Call,
        components::{
            secret::Copy,
            status::{Badge, Empty},
            time::When,
        },
        forms::{Form, Hidden, Summary},
        view::{Failure, PageResult, Redirected},
    },
};

#[derive(Template)]
#[template(path = "pages/webhooks/delivery/delivery.html")]
struct Page {
    path: String,
    id: Copy,
    event: String,
    event_path: Option<String>,
    event_type: String,
    status: Badge,
    queued: When,
    next: Option<When>,
    is_enabled: bool,
    summary: Summary,
    hidden: Hidden,
    attempts: Vec<Row>,
    none: Empty,
    /// Whether an attempt is about to be made.
    is_moving: bool,
}

struct Row {
    number: i32,
    when: When,
    status_code: Option<u16>,
    is_success: bool,
    error: Option<String>,
    explanation: Option<&'static str>,
    /// Whether this server is the cause, and not the receiver.
    is_own: bool,
    duration: String,
}

type Ids = Path<(ProjectId, WebhookId, DeliveryId)>;

/// Handlers of the page.
pub fn routes() -> MethodRouter<Console> {
    crate::console::pages::form(show, submit)
}

async fn show(visit: Visit, Path((project, webhook, id)): Ids) -> PageResult {
    page(&visit, project, webhook, id, &Form::new(Fields::default())).await
}

async fn submit(visit: Visit, Path((project, webhook, id)): Ids) -> Result<Response, Failure> {
    let form = visit.submitted();
    super::get(&visit, project, webhook).await?;
    match visit.api.send::<Value>(call(webhook, id).once(form.once())).await {
        Ok(_) => {
            let text = "The delivery is sent again now, with a new series of retries.";
            Ok(Redirected::to(visit.page_path()).message(&visit, text).into_response())
        }
        Err(fault) => {
            let form = form.rejected(fault, &[])?;
            Ok(page(&visit, project, webhook, id, &form).await?.into_response())
        }
    }
}

fn call(webhook: WebhookId, id: DeliveryId) -> Call {
    Call::post(format!("/v1/webhooks/{webhook}/deliveries/{id}/redeliver")).body(json!({}))
}

async fn page(visit: &Visit, project: ProjectId, webhook: WebhookId, id: DeliveryId, form: &Form) -> PageResult {
    let get = Call::get(format!("/v1/webhooks/{webhook}/deliveries/{id}"));
    let found = async { visit.api.send::<DeliveryView>(get.clone()).await.map_err(Failure::from) };
    let (owner, found) = tokio::try_join!(super::get(visit, project, webhook), found)?;
    let (owner, delivery) = (owner.body, found.body);
    let is_moving = visit.is_read() && super::is_due_soon(visit, &delivery);
    // Deliveries are kept for longer than their events.
    let is_kept = delivery.created_at > visit.now.minus(RETENTION);
    let page = Page {
        path: visit.page_path().to_owned(),
        id: Copy::new(id.to_string(), "the delivery ID"),
        event: delivery.event_id.to_string(),
        event_path: is_kept.then(|| format!("/console/projects/{project}/events/{}", delivery.event_id)),
        status: delivery.status.into(),
        queued: visit.when(delivery.created_at),
        next: delivery.next_attempt_at.map(|next| visit.when(next)),
        is_enabled: owner.enabled,
        summary: form.summary(),
        hidden: form.hidden(),
        attempts: delivery.attempts.iter().rev().map(|attempt| row(visit, attempt)).collect(),
        none: Empty::new("No attempt yet", "Each attempt shows up here with the answer of the receiver."),
        is_moving,
        event_type: delivery.event_type,
    };
    let builder = visit.page(page.event_type.clone()).project(project).crumb("Webhooks", super::list_path(project));
    let builder = builder.crumb(super::name(&owner), super::path(project, webhook));
    builder.form(form).call(get).call(call(webhook, id).once(form.once())).show(&page)
}

fn row(visit: &Visit, attempt: &Attempt) -> Row {
    let error = attempt.error.as_deref();
    Row {
        number: attempt.number,
        when: visit.when(attempt.at),
        status_code: attempt.status_code,
        is_success: error.is_none(),
        explanation: error.and_then(explanation),
        error: error.map(str::to_owned),
        is_own: attempt.cause == Some(FailureCause::Server),
        duration: duration(attempt.duration_ms),
    }
}

fn duration(millis: u64) -> String {
    if millis < 1000 { format!("{millis} ms") } else { format!("{}.{} s", millis / 1000, millis % 1000 / 100) }
}

/// What an error of an attempt means, and what to do.
fn explanation(error: &str) -> Option<&'static str> {
    Some(match error {
        "unsuccessful_status" => "The receiver did not answer with a status of 200 to 299.",
        "redirect" => "The receiver redirected. Redirects are not followed: change the URL to the final one.",
        "timeout" => {
            "The receiver did not answer within 15 seconds. Store the event first, answer, and process it then."
        }
        "connection_failed" => "The connection failed or broke. Check that the receiver runs and is reachable.",
        "tls_failed" => {
            "The TLS handshake failed. Check the certificate of the receiver: its names, its end, its chain."
        }
        "name_not_found" => "The host name does not exist.",
        "address_not_allowed" => "The host name leads to an address that is not on the public Internet.",
        "bad_answer" => "The answer is not HTTP.",
        "name_lookup_failed" => "No name server answered this server.",
        "no_route" => "This server has no route to the receiver.",
        "out_of_resources" => "This server was out of file descriptors, ports or memory.",
        "no_authorities" => "This server has no certificate authorities to check the receiver with.",
        "secret_unreadable" => "This server could not decrypt the secret. Ask the operator to check the server key.",
        "event_gone" => "The event was removed before it was sent.",
        "bad_url" => "The URL is not valid any more. Change it.",
        _ => return None,
    })
}
