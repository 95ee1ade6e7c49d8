//! `/console/projects/{project_id}/settings/suspend`, `resume` and `archive`: change the status of the project, after its
//! name was typed.

use askama::Template;
use axum::{
    extract::Path,
    response::{IntoResponse, Response},
    routing::MethodRouter,
};
use serde_json::{Value, json};

use crate::{
    api::overview::model::Overview,
    base::id::ProjectId,
    console::{
        Console,
        browser::{Visit, fields::Fields},
        client::Call,
        forms::{Field, Form, Hidden, Summary},
        view::{Failure, PageResult, Redirected},
    },
};

/// Change of the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Suspend,
    Resume,
    Archive,
}

#[derive(Template)]
#[template(path = "pages/settings/status/status.html")]
struct Page {
    path: String,
    back: String,
    title: &'static str,
    name: String,
    lead: &'static str,
    consequences: Vec<String>,
    is_danger: bool,
    hidden: Hidden,
    summary: Summary,
    confirmation: Option<Field>,
}

/// Handlers of the page that suspends.
pub fn suspend() -> MethodRouter<Console> {
    routes(Change::Suspend)
}

/// Handlers of the page that resumes.
pub fn resume() -> MethodRouter<Console> {
    routes(Change::Resume)
}

/// Handlers of the page that archives.
pub fn archive() -> MethodRouter<Console> {
    routes(Change::Archive)
}

fn routes(change: Change) -> MethodRouter<Console> {
    let show = async move |visit: Visit, Path(project): Path<ProjectId>| -> PageResult {
        let form = visit.form(Fields::default());
        page(&visit, project, change, &form).await
    };
    let submit = async move |visit: Visit, Path(project): Path<ProjectId>| submit(visit, project, change).await;
    crate::console::pages::form(show, submit)
}

impl Change {
    /// Last part of the path, here and in the API.
    const fn verb(self) -> &'static str {
        match self {
            Self::Suspend => "suspend",
            Self::Resume => "resume",
            Self::Archive => "archive",
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Suspend => "Suspend the project",
            Self::Resume => "Resume the project",
            Self::Archive => "Archive the project",
        }
    }

    const fn lead(self) -> &'static str {
        match self {
            Self::Suspend => "stops for its programs at once, until an owner resumes it.",
            Self::Resume => "works again: its keys and tokens are accepted as before.",
            Self::Archive => "stops for its programs at once. It can be resumed, or deleted for good.",
        }
    }

    const fn done(self) -> &'static str {
        match self {
            Self::Suspend => "The project is suspended. Its keys and tokens no longer work on any server.",
            Self::Resume => "The project is active again. Its keys and tokens work.",
            Self::Archive => "The project is archived. Its keys and tokens no longer work on any server.",
        }
    }
}

async fn submit(visit: Visit, project: ProjectId, change: Change) -> Result<Response, Failure> {
    let form = visit.submitted();
    if change != Change::Resume && !form.is_confirmed(&super::get(&visit, project).await?.body.name) {
        let form = form.unconfirmed("name of the project");
        return Ok(page(&visit, project, change, &form).await?.into_response());
    }
    match visit.api.send::<Value>(call(project, change, &form)).await {
        Ok(_) => Ok(Redirected::to(super::path(project)).message(&visit, change.done()).into_response()),
        Err(fault) => {
            let form = form.rejected(fault, &[])?;
            Ok(page(&visit, project, change, &form).await?.into_response())
        }
    }
}

fn call(project: ProjectId, change: Change, form: &Form) -> Call {
    Call::post(format!("/v1/projects/{project}/{}", change.verb())).body(json!({})).once(form.once())
}

async fn page(visit: &Visit, project: ProjectId, change: Change, form: &Form) -> PageResult {
    let overview = visit.api.get::<Overview>(format!("/v1/projects/{project}/overview")).await?.body;
    let consequences = match change {
        Change::Resume => Vec::new(),
        _ => consequences(&overview, "stop working"),
    };
    let page = Page {
        path: format!("{}/{}", super::path(project), change.verb()),
        back: super::path(project),
        title: change.title(),
        name: overview.name,
        lead: change.lead(),
        consequences,
        is_danger: change != Change::Resume,
        hidden: form.hidden(),
        summary: form.summary(),
        confirmation: (change != Change::Resume).then(|| form.confirmation("name of the project").focused()),
    };
    let builder = visit.page(change.title()).project(project).crumb("Settings", super::path(project));
    builder.form(form).call(call(project, change, form)).show(&page)
}

/// What stops or goes with the project.
pub(super) fn consequences(overview: &Overview, what: &str) -> Vec<String> {
    let plural = |count: i64, one: &str, many: &str| match count {
        1 => format!("1 {one}"),
        // Counted up to this number.
        1000.. => format!("1,000 or more {many}"),
        count => format!("{count} {many}"),
    };
    let keys = overview.keys.as_ref().map(|keys| match keys.active {
        0 => format!("It has no active keys. All tokens {what}."),
        active => format!("{}, and all tokens, {what}.", plural(active, "active key", "active keys")),
    });
    let usage =
        overview.usage.as_ref().map(|usage| format!("The project had {} this month.", plural_requests(usage.requests)));
    keys.into_iter().chain(usage).collect()
}

fn plural_requests(count: i64) -> String {
    let text = crate::console::components::chart::number(count);
    if count == 1 { "1 request".to_owned() } else { format!("{text} requests") }
}
