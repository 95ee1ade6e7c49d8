//! `/console`: the projects of the person. With one project, its overview.

use askama::Template;
use axum::{
    response::{IntoResponse, Response},
    routing::{MethodRouter, get},
};

use crate::{
    api::projects::model::Project,
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
        view::{Failure, Redirected},
    },
};

#[derive(Template)]
#[template(path = "pages/home/home.html")]
struct Home {
    rows: Vec<Row>,
    paging: Paging,
    empty: Empty,
}

struct Row {
    project: Project,
    created: When,
}

/// Handlers of the page.
pub fn routes() -> MethodRouter<Console> {
    get(show)
}

async fn show(visit: Visit, PageQuery(query): PageQuery) -> Result<Response, Failure> {
    let call = Call::get("/v1/projects").query("limit", 50).query("cursor", query.get("cursor"));
    let List { data, next_cursor } = visit.api.send::<List<Project>>(call).await?.body;
    if let ([only], true) = (data.as_slice(), query.is_empty()) {
        return Ok(Redirected::to(format!("/console/projects/{}", only.id)).into_response());
    }
    let page = Home {
        paging: Paging::new(&visit, &query, &[], next_cursor.as_deref()),
        rows: data.into_iter().map(|project| Row { created: visit.when(project.created_at), project }).collect(),
        empty: Empty::new(
            "No projects yet",
            "Create one, or ask somebody to invite you to theirs. Keys, members and usage belong to a project.",
        )
        .action("Create a project", "/console/projects/new"),
    };
    Ok(visit.page("Projects").show(&page)?.into_response())
}
