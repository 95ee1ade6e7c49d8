//! `/console/invitation`: an invited person sets a password, and is a member and signed in.

use askama::Template;
use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{MethodRouter, get},
};
use serde_json::json;

use crate::{
    base::error::Code,
    console::{
        Console,
        browser::{
            Visit,
            fields::Fields,
            visit::{NewSession, PageQuery},
        },
        client::{Call, Fault},
        forms::{Field, Form, Summary},
        view::{Content, Failure, PageResult, Redirected},
    },
};

#[derive(Template)]
#[template(path = "pages/invitation/invitation.html")]
struct Invitation<'a> {
    /// Secret of the invitation. Empty if it has to be pasted.
    secret: &'a str,
    pasted: Field,
    password: Field,
    summary: Summary,
}

/// Handlers of the page.
pub fn routes() -> MethodRouter<Console> {
    get(show).post(submit)
}

async fn show(visit: Visit, PageQuery(query): PageQuery) -> PageResult {
    page(&visit, query.get("invitation"), &Form::new(Fields::default()), StatusCode::OK)
}

async fn submit(visit: Visit) -> Result<Response, Failure> {
    let typed = visit.fields().get("invitation");
    // The secret, or the address that it is in.
    let secret = typed.find("inv_").and_then(|start| typed.get(start..)).unwrap_or(typed);
    // Spaces at the ends of a password belong to it.
    let password = visit.fields().raw("password").unwrap_or_default();
    let call = Call::post("/v1/invitations/accept").body(json!({ "token": secret, "password": password }));
    match visit.api.send_unrecorded::<NewSession>(&call).await {
        Ok(session) => {
            let redirect = Redirected::to("/console").message(&visit, "Welcome. You are a member now.");
            Ok(redirect.cookie(Some(session.body.cookie(&visit.site)?)).into_response())
        }
        Err(fault) => {
            let form = rejected(Form::new(Fields::default().with("invitation", typed)), fault)?;
            Ok(page(&visit, secret, &form, StatusCode::UNPROCESSABLE_ENTITY)?.into_response())
        }
    }
}

/// The form with what is wrong. The texts of the API are about the API, and people here may not know it.
fn rejected(form: Form, fault: Fault) -> Result<Form, Failure> {
    match fault.code() {
        Code::InvalidCredentials => Ok(form.with_fault(
            "password",
            "You have an account already, and this is not its password. Enter the password that you sign in with.",
        )),
        Code::NotFound => Ok(form.with_fault("", "There is no such invitation. Copy the whole link, or ask for a new one.")),
        Code::InvalidState => Ok(form.with_fault(
            "",
            "The invitation was accepted or withdrawn, or has expired. Sign in if you have accepted it, or ask for a new one.",
        )),
        _ => form.rejected(fault, &[("token", "invitation")]),
    }
}

fn page(visit: &Visit, secret: &str, form: &Form, status: StatusCode) -> PageResult {
    let page = Invitation {
        secret,
        pasted: form.text("invitation", "Invitation").hint("The link that you received.").required().focused(),
        password: form
            .password("password", "Password")
            .hint("New here? Choose one with at least 12 characters. Otherwise, enter the one that you sign in with.")
            .required()
            .autocomplete("new-password"),
        summary: form.summary(),
    };
    let content = visit.page("Accept the invitation").status(status).bare().show(&page)?;
    Ok(Content { calls: Vec::new(), ..content })
}
