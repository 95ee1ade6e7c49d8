//! `/console/sign-out`: ends the browser session, here or on all devices.

use askama::Template;
use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::MethodRouter,
};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    base::id::SessionId,
    console::{
        Console,
        browser::{Visit, cookies},
        client::{Call, Fault, List},
        view::{Failure, PageResult, Redirected},
    },
};

#[derive(Template)]
#[template(path = "pages/sign_out/sign_out.html")]
struct SignOut;

/// Session of the person.
#[derive(Deserialize)]
struct Session {
    id: SessionId,
}

/// Handlers of the page.
pub fn routes() -> MethodRouter<Console> {
    super::form(show, submit)
}

async fn show(visit: Visit) -> PageResult {
    visit.page("Sign out").bare().show(&SignOut)
}

async fn submit(visit: Visit) -> Result<Response, Failure> {
    let everywhere = visit.fields().has("everywhere", "1");
    if everywhere
        && let Err(fault) = end_others(&visit).await
        && !fault.is_signed_out()
    {
        return Err(fault.into());
    }
    let ended = visit.api.send_unrecorded::<Value>(&Call::delete("/v1/sessions/current")).await;
    // A session that ended before is signed out, too.
    if let Err(fault) = ended
        && !fault.is_signed_out()
    {
        return Err(fault.into());
    }
    let text = if everywhere { "You are signed out on all devices." } else { "You are signed out." };
    let redirect = Redirected::to("/console/sign-in").message(&visit, text);
    Ok(redirect.cookie(cookies::end_session(&visit.site)).into_response())
}

/// Ends all sessions of the person but the one of this request, which is needed until the end.
pub(super) async fn end_others(visit: &Visit) -> Result<(), Fault> {
    let own = visit.profile().await?.session.id;
    let mut cursor = String::new();
    loop {
        let call = Call::get("/v1/sessions").query("limit", 100).query("cursor", &cursor);
        let List { data, next_cursor } = visit.api.send_unrecorded::<List<Session>>(&call).await?.body;
        for session in data.into_iter().filter(|session| session.id != own) {
            let call = Call::delete(format!("/v1/sessions/{}", session.id));
            match visit.api.send_unrecorded::<Value>(&call).await {
                Ok(_) => {}
                // It ended meanwhile.
                Err(fault) if fault.status == StatusCode::NOT_FOUND => {}
                Err(fault) => return Err(fault),
            }
        }
        match next_cursor {
            Some(next) => cursor = next,
            None => return Ok(()),
        }
    }
}
