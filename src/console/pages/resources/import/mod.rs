//! `/console/projects/{project_id}/resources/import`: turns an object that exists at a provider into a resource.

use askama::Template;
use axum::{
    extract::Path,
    response::{IntoResponse, Response},
    routing::MethodRouter,
};
use serde_json::json;

use super::{
    kind_name, list_path,
    parts::{
        fields::{self, CommonFields},
        providers::{self, Provider},
    },
};
use crate::{
    base::{error::Code, id::ProjectId},
    console::{
        Console,
        browser::{Visit, visit::PageQuery},
        client::Call,
        forms::{Choice, Field, Form, Hidden, Summary},
        view::{Failure, PageResult, Redirected},
    },
    resources::{api::input::AcceptedOperation, kinds::Kind},
};

#[derive(Template)]
#[template(path = "pages/resources/import/import.html")]
struct Import {
    path: String,
    can_import: bool,
    hidden: Hidden,
    summary: Summary,
    kind: Field,
    provider: Field,
    reference: Field,
    name: Field,
    common: CommonFields,
}

/// Handlers of the page.
pub fn routes() -> MethodRouter<Console> {
    crate::console::pages::form(show, submit)
}

async fn show(visit: Visit, Path(project): Path<ProjectId>, PageQuery(query): PageQuery) -> PageResult {
    let form = visit.form(fields::of_new(query));
    page(&visit, project, &form).await
}

async fn submit(visit: Visit, Path(project): Path<ProjectId>) -> Result<Response, Failure> {
    let form = visit.submitted();
    match visit.api.send::<AcceptedOperation>(call(project, &form)).await {
        Ok(imported) => {
            let path = super::path(project, imported.body.resource.id);
            Ok(Redirected::to(path).message(&visit, "The object is being imported.").into_response())
        }
        Err(fault) => {
            let form = match fault.code() {
                Code::ImportNotAllowed => form.with_fault("provider", fault.error.detail()),
                _ => form.rejected(fault, &[])?,
            };
            Ok(page(&visit, project, &form).await?.into_response())
        }
    }
}

fn call(project: ProjectId, form: &Form) -> Call {
    let mut body = fields::body_of_new(form);
    body.insert("project_id".into(), json!(project));
    for member in ["kind", "provider", "provider_ref"] {
        body.insert(member.into(), form.value(member).into());
    }
    Call::post("/v1/resources/import").body(body.into()).once(form.once())
}

async fn page(visit: &Visit, project: ProjectId, form: &Form) -> PageResult {
    let (allowed, mut providers) = tokio::try_join!(visit.scopes(project), providers::all(visit))?;
    providers.retain(|provider| provider.capabilities.import);
    let kinds = Kind::ALL.iter().copied().filter(|kind| allowed.contains(kind.write_scope()));
    let kinds = kinds.map(|kind| Choice::new(kind.as_str(), kind_name(kind))).collect();
    let names = |provider: &Provider| Choice::new(provider.name.clone(), provider.name.clone());
    let list = list_path(project);
    let page = Import {
        can_import: !providers.is_empty(),
        hidden: form.hidden(),
        summary: form.summary(),
        kind: form.select("kind", "Kind", kinds),
        provider: form.select("provider", "Provider", providers.iter().map(names).collect()),
        reference: form
            .text("provider_ref", "Object")
            .hint("The provider’s own name of the object, such as vol-0a1b2c3d.")
            .max(255)
            .required(),
        name: fields::name(form),
        common: CommonFields::without_lifetime(form),
        path: list.clone(),
    };
    let builder = visit.page("Import an object").project(project).crumb("Resources", list);
    builder.form(form).call(call(project, form)).show(&page)
}
