//! `/console/projects/{project_id}/audit/export`: the whole trail as a file, as the API exports it.

use axum::{
    extract::Path,
    http::header,
    response::Response,
    routing::{MethodRouter, get},
};

use crate::{
    base::id::ProjectId,
    console::{
        Console,
        browser::{Visit, visit::PageQuery},
        client::Call,
        view::Failure,
    },
};

/// Handlers of the page.
pub fn routes() -> MethodRouter<Console> {
    get(show)
}

async fn show(visit: Visit, Path(project): Path<ProjectId>, PageQuery(query): PageQuery) -> Result<Response, Failure> {
    let call = Call::get("/v1/audit-logs/export").query("project_id", project).query("format", query.get("format"));
    let exported = visit.api.stream(&call).await?;
    let (head, body) = exported.into_parts();
    let mut response = Response::new(body);
    for name in [header::CONTENT_TYPE, header::CONTENT_DISPOSITION] {
        if let Some(value) = head.headers.get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    Ok(response)
}
