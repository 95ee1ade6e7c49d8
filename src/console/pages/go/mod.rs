//! `/console/go`: opens the object with a pasted ID. It is a form and not a link, because people also paste secrets,
//! which must not be in a URL.

use askama::Template;
use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{MethodRouter, get},
};
use serde::Deserialize;

use super::objects::kind_of;
use crate::{
    base::{id::ProjectId, identity::secret::Secret},
    console::{
        Console,
        browser::Visit,
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
    let Some(object) = kind_of(text) else { return Ok(None) };
    match visit.api.get::<Found>(object.api(text)).await {
        Ok(found) => Ok(Some(object.page(found.body.project_id, text))),
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
