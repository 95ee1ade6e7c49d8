//! `/console/projects/{project_id}/resources/{resource_id}/edit`: changes a resource, after its plan was shown.

use askama::Template;
use axum::{
    extract::Path,
    response::{IntoResponse, Response},
    routing::MethodRouter,
};
use serde_json::Value;

use super::{
    list_path,
    parts::{
        fields::{self, CommonFields},
        plan::{self, PlanPage},
        providers, spec,
    },
};
use crate::{
    base::id::{ProjectId, ResourceId},
    console::{
        Console,
        browser::{Visit, visit::PageQuery},
        client::Call,
        forms::{
            Field, Form, Hidden, Summary,
            schema::{Part, SchemaForm},
        },
        view::{Failure, PageResult, Redirected},
    },
    resources::api::{
        input::{AcceptedOperation, Plan},
        model::ResourceView,
    },
};

/// Field with what the form showed, so that a change of it by somebody else is noticed.
const SEEN: &str = "_seen";

#[derive(Template)]
#[template(path = "pages/resources/edit/edit.html")]
struct Edit {
    path: String,
    hidden: Hidden,
    seen: String,
    summary: Summary,
    name: Field,
    parts: Vec<Part>,
    fixed: Vec<(String, String)>,
    common: CommonFields,
}

/// The resource, and the form of the part of its spec that can change.
struct Subject {
    resource: ResourceView,
    spec: SchemaForm,
    updatable: Vec<String>,
}

/// Handlers of the page.
pub fn routes() -> MethodRouter<Console> {
    crate::console::pages::form(show, submit)
}

async fn show(
    visit: Visit,
    Path((project, id)): Path<(ProjectId, ResourceId)>,
    PageQuery(query): PageQuery,
) -> PageResult {
    let subject = subject(&visit, project, id).await?;
    let first = subject.spec.first(&subject.resource.spec, fields::of_resource(&subject.resource));
    // Links suggest values: those that were observed at the provider.
    let form = visit.form(first.overridden(&query));
    page(&visit, &subject, &form)
}

async fn submit(visit: Visit, Path((project, id)): Path<(ProjectId, ResourceId)>) -> Result<Response, Failure> {
    let form = visit.submitted();
    let subject = subject(&visit, project, id).await?;
    let call = call(&subject, &form);
    let done = if plan::is_requested(&visit) {
        let planned = plan::of(&visit, call.once("")).await;
        planned.map(|plan| preview(&visit, &subject, &form, &plan).map(IntoResponse::into_response))
    } else {
        let changed = visit.api.send::<AcceptedOperation>(call).await;
        changed.map(|changed| {
            let text = match changed.body.operation.finished_at {
                Some(_) => "The resource is changed.",
                None => "The resource is being changed.",
            };
            Ok(Redirected::to(super::path(project, id)).message(&visit, text).into_response())
        })
    };
    match done {
        Ok(response) => response,
        Err(fault) => {
            let form = form.rejected(fault, &subject.spec.names())?;
            Ok(page(&visit, &subject, &form)?.into_response())
        }
    }
}

async fn subject(visit: &Visit, project: ProjectId, id: ResourceId) -> Result<Subject, Failure> {
    let resource = super::get(visit, project, id).await?.body;
    let (provider, schema) =
        tokio::try_join!(providers::get(visit, &resource.provider), spec::schema(visit, resource.kind))?;
    let capabilities = provider.as_ref().and_then(|provider| provider.of(resource.kind));
    let updatable = capabilities.map(|capabilities| capabilities.updatable.clone()).unwrap_or_default();
    let spec = match capabilities {
        Some(capabilities) => spec::form(visit, project, &schema, (&resource.provider, capabilities)).await?,
        None => SchemaForm::new(&Value::Null, "spec", &Default::default()),
    };
    Ok(Subject { resource, spec: spec.only(&updatable), updatable })
}

/// What a person sees of a resource in the form. The entity tag changes each time the provider is read, too.
fn seen(resource: &ResourceView) -> String {
    let shown = serde_json::json!([
        resource.name,
        resource.labels,
        resource.spec,
        resource.protection,
        resource.reconcile,
        resource.expires_at
    ]);
    format!("{:08x}", crc32fast::hash(shown.to_string().as_bytes()))
}

/// The change, unless somebody else changed the resource since the form was opened.
fn call(subject: &Subject, form: &Form) -> Call {
    let mut body = fields::changes(form, &subject.resource);
    let spec = subject.spec.changes(form, &subject.resource.spec);
    if !spec.is_empty() {
        body.insert("spec".into(), spec.into());
    }
    let is_same = form.fields().raw(SEEN).is_none_or(|shown| shown == seen(&subject.resource));
    let etag = if is_same { subject.resource.etag.as_str() } else { form.etag() };
    Call::patch(format!("/v1/resources/{}", subject.resource.id)).body(body.into()).if_match(etag).once(form.once())
}

fn page(visit: &Visit, subject: &Subject, form: &Form) -> PageResult {
    let resource = &subject.resource;
    let keep = resource.expires_at.map_or_else(|| "unlimited".to_owned(), |end| visit.when(end).text());
    let members = resource.spec.as_object().into_iter().flatten();
    let fixed = members.filter(|(name, _)| !subject.updatable.contains(name));
    let page = Edit {
        path: super::path(resource.project_id, resource.id),
        hidden: form.hidden_for(&resource.etag),
        seen: seen(resource),
        summary: form.summary(),
        name: fields::name(form),
        parts: subject.spec.parts(form),
        fixed: fixed.map(|(name, value)| (super::parts::label(name), super::parts::shown(value))).collect(),
        common: CommonFields::of_existing(form, &keep),
    };
    let builder = visit.page("Change the resource").project(resource.project_id);
    let builder = builder.crumb("Resources", list_path(resource.project_id)).crumb(&resource.name, page.path.clone());
    builder.form(form).call(call(subject, form)).show(&page)
}

fn preview(visit: &Visit, subject: &Subject, form: &Form, plan: &Plan) -> PageResult {
    let resource = &subject.resource;
    let path = super::path(resource.project_id, resource.id);
    let page = PlanPage {
        title: "Review the change".into(),
        lead: format!("This is what changes of “{}”. Nothing is changed yet.", resource.name),
        action: format!("{path}/edit"),
        typed: plan::typed(form),
        diff: plan::diff(&plan.changes),
        effect: match plan.requires_provider {
            true => format!("The provider {} makes the change. That takes some time.", resource.provider),
            false => "The change is complete at once, without the provider.".into(),
        },
        apply: "Apply the change".into(),
    };
    let builder = visit.page("Review the change").project(resource.project_id);
    builder.crumb("Resources", list_path(resource.project_id)).crumb(&resource.name, path).show(&page)
}
