//! `/console/projects/{project_id}/settings`: name and metadata of the project, and what ends it.

use askama::Template;
use axum::{
    extract::Path,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::MethodRouter,
};
use serde_json::{Map, Value, json};

use crate::{
    api::projects::model::Project,
    base::{
        id::ProjectId,
        identity::{scope::Scope, tenant::ProjectStatus},
    },
    console::{
        Console,
        browser::{Visit, fields::Fields},
        client::Call,
        components::{diff::Diff, secret::Copy, status::Badge, time::When},
        forms::{
            Field, Form, Hidden, Summary,
            pairs::{self, Pairs},
        },
        view::{Failure, PageResult, Redirected},
    },
};

#[derive(Template)]
#[template(path = "pages/settings/general/general.html")]
struct Settings {
    path: String,
    id: Copy,
    created: When,
    hidden: Hidden,
    summary: Summary,
    /// What saving would change, if somebody else changed the project since the form was opened.
    conflict: Option<Diff>,
    name: Field,
    metadata: Pairs,
    /// Whether the person may change the name and the metadata.
    may_write: bool,
    is_owner: bool,
    project: Project,
}

/// Field and member of the metadata.
const METADATA: &str = "metadata";

/// Handlers of the page.
pub fn routes() -> MethodRouter<Console> {
    crate::console::pages::form(show, submit)
}

async fn show(visit: Visit, Path(project): Path<ProjectId>) -> PageResult {
    page(&visit, project, None, false).await
}

async fn submit(visit: Visit, Path(project): Path<ProjectId>) -> Result<Response, Failure> {
    let form = visit.submitted();
    let form = match call(project, &form) {
        Ok(call) => match visit.api.send::<Value>(call).await {
            Ok(_) => {
                return Ok(Redirected::to(super::path(project))
                    .message(&visit, "The settings are saved.")
                    .into_response());
            }
            Err(fault) if fault.status == StatusCode::PRECONDITION_FAILED => {
                return Ok(page(&visit, project, Some(form), true).await?.into_response());
            }
            Err(fault) => form.rejected(fault, &[(METADATA, METADATA)])?,
        },
        Err(detail) => form.with_fault(METADATA, &detail),
    };
    Ok(page(&visit, project, Some(form), false).await?.into_response())
}

/// The change, unless somebody else changed the project since the form was opened.
fn call(project: ProjectId, form: &Form) -> Result<Call, String> {
    let body = json!({ "name": form.value("name"), METADATA: pairs::object(form, METADATA)? });
    Ok(Call::patch(format!("/v1/projects/{project}")).body(body).if_match(form.etag()).once(form.once()))
}

async fn page(visit: &Visit, id: ProjectId, rejected: Option<Form>, is_outdated: bool) -> PageResult {
    let allowed = async { visit.scopes(id).await };
    let (found, allowed, is_owner) = tokio::try_join!(super::get(visit, id), allowed, super::is_owner(visit, id))?;
    let (project, etag) = (found.body, found.etag.unwrap_or_default());
    let form = rejected.unwrap_or_else(|| visit.form(first_values(&project)));
    let form = if is_outdated { form.renewed() } else { form };
    let page = Settings {
        path: super::path(id),
        id: Copy::new(id.to_string(), "the project ID"),
        created: visit.when(project.created_at),
        hidden: form.hidden_for(&etag),
        summary: form.summary(),
        conflict: is_outdated.then(|| conflict(&project, &form)),
        name: form.text("name", "Name").required().max(100),
        metadata: Pairs::new(
            &form,
            METADATA,
            "Metadata",
            "Your own data on the project, such as a cost center. To remove a row, clear its name and its value.",
        ),
        may_write: allowed.contains(Scope::ProjectsWrite) && project.status == ProjectStatus::Active,
        is_owner,
        project,
    };
    let mut builder = visit.page("Settings").project(id).form(&form);
    if is_outdated {
        builder = builder.status(StatusCode::PRECONDITION_FAILED);
    }
    match call(id, &form) {
        Ok(call) if page.may_write => builder.call(call.if_match(&etag)).show(&page),
        _ => builder.show(&page),
    }
}

/// The current values, and those that were typed.
fn conflict(project: &Project, form: &Form) -> Diff {
    let members = |name: &str, metadata: &Value| {
        let pairs = metadata.as_object().into_iter().flatten();
        let pairs = pairs.map(|(name, value)| (format!("{METADATA}.{name}"), value.clone()));
        std::iter::once(("name".to_owned(), Value::from(name))).chain(pairs).collect::<Map<_, _>>()
    };
    let typed = pairs::object(form, METADATA).unwrap_or_default();
    let before = members(&project.name, &json!(project.metadata.0));
    Diff::between(&before.into(), &members(form.value("name"), &typed).into())
}

fn first_values(project: &Project) -> Fields {
    pairs::with_pairs(Fields::default().with("name", project.name.clone()), METADATA, &project.metadata.0.0)
}
