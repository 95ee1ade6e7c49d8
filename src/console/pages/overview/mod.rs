//! `/console/projects/{project_id}`: usage of this month, what needs attention, and the latest events.

use askama::Template;
use axum::{
    extract::Path,
    routing::{MethodRouter, get},
};

use crate::{
    api::{
        keys::overview::KeySummary,
        overview::model::{Overview, ResourceSummary, UsageOverview, WebhookSummary},
    },
    base::{
        id::ProjectId,
        identity::{scope::Scope, tenant::ProjectStatus},
        runtime::clock::Timestamp,
    },
    console::{
        Console,
        browser::Visit,
        client::{Call, List},
        components::{
            chart::{Bars, Meter, number},
            icon::Icon,
            live::Live,
            status::{Badge, Empty},
            text::api_name,
            time::{When, month},
        },
        pages::{
            events::{Event, Row},
            objects::page_of,
        },
        view::PageResult,
    },
};

#[derive(Template)]
#[template(path = "pages/overview/overview.html")]
struct Page {
    path: String,
    project: Overview,
    /// What to do first, while the project has no keys.
    first_steps: Option<FirstSteps>,
    usage: Option<Usage>,
    attention: Vec<Attention>,
    live: Live,
    events: Vec<Row>,
    no_events: Empty,
}

/// First steps in a new project.
struct FirstSteps {
    command: String,
    may_invite: bool,
}

/// Usage of this month.
struct Usage {
    month: String,
    requests: String,
    chart: Bars,
    quotas: Vec<Meter>,
}

/// Something that needs attention.
struct Attention {
    /// Page of the object, if there is one.
    path: Option<String>,
    label: String,
    reason: String,
    when: Option<When>,
}

/// Number of events.
const EVENTS: usize = 8;

/// Handlers of the page.
pub fn routes() -> MethodRouter<Console> {
    get(show)
}

async fn show(visit: Visit, Path(id): Path<ProjectId>) -> PageResult {
    let api = &visit.api;
    let events = Call::get("/v1/events").query("project_id", id).query("order", "desc").query("limit", EVENTS);
    let (overview, events, allowed) = tokio::try_join!(
        api.get::<Overview>(format!("/v1/projects/{id}/overview")),
        api.send::<List<Event>>(events),
        visit.scopes(id),
    )?;
    let overview = overview.body;
    let newest = events.body.data.first().map(|event| event.id.to_string());
    let has_keys = overview.keys.as_ref().is_none_or(|keys| keys.active + keys.expired + keys.revoked > 0);
    let may_begin = overview.status == ProjectStatus::Active && allowed.contains(Scope::KeysWrite);
    let page = Page {
        path: format!("/console/projects/{id}"),
        first_steps: (!has_keys && may_begin).then(|| FirstSteps {
            command: Call::get(format!("/v1/projects/{id}")).curl(&visit.site.base),
            may_invite: allowed.contains(Scope::UsersWrite),
        }),
        usage: overview.usage.as_ref().map(usage),
        attention: attention(&visit, id, &overview),
        live: Live::new(id).after(newest.as_deref()),
        events: events.body.data.into_iter().map(|event| Row::new(&visit, id, event)).collect(),
        no_events: Empty::new(
            "No events yet",
            "What happens in this project shows up here: new keys, members, resources.",
        ),
        project: overview,
    };
    visit.page("Overview").project(id).show(&page)
}

fn usage(usage: &UsageOverview) -> Usage {
    let days: Vec<(String, i64)> = usage.days.iter().map(|day| (day.day.0.to_string(), day.requests)).collect();
    let included = usage.included.map(|included| Meter::new("Included requests", usage.requests, included));
    let limit = usage.hard_limit.map(|limit| Meter::new("Limit of requests", usage.requests, limit));
    Usage {
        month: month(usage.period_start.0),
        requests: number(usage.requests),
        chart: Bars::new("requests", "Requests per day this month", "Day", &days, usage.period_end.0.day().into()),
        quotas: included.into_iter().chain(limit).collect(),
    }
}

/// What needs attention, the most urgent first.
fn attention(visit: &Visit, project: ProjectId, overview: &Overview) -> Vec<Attention> {
    let item = |id: String, label: &str, reason: &str, when: Option<Timestamp>| Attention {
        path: page_of(project, &id),
        label: if label.is_empty() { id } else { label.to_owned() },
        reason: reason.to_owned(),
        when: when.map(|when| visit.when(when)),
    };
    let resource = |resource: &ResourceSummary| {
        let conditions: Vec<String> = resource.conditions.iter().map(api_name).collect();
        item(resource.id.to_string(), &resource.name, &format!("Resource {}", conditions.join(", ")), None)
    };
    let webhook = |webhook: &WebhookSummary| {
        let reason = if webhook.enabled { "Webhook fails since" } else { "Webhook is disabled" };
        item(webhook.id.to_string(), &webhook.url, reason, webhook.failing_since)
    };
    let expiring = |key: &KeySummary| item(key.id.to_string(), &key.name, "Key expires", key.expires_at);
    let unused = |key: &KeySummary| {
        let reason = if key.last_used_at.is_some() { "Key last used" } else { "Key was never used" };
        item(key.id.to_string(), &key.name, reason, key.last_used_at)
    };
    let mut found: Vec<Attention> = overview.resources.iter().map(resource).collect();
    if let Some(webhooks) = &overview.webhooks {
        found.extend(webhooks.attention.iter().map(webhook));
    }
    if let Some(keys) = &overview.keys {
        found.extend(keys.expiring.iter().map(expiring));
        found.extend(keys.unused.iter().map(unused));
    }
    found
}
