//! Pages for problems. Each says what happened and what to do next, and keeps what was typed.

use askama::Template;
use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};

use super::{Content, Failure, to_sign_in};
use crate::{
    base::{error::Code, id::ProjectId},
    console::{
        browser::{
            Visit,
            fields::{Fields, LINK, PASSWORD},
        },
        client::Fault,
        forms::{Field, Form, Summary},
        pages::sign_in,
    },
    http::catalog::entry,
};

#[derive(Template)]
#[template(path = "view/problem.html")]
struct Problem<'a> {
    title: String,
    detail: String,
    steps: Vec<&'static str>,
    /// What was typed, in one field, and the page that the form belongs to.
    typed: Option<String>,
    action: &'a str,
    can_retry: bool,
    request_id: Option<String>,
    code: Option<Code>,
}

/// Makes the page of a failure, or a redirect to the sign-in page.
pub async fn content(visit: &Visit, failure: Failure) -> Result<Content, Box<Response>> {
    let failure = match failure {
        Failure::Unconfirmed(fault) => match confirm(visit, fault).await {
            Ok(content) => return Ok(content),
            Err(failure) => failure,
        },
        failure => failure,
    };
    match failure {
        Failure::Fault(fault) => of_fault(visit, &fault),
        Failure::SignedOut => sign_in(visit),
        // The profile needs no confirmation.
        Failure::Unconfirmed(_) => Err(unrenderable(failure)),
        Failure::ForeignOrigin => of_text(
            visit,
            StatusCode::FORBIDDEN,
            "This form came from another site",
            "The browser did not say that a page of this console sent the form, so nothing was changed.",
            &["Open the page here, and submit the form again.", "If you did open it here, update your browser."],
        ),
        Failure::NoPage(StatusCode::METHOD_NOT_ALLOWED) => of_text(
            visit,
            StatusCode::METHOD_NOT_ALLOWED,
            "This page has no such form",
            "The page does not accept this request.",
            &["Go back and reload the page."],
        ),
        Failure::NoPage(_) => of_text(
            visit,
            StatusCode::NOT_FOUND,
            "There is no page at this address",
            "The address may have been cut off or mistyped.",
            &["Check the address.", "Find an object by its ID with the search at the top."],
        ),
    }
}

fn of_text(
    visit: &Visit,
    status: StatusCode,
    title: &str,
    detail: &str,
    steps: &[&'static str],
) -> Result<Content, Box<Response>> {
    let problem = Problem {
        title: title.to_owned(),
        detail: detail.to_owned(),
        steps: steps.to_vec(),
        typed: None,
        action: visit.page_path(),
        can_retry: false,
        request_id: None,
        code: None,
    };
    show(visit, status, &problem)
}

/// The page of a problem of the API.
fn of_fault(visit: &Visit, fault: &Fault) -> Result<Content, Box<Response>> {
    let can_retry = matches!(fault.status.as_u16(), 408 | 429 | 500..);
    let steps: &[&'static str] = match (fault.status.as_u16(), fault.code()) {
        (_, Code::IdempotencyKeyReused | Code::IdempotencyReplaySealed) => &[
            "This form was submitted before. Look at the list before you submit it again.",
            "Open the form anew for another one.",
        ],
        (403, _) => &["Ask an owner or an admin of the project to do it, or to change your role."],
        (404, _) => {
            &["It may have been deleted, or belong to a project that you are not a member of.", "Check the ID."]
        }
        (412, _) => &[
            "Somebody changed it while you had the page open.",
            "Open the page again to see the current state, and repeat your change.",
        ],
        (429, Code::QuotaExceeded) => &["The project has used its quota for this month. Ask the operator for more."],
        (429, _) => &["Wait a moment, then try again."],
        (503, _) => {
            &["The server is busy or is starting. Try again in a moment.", "If it stays like this, tell the operator."]
        }
        (500.., _) => &["Try again.", "If it happens again, send the request ID to the operator. The log says why."],
        _ => &["Go back, and try again."],
    };
    let wait = fault.retry_after.filter(|seconds| can_retry && *seconds > 1);
    let detail = match wait {
        Some(seconds) => format!("{}. Try again in {seconds} seconds.", fault.error.detail()),
        None => format!("{}.", fault.error.detail().trim_end_matches('.')),
    };
    let problem = Problem {
        title: entry(fault.code()).title.to_owned(),
        detail,
        steps: steps.to_vec(),
        // Without a session, the form is that of the sign-in page.
        typed: (!visit.is_read() && visit.is_signed_in()).then(|| visit.fields().pack()),
        action: visit.page_path(),
        can_retry,
        request_id: fault.request_id.clone(),
        code: Some(fault.code()),
    };
    show(visit, fault.status, &problem)
}

fn show(visit: &Visit, status: StatusCode, problem: &Problem<'_>) -> Result<Content, Box<Response>> {
    let page = visit.page(problem.title.clone()).status(status);
    let page = if visit.is_signed_in() { page } else { page.bare() };
    let project = project_of(visit.page_path());
    page.show(problem).map(|content| Content { calls: Vec::new(), project, ..content }).map_err(unrenderable)
}

/// Project that a path names, so that its pages stay in the navigation.
fn project_of(path: &str) -> Option<ProjectId> {
    path.strip_prefix("/console/projects/")?.split('/').next()?.parse().ok()
}

/// The sign-in page. What was typed is kept, and shown again after signing in.
pub fn sign_in(visit: &Visit) -> Result<Content, Box<Response>> {
    if visit.is_read() {
        return Err(Box::new(to_sign_in(visit)));
    }
    let typed = visit.fields().pack();
    let form = Form::new(Fields::default());
    let page = sign_in::content(visit, &form, visit.page_path(), Some(typed), StatusCode::UNAUTHORIZED);
    page.map_err(unrenderable)
}

#[derive(Template)]
#[template(path = "view/confirm.html")]
struct Confirm<'a> {
    action: &'a str,
    typed: String,
    email: String,
    has_password: bool,
    password: Field,
    link: Field,
    summary: Summary,
}

/// Asks the person to confirm who they are, and then submits what was typed.
async fn confirm(visit: &Visit, fault: Option<Fault>) -> Result<Content, Failure> {
    let profile = visit.profile().await?;
    let mut form = Form::new(Fields::default());
    if let Some(fault) = fault {
        let is_password = fault.code() == Code::InvalidCurrentPassword;
        form = match is_password {
            true => form.with_fault(PASSWORD, "The password is wrong. Check it, and try again."),
            false => form.with_fault(LINK, "This link has expired, was used already, or belongs to somebody else."),
        };
    }
    let page = Confirm {
        action: visit.page_path(),
        typed: visit.fields().pack(),
        email: profile.email.to_string(),
        has_password: profile.has_password,
        password: form.password(PASSWORD, "Password").required().focused().autocomplete("current-password"),
        link: form.text(LINK, "Sign-in link").hint("Paste the address that the command prints.").required(),
        summary: form.summary(),
    };
    let content = visit.page("Confirm that it is you").status(StatusCode::FORBIDDEN).show(&page)?;
    Ok(Content { calls: Vec::new(), project: project_of(visit.page_path()), ..content })
}

/// The response if not even the page of a problem can be rendered.
fn unrenderable(_: Failure) -> Box<Response> {
    Box::new(StatusCode::INTERNAL_SERVER_ERROR.into_response())
}
