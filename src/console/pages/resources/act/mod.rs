//! `/console/projects/{project_id}/resources/{resource_id}/actions`: runs an action on a resource.

use askama::Template;
use axum::{
    extract::Path,
    response::{IntoResponse, Response},
    routing::MethodRouter,
};
use serde_json::{Map, Value};

use super::{
    list_path,
    parts::{
        providers::{self, KindCapabilities},
        spec,
    },
};
use crate::{
    base::id::{ProjectId, ResourceId},
    console::{
        Console,
        browser::{Visit, visit::PageQuery},
        client::{Call, Fault},
        components::text::api_name,
        forms::{Choice, Field, Form, Hidden, Summary, body::number},
        view::{Failure, PageResult, Redirected},
    },
    resources::{
        api::{input::AcceptedOperation, model::ResourceView},
        drivers::driver::ActionType,
        kinds::{Kind, Power},
    },
};

#[derive(Template)]
#[template(path = "pages/resources/act/act.html")]
struct Act {
    path: String,
    title: &'static str,
    name: String,
    text: &'static str,
    hidden: Hidden,
    summary: Summary,
    /// The action, if it was chosen. Otherwise the field offers all.
    action: Option<String>,
    actions: Field,
    fields: Vec<Field>,
}

/// Action that a person can choose.
pub struct Offered {
    /// Name, as the API spells it.
    pub name: String,
    /// Text of the button.
    pub label: &'static str,
    /// Whether the action turns the resource on or off.
    pub is_power: bool,
}

/// Handlers of the page.
pub fn routes() -> MethodRouter<Console> {
    crate::console::pages::form(show, submit)
}

/// The actions that make sense in the present state. The API decides in any case.
pub fn offered(resource: &ResourceView, capabilities: &KindCapabilities) -> Vec<Offered> {
    let power = resource.status.power;
    let is_useful = |action: &ActionType| match action {
        ActionType::Start => power == Some(Power::Off),
        ActionType::Stop | ActionType::Reboot => power == Some(Power::On),
        ActionType::Detach => resource.spec.get("volumes").and_then(Value::as_array).is_some_and(|all| !all.is_empty()),
        ActionType::Attach | ActionType::Resize => true,
    };
    let useful = capabilities.actions.iter().copied().filter(is_useful);
    let offered = |action| Offered {
        name: api_name(action),
        label: label(action),
        is_power: matches!(action, ActionType::Start | ActionType::Stop | ActionType::Reboot),
    };
    useful.map(offered).collect()
}

fn label(action: ActionType) -> &'static str {
    match action {
        ActionType::Start => "Start",
        ActionType::Stop => "Stop",
        ActionType::Reboot => "Reboot",
        ActionType::Attach => "Attach a volume",
        ActionType::Detach => "Detach a volume",
        ActionType::Resize => "Resize",
    }
}

fn text(action: ActionType) -> &'static str {
    match action {
        ActionType::Start => "It is turned on.",
        ActionType::Stop => "It is turned off. Programs on it end. Its volumes and addresses stay.",
        ActionType::Reboot => "It is turned off and on again. Programs on it end and start again.",
        ActionType::Attach => "The volume becomes visible to the instance.",
        ActionType::Detach => "The instance loses the volume. The data on it stays.",
        ActionType::Resize => "The provider may have to restart it.",
    }
}

async fn show(
    visit: Visit,
    Path((project, id)): Path<(ProjectId, ResourceId)>,
    PageQuery(query): PageQuery,
) -> PageResult {
    let form = visit.form(query);
    page(&visit, project, id, &form).await
}

async fn submit(visit: Visit, Path((project, id)): Path<(ProjectId, ResourceId)>) -> Result<Response, Failure> {
    let form = visit.submitted();
    match visit.api.send::<AcceptedOperation>(call(id, &form)).await {
        Ok(_) => {
            let path = super::path(project, id);
            Ok(Redirected::to(path).message(&visit, "The action is running.").into_response())
        }
        Err(fault) => {
            let form = form.rejected(fault, &[])?;
            Ok(page(&visit, project, id, &form).await?.into_response())
        }
    }
}

fn call(id: ResourceId, form: &Form) -> Call {
    let mut body = Map::from_iter([("action".to_owned(), form.value("action").into())]);
    for name in ["volume", "size"] {
        if !form.value(name).is_empty() {
            body.insert(name.to_owned(), form.value(name).into());
        }
    }
    body.extend(number(form.value("size_gib")).map(|size| ("size_gib".to_owned(), size)));
    Call::post(format!("/v1/resources/{id}/actions")).body(body.into()).once(form.once())
}

async fn page(visit: &Visit, project: ProjectId, id: ResourceId, form: &Form) -> PageResult {
    let resource = super::get(visit, project, id).await?.body;
    let provider = providers::get(visit, &resource.provider).await?;
    let capabilities = provider.as_ref().and_then(|provider| provider.of(resource.kind));
    let all = capabilities.map(|capabilities| capabilities.actions.clone()).unwrap_or_default();
    let chosen = all.iter().copied().find(|action| api_name(*action) == form.value("action"));
    let choices = all.iter().map(|action| Choice::new(api_name(*action), label(*action)).hint(text(*action)));
    let fields = match (chosen, capabilities) {
        (Some(action), Some(capabilities)) => fields(visit, &resource, action, capabilities, form).await?,
        _ => Vec::new(),
    };
    let page = Act {
        path: super::path(project, id),
        title: chosen.map_or("Actions", label),
        name: resource.name.clone(),
        text: chosen.map_or("", text),
        hidden: form.hidden(),
        summary: form.summary(),
        action: chosen.map(api_name),
        actions: form.radios("action", "Action", choices.collect()),
        fields,
    };
    let builder = visit.page(page.title).project(project).crumb("Resources", list_path(project));
    builder.crumb(resource.name, page.path.clone()).form(form).call(call(id, form)).show(&page)
}

/// Fields that the action needs.
async fn fields(
    visit: &Visit,
    resource: &ResourceView,
    action: ActionType,
    capabilities: &KindCapabilities,
    form: &Form,
) -> Result<Vec<Field>, Fault> {
    let attached =
        resource.spec.get("volumes").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let attached: Vec<&str> = attached.collect();
    let mut choices = match action {
        ActionType::Attach | ActionType::Detach => {
            let all = spec::resources(visit, resource.project_id, Kind::Volume, &resource.provider).await?;
            let Some(all) = all else {
                return Ok(vec![form.text("volume", "Volume").hint("ID of the volume.").required()]);
            };
            all
        }
        ActionType::Resize if capabilities.sizes.is_empty() => {
            let now = resource.spec.get("size_gib").map(ToString::to_string).unwrap_or_default();
            let field = form.text("size_gib", "New size (GiB)").kind("number").short().required();
            return Ok(vec![field.hint(format!("It has {now} GiB now. It cannot shrink."))]);
        }
        ActionType::Resize => {
            return Ok(vec![if capabilities.native_terms {
                form.text("size", "New size").hint(format!("Such as {}.", capabilities.sizes.join(", "))).required()
            } else {
                let sizes = capabilities.sizes.iter().map(|size| Choice::new(size.clone(), size.clone()));
                form.select("size", "New size", sizes.collect())
            }]);
        }
        ActionType::Start | ActionType::Stop | ActionType::Reboot => return Ok(Vec::new()),
    };
    let is_attached = |choice: &Choice| attached.contains(&choice.value.as_str());
    choices.retain(|choice| is_attached(choice) == (action == ActionType::Detach));
    Ok(vec![form.select("volume", "Volume", choices)])
}
