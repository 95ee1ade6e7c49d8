//! `/console/sign-in`: with a password, or with a one-time link.

use askama::Template;
use axum::{
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
    routing::{MethodRouter, get},
};
use serde_json::json;

use crate::console::{
    Console,
    browser::{
        Visit,
        fields::{Fields, TYPED},
        return_path::checked,
        visit::{NewSession, PageQuery},
    },
    client::{Call, Fault},
    forms::{Field, Form, Summary},
    view::{Content, Failure, PageResult, Redirected},
};

#[derive(Template)]
#[template(path = "pages/sign_in/sign_in.html")]
struct SignIn<'a> {
    email: Field,
    password: Field,
    summary: Summary,
    return_path: &'a str,
    typed: Option<String>,
    /// Secret of a one-time link, which a button uses.
    link: Option<&'a str>,
    /// New password, which a link can set.
    new_password: Field,
    is_rejected: bool,
}

/// Field with the new password.
const NEW_PASSWORD: &str = "new_password";

/// Handlers of the page.
pub fn routes() -> MethodRouter<Console> {
    get(show).post(submit)
}

async fn show(visit: Visit, PageQuery(query): PageQuery) -> PageResult {
    let form = Form::new(Fields::default());
    let return_path = checked(query.get("return"));
    let link = query.get("link");
    if !link.is_empty() {
        return page(&visit, &form, return_path, None, Some(link), StatusCode::OK);
    }
    content(&visit, &form, return_path, None, StatusCode::OK)
}

/// The page with the form for a password. `typed` is another form, which is shown after signing in.
pub fn content(visit: &Visit, form: &Form, return_path: &str, typed: Option<String>, status: StatusCode) -> PageResult {
    page(visit, form, return_path, typed, None, status)
}

fn page(
    visit: &Visit,
    form: &Form,
    return_path: &str,
    typed: Option<String>,
    link: Option<&str>,
    status: StatusCode,
) -> PageResult {
    let page = SignIn {
        email: form.text("email", "Email").kind("email").required().focused().autocomplete("username"),
        password: form.password("password", "Password").required().autocomplete("current-password"),
        new_password: form
            .password(NEW_PASSWORD, "New password")
            .hint("At least 12 characters. Several unrelated words are easy to remember.")
            .required()
            .autocomplete("new-password"),
        is_rejected: form.is_rejected(),
        summary: form.summary(),
        return_path,
        typed,
        link,
    };
    let content = visit.page("Sign in").status(status).bare().show(&page)?;
    Ok(Content { calls: Vec::new(), ..content })
}

async fn submit(visit: Visit) -> Result<Response, Failure> {
    let form = visit.submitted();
    let return_path = checked(form.value("return")).to_owned();
    let typed = form.fields().raw(TYPED).map(str::to_owned);
    let link = form.value("link");
    let with_password = form.fields().has("with", "password");
    let body = match link {
        "" => json!({
            "email": form.value("email"),
            // Spaces at the ends of a password belong to it.
            "password": form.fields().raw("password").unwrap_or_default(),
        }),
        link if with_password => {
            json!({ "sign_in_link": link, "new_password": form.fields().raw(NEW_PASSWORD).unwrap_or_default() })
        }
        link => json!({ "sign_in_link": link }),
    };
    let call = Call::post("/v1/sessions").body(body);
    match visit.api.send_unrecorded::<NewSession>(&call).await {
        Ok(issued) => {
            let cookie = issued.body.cookie(&visit.site)?;
            let mut response = match typed {
                // The browser posts the form again, with what was typed in it. It is shown and not submitted: another
                // person may have signed in.
                Some(_) => Redirect::temporary(&return_path).into_response(),
                None => Redirected::to(return_path).into_response(),
            };
            response.headers_mut().append(axum::http::header::SET_COOKIE, cookie);
            Ok(response)
        }
        // The link is as it was: only the new password is not accepted.
        Err(fault) if fault.is_about_input() && with_password => {
            let form = Form::new(Fields::default()).rejected(fault, &[("sign_in_link", "")])?;
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            Ok(page(&visit, &form, &return_path, None, Some(link), status)?.into_response())
        }
        Err(fault) => {
            let detail = rejection(&fault, !link.is_empty()).ok_or(fault)?;
            let fields = Fields::default().with("email", form.value("email"));
            let form = Form::new(fields).with_fault("", &detail);
            let page = content(&visit, &form, &return_path, typed, StatusCode::UNAUTHORIZED)?;
            Ok(page.into_response())
        }
    }
}

/// Why the API did not sign the person in, unless the fault is not about what was typed.
fn rejection(fault: &Fault, is_link: bool) -> Option<String> {
    match fault.status.as_u16() {
        401 | 400 | 422 if is_link => {
            Some("This sign-in link has expired or was used already. Open a new one: cloudapi admin console-link --email YOUR-EMAIL prints it.".into())
        }
        401 | 400 | 422 => Some("The email address or the password is wrong. Check both, and try again.".into()),
        _ => None,
    }
}
