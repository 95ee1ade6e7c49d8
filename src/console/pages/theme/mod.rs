//! `/console/theme`: the switch between light, dark and the system's theme.

use axum::{
    response::{IntoResponse, Response},
    routing::{MethodRouter, post},
};

use crate::console::{
    Console,
    browser::{Visit, cookies, return_path::checked},
    view::Redirected,
};

/// Handlers of the page.
pub fn routes() -> MethodRouter<Console> {
    post(submit)
}

async fn submit(visit: Visit) -> Response {
    let theme = ["light", "dark"].into_iter().find(|theme| visit.fields().get("theme") == *theme).unwrap_or("system");
    let path = checked(visit.fields().get("return"));
    Redirected::to(path).cookie(cookies::theme(&visit.site, theme)).into_response()
}
