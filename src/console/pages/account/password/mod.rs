//! `/console/account/password`: changes the password, or sets one with a sign-in link.

use askama::Template;
use axum::{
    response::{IntoResponse, Response},
    routing::MethodRouter,
};
use serde_json::{Value, json};

use super::PATH;
use crate::{
    base::error::Code,
    console::{
        Console,
        browser::{Visit, fields::Fields},
        client::{Call, Fault},
        forms::{Field, Form, Summary},
        view::{Failure, PageResult, Redirected},
    },
};

#[derive(Template)]
#[template(path = "pages/account/password/password.html")]
struct ChangePassword {
    email: String,
    has_password: bool,
    /// Whether the field for a link is visible.
    with_link: bool,
    summary: Summary,
    current: Field,
    link: Field,
    new: Field,
}

/// Field with a sign-in link. Its name has the word that keeps its value out of pages.
const LINK: &str = "password_link";

/// Handlers of the page.
pub fn routes() -> MethodRouter<Console> {
    crate::console::pages::form(show, submit)
}

async fn show(visit: Visit) -> PageResult {
    page(&visit, &Form::new(Fields::default())).await
}

async fn submit(visit: Visit) -> Result<Response, Failure> {
    let form = visit.submitted();
    let sent = visit.api.send_unrecorded::<Value>(&call(&form)).await;
    match sent {
        Ok(done) => {
            let text = match done.body.get("sessions_revoked").and_then(Value::as_u64) {
                None | Some(0) => "The password is changed.".to_owned(),
                Some(1) => "The password is changed. Another session has ended.".to_owned(),
                Some(count) => format!("The password is changed. {count} other sessions have ended."),
            };
            Ok(Redirected::to(PATH).message(&visit, &text).into_response())
        }
        Err(fault) => Ok(page(&visit, &rejected(form, fault)?).await?.into_response()),
    }
}

fn rejected(form: Form, fault: Fault) -> Result<Form, Failure> {
    match fault.code() {
        Code::InvalidCurrentPassword => {
            Ok(form.with_fault("current_password", "This is not your current password. Check it, and try again."))
        }
        _ => form.rejected(fault, &[("sign_in_link", LINK)]),
    }
}

/// Spaces at the ends of a password belong to it.
fn call(form: &Form) -> Call {
    let password = |name: &str| form.fields().raw(name).unwrap_or_default().to_owned();
    let link = form.value(LINK);
    let body = if link.is_empty() {
        json!({ "current_password": password("current_password"), "new_password": password("new_password") })
    } else {
        // The secret, or the address that it was printed in.
        let secret = link.find("lnk_").and_then(|start| link.get(start..)).unwrap_or(link);
        json!({ "sign_in_link": secret, "new_password": password("new_password") })
    };
    Call::post("/v1/users/me/password").body(body)
}

async fn page(visit: &Visit, form: &Form) -> PageResult {
    let profile = visit.profile().await?;
    let link = form.password(LINK, "Sign-in link").kind("text").hint("Paste the address that the command prints.");
    let page = ChangePassword {
        email: profile.email.to_string(),
        has_password: profile.has_password,
        with_link: !form.faults_of(LINK).is_empty(),
        summary: form.summary(),
        current: form.password("current_password", "Current password").autocomplete("current-password").focused(),
        link: if profile.has_password { link } else { link.required().focused() },
        new: form
            .password("new_password", "New password")
            .hint("At least 12 characters. Several unrelated words are easy to remember.")
            .required()
            .autocomplete("new-password"),
    };
    let title = if profile.has_password { "Change the password" } else { "Set a password" };
    // What was typed is not shown as a call.
    let example = json!({ "current_password": "…", "new_password": "…" });
    let builder = visit.page(title).crumb("Account", PATH).form(form);
    builder.call(Call::post("/v1/users/me/password").body(example)).show(&page)
}
