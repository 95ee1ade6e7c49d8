//! `/console/projects/{project_id}/events/stream`: the events as they happen, for the scripts of pages. It is the stream
//! of the API, which also ends it when the session ends.

use axum::{
    extract::Path,
    http::HeaderMap,
    response::Response,
    routing::{MethodRouter, get},
};

use crate::{
    base::id::ProjectId,
    console::{Console, browser::Visit, client::Call, view::Failure},
};

/// Handlers of the stream.
pub fn routes() -> MethodRouter<Console> {
    get(stream)
}

async fn stream(visit: Visit, Path(project): Path<ProjectId>, headers: HeaderMap) -> Result<Response, Failure> {
    let after = headers.get("last-event-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
    let call = Call::get("/v1/events/stream").query("project_id", project).resume_after(after);
    Ok(visit.api.stream(&call).await?)
}
