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

/// Session of the person.
#[derive(Deserialize)]
struct OwnSession {
    id: SessionId,
}

const MEMBER: &str = "/console/projects/{project_id}/members/{user_id}";
const ACCOUNT: &str = "/console/account";
/// Projects in which a user is searched.
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
    // An event has the number of its audit entry.
    let entry = text.parse::<EventId>().ok().map(|_| text.replacen("evt_", "aud_", 1));
    let text = entry.as_deref().filter(|_| kind_of(text).is_none()).unwrap_or(text);
    let Some(object) = kind_of(text) else { return Ok(None) };
    let found = unless_hidden(visit.api.get::<Found>(object.api(text)).await)?;
    Ok(found.map(|found| object.page(found.body.project_id, text)))
}

/// The page of a member, first in the project that the person is looking at.
async fn path_of_user(visit: &Visit, user: UserId) -> Result<Option<String>, Failure> {
    if !has_page(MEMBER) {
        return Ok(None);
    }
    let here = visit.fields().get("project").parse::<ProjectId>().ok();
    let memberships = &visit.profile().await?.memberships;
    let others = memberships.iter().map(|membership| membership.project_id).filter(|project| Some(*project) != here);
    for project in here.into_iter().chain(others).take(MAX_PROJECTS) {
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
