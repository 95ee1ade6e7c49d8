//! `/console/go`: opens the object with a pasted ID. It is a form and not a link, because people also paste secrets,
//! which must not be in a URL.

use askama::Template;
use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{MethodRouter, get},
};
use serde::Deserialize;
use serde_json::Value;

use super::{TABLE, objects::kind_of};
use crate::{
    base::{
        id::{EventId, ProjectId, SessionId, UserId},
        identity::secret::Secret,
    },
    console::{
        Console,
        browser::Visit,
        client::{Call, Fault, List},
        view::{Content, Failure, PageResult, Redirected},
    },
};

#[derive(Template)]
#[template(path = "pages/go/go.html")]
struct Go<'a> {
    text: &'a str,
    is_secret: bool,
}

/// Object of a project.
#[derive(Deserialize)]
struct Found {
    project_id: ProjectId,
}

/// Event of a project.
#[derive(Deserialize)]
struct FoundEvent {
    id: EventId,
}

/// Session of the person.
#[derive(Deserialize)]
struct OwnSession {
    id: SessionId,
}

const MEMBER: &str = "/console/projects/{project_id}/members/{user_id}";
const EVENT: &str = "/console/projects/{project_id}/events/{event_id}";
const ACCOUNT: &str = "/console/account";
/// Projects in which a user or an event is searched.
const MAX_PROJECTS: usize = 10;

/// Handlers of the page.
pub fn routes() -> MethodRouter<Console> {
    get(show).post(submit)
}

async fn show(visit: Visit) -> PageResult {
    page(&visit, "", StatusCode::OK)
}

async fn submit(visit: Visit) -> Result<Response, Failure> {
    let text = visit.fields().get("q").to_owned();
    match path_of(&visit, &text).await? {
        Some(path) => Ok(Redirected::to(path).into_response()),
        None => Ok(page(&visit, &text, StatusCode::NOT_FOUND)?.into_response()),
    }
}

/// Path of the page of an object, if there is one.
async fn path_of(visit: &Visit, text: &str) -> Result<Option<String>, Failure> {
    if let Ok(project) = text.parse::<ProjectId>() {
        return Ok(Some(format!("/console/projects/{project}")));
    }
    if let Ok(user) = text.parse::<UserId>() {
        return path_of_user(visit, user).await;
    }
    if let Ok(session) = text.parse::<SessionId>() {
        return path_of_session(visit, session).await;
    }
    if let Ok(event) = text.parse::<EventId>() {
        return path_of_event(visit, event).await;
    }
    let Some(object) = kind_of(text) else { return Ok(None) };
    let found = unless_hidden(visit.api.get::<Found>(object.api(text)).await)?;
    Ok(found.map(|found| object.page(found.body.project_id, text)))
}

/// The projects of the person, first the one that the person is looking at.
async fn projects(visit: &Visit) -> Result<Vec<ProjectId>, Fault> {
    let here = visit.fields().get("project").parse::<ProjectId>().ok();
    let memberships = &visit.profile().await?.memberships;
    let others = memberships.iter().map(|membership| membership.project_id).filter(|project| Some(*project) != here);
    Ok(here.into_iter().chain(others).take(MAX_PROJECTS).collect())
}

/// The page of an event, in the first project that has it.
async fn path_of_event(visit: &Visit, event: EventId) -> Result<Option<String>, Failure> {
    if !has_page(EVENT) {
        return Ok(None);
    }
    // The newest event before the next ID.
    let next = EventId::from_u128(event.as_u128().saturating_add(1));
    for project in projects(visit).await? {
        let call = Call::get("/v1/events").query("project_id", project).query("order", "desc").query("limit", 1);
        let found = match visit.api.send::<List<FoundEvent>>(call.query("cursor", next)).await {
            // Events are kept for some days.
            Err(fault) if fault.status == StatusCode::GONE => None,
            found => unless_hidden(found)?,
        };
        if found.is_some_and(|found| found.body.data.iter().any(|found| found.id == event)) {
            return Ok(Some(format!("/console/projects/{project}/events/{event}")));
        }
    }
    Ok(None)
}

/// The page of a member, first in the project that the person is looking at.
async fn path_of_user(visit: &Visit, user: UserId) -> Result<Option<String>, Failure> {
    if !has_page(MEMBER) {
        return Ok(None);
    }
    for project in projects(visit).await? {
        let call = Call::get(format!("/v1/users/{user}")).query("project_id", project);
        if unless_hidden(visit.api.send::<Value>(call).await)?.is_some() {
            return Ok(Some(format!("/console/projects/{project}/members/{user}")));
        }
    }
    Ok(None)
}

/// The account page, if it lists the session.
async fn path_of_session(visit: &Visit, session: SessionId) -> Result<Option<String>, Failure> {
    if !has_page(ACCOUNT) {
        return Ok(None);
    }
    let call = Call::get("/v1/sessions").query("limit", 100);
    let own = visit.api.send::<List<OwnSession>>(call).await?.body.data;
    Ok(own.iter().any(|own| own.id == session).then(|| ACCOUNT.to_owned()))
}

fn has_page(path: &str) -> bool {
    TABLE.iter().any(|page| page.path == path)
}

/// `None` for an object that the person cannot see.
fn unless_hidden<T>(found: Result<T, Fault>) -> Result<Option<T>, Failure> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(fault) if fault.status == StatusCode::NOT_FOUND => Ok(None),
        Err(fault) => Err(fault.into()),
    }
}

fn page(visit: &Visit, text: &str, status: StatusCode) -> PageResult {
    // A secret is not shown again.
    let is_secret = Secret::redact(text) != text;
    let page = Go { text: if is_secret { "" } else { text }, is_secret };
    let content = visit.page("Find by ID").status(status).show(&page)?;
    Ok(Content { calls: Vec::new(), ..content })
}
