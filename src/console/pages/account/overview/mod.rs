//! `/console/account`: the person, and the sessions of the person.

use askama::Template;
use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::MethodRouter,
};
use serde_json::Value;

use super::{PATH, device};
use crate::{
    api::sessions::model::SessionView,
    auth::credentials::sessions::SessionKind,
    base::id::SessionId,
    console::{
        Console,
        browser::{Visit, visit::PageQuery},
        client::{Call, List},
        components::{list::Paging, secret::Copy, time::When},
        pages::sign_out::end_others,
        view::{Failure, PageResult, Redirected},
    },
};

#[derive(Template)]
#[template(path = "pages/account/overview/overview.html")]
struct Account {
    email: String,
    id: Copy,
    has_password: bool,
    created: When,
    rows: Vec<Row>,
    has_others: bool,
    paging: Paging,
}

struct Row {
    id: SessionId,
    device: String,
    user_agent: String,
    address: String,
    is_console: bool,
    is_current: bool,
    created: When,
    last_used: Option<When>,
}

/// Handlers of the page.
pub fn routes() -> MethodRouter<Console> {
    crate::console::pages::form(show, submit)
}

async fn show(visit: Visit, PageQuery(query): PageQuery) -> PageResult {
    let call = Call::get("/v1/sessions").query("order", "desc").query("cursor", query.get("cursor"));
    let (found, profile) = tokio::try_join!(visit.api.send::<List<SessionView>>(call), visit.profile())?;
    let List { data, next_cursor } = found.body;
    let page = Account {
        email: profile.email.to_string(),
        id: Copy::new(profile.id.to_string(), "your user ID"),
        has_password: profile.has_password,
        created: visit.when(profile.created_at),
        paging: Paging::new(&visit, &query, &[], next_cursor.as_deref()),
        has_others: data.iter().any(|session| session.id != profile.session.id),
        rows: data.into_iter().map(|session| row(&visit, session, profile.session.id)).collect(),
    };
    visit.page("Account").show(&page)
}

fn row(visit: &Visit, session: SessionView, current: SessionId) -> Row {
    let is_console = session.kind == SessionKind::Console;
    let device = session.user_agent.as_deref().map(device::name);
    Row {
        id: session.id,
        device: device.unwrap_or_else(|| "Created by the operator".into()),
        user_agent: session.user_agent.unwrap_or_default(),
        address: session.source_ip.unwrap_or_default(),
        is_console,
        is_current: session.id == current,
        created: visit.when(session.created_at),
        last_used: session.last_used_at.map(|time| visit.when(time)),
    }
}

async fn submit(visit: Visit) -> Result<Response, Failure> {
    if visit.fields().has("others", "1") {
        end_others(&visit).await?;
        return Ok(Redirected::to(PATH).message(&visit, "All other sessions have ended.").into_response());
    }
    let Ok(id) = visit.fields().get("session").parse::<SessionId>() else { return Err(Failure::not_found()) };
    if id == visit.profile().await?.session.id {
        return Ok(Redirected::to("/console/sign-out").into_response());
    }
    match visit.api.send::<Value>(Call::delete(format!("/v1/sessions/{id}"))).await {
        Ok(_) => {}
        // It ended meanwhile.
        Err(fault) if fault.status == StatusCode::NOT_FOUND => {}
        Err(fault) => return Err(fault.into()),
    }
    Ok(Redirected::to(PATH).message(&visit, "The session has ended.").into_response())
}
