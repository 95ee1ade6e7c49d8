//! `/console/projects/{project_id}/resources/new`: chooses a kind, and creates a resource of it.

use askama::Template;
use axum::{
    extract::Path,
    response::{IntoResponse, Response},
    routing::MethodRouter,
};
use futures_util::future::try_join_all;
use serde_json::{Map, Value, json};

use super::{
    family, kind_name, list_path,
    parts::{
        fields::{self, CommonFields},
        plan::{self, PlanPage},
        providers::{self, Provider},
        spec,
    },
};
use crate::{
    base::id::ProjectId,
    console::{
        Console,
        browser::{Visit, fields::Fields, visit::PageQuery},
        client::{Call, Fault},
        components::{
            diff::Diff,
            status::{Badge, Tone},
        },
        forms::{
            Field, Form, Hidden, Summary,
            schema::{Part, SchemaForm},
        },
        pages::form as form_routes,
        view::{Failure, PageResult, Redirected},
    },
    resources::{
        api::input::{AcceptedOperation, Plan},
        kinds::Kind,
    },
};

#[derive(Template)]
#[template(path = "pages/resources/create/choose.html")]
struct Choose {
    path: String,
    families: Vec<Family>,
}

/// Kinds of one family.
struct Family {
    name: String,
    kinds: Vec<Offered>,
}

/// Kind, and the providers that support it.
struct Offered {
    kind: Kind,
    name: String,
    description: String,
    providers: Vec<(String, Option<Badge>)>,
}

#[derive(Template)]
#[template(path = "pages/resources/create/create.html")]
struct Create {
    kind: Kind,
    title: String,
    description: String,
    provider: String,
    simulated: bool,
    action: String,
    back: String,
    hidden: Hidden,
    summary: Summary,
    name: Field,
    parts: Vec<Part>,
    common: CommonFields,
}

/// What is created, and where.
struct Target {
    project: ProjectId,
    kind: Kind,
    provider: Provider,
    schema: Value,
    spec: SchemaForm,
}

/// Handlers of the page.
pub fn routes() -> MethodRouter<Console> {
    form_routes(show, submit)
}

async fn show(visit: Visit, Path(project): Path<ProjectId>, PageQuery(query): PageQuery) -> PageResult {
    let form = visit.form(fields::of_new(query));
    match target(&visit, project, form.fields()).await? {
        Some(target) => page(&visit, &target, &form),
        None => choose(&visit, project).await,
    }
}

async fn submit(visit: Visit, Path(project): Path<ProjectId>) -> Result<Response, Failure> {
    let form = visit.submitted();
    let Some(target) = target(&visit, project, form.fields()).await? else {
        return Ok(choose(&visit, project).await?.into_response());
    };
    let done = if plan::is_requested(&visit) {
        let planned = plan::of(&visit, call(&target, &form).once("")).await;
        planned.map(|plan| preview(&visit, &target, &form, &plan).map(IntoResponse::into_response))
    } else {
        let created = visit.api.send::<AcceptedOperation>(call(&target, &form)).await;
        created.map(|created| {
            let text = format!("“{}” is being created.", created.body.resource.name);
            let path = super::path(project, created.body.resource.id);
            Ok(Redirected::to(path).message(&visit, &text).into_response())
        })
    };
    match done {
        Ok(response) => response,
        Err(fault) => {
            let form = form.rejected(fault, &target.spec.names())?;
            Ok(page(&visit, &target, &form)?.into_response())
        }
    }
}

/// The kind and the provider that the fields name, if the provider supports the kind.
async fn target(visit: &Visit, project: ProjectId, fields: &Fields) -> Result<Option<Target>, Fault> {
    let Ok(kind) = fields.get("kind").parse::<Kind>() else { return Ok(None) };
    let mut supporting = providers::all(visit).await?;
    supporting.retain(|provider| provider.of(kind).is_some());
    let named = supporting.iter().position(|provider| provider.name == fields.get("provider"));
    let index = match named {
        None if supporting.len() == 1 && fields.get("provider").is_empty() => Some(0),
        named => named,
    };
    let Some(provider) = index.map(|index| supporting.swap_remove(index)) else { return Ok(None) };
    let Some(capabilities) = provider.of(kind).cloned() else { return Ok(None) };
    let schema = spec::schema(visit, kind).await?;
    let spec = spec::form(visit, project, &schema, (&provider.name, &capabilities)).await?;
    Ok(Some(Target { project, kind, provider, schema, spec }))
}

fn call(target: &Target, form: &Form) -> Call {
    let mut body = Map::from_iter([
        ("project_id".to_owned(), json!(target.project)),
        ("kind".to_owned(), json!(target.kind)),
        ("provider".to_owned(), json!(target.provider.name)),
    ]);
    body.extend(fields::body_of_new(form));
    body.insert("spec".into(), target.spec.value(form).into());
    Call::post("/v1/resources").body(body.into()).once(form.once())
}

fn page(visit: &Visit, target: &Target, form: &Form) -> PageResult {
    let list = list_path(target.project);
    let page = Create {
        kind: target.kind,
        title: title(target.kind),
        description: spec::description(&target.schema).to_owned(),
        provider: target.provider.name.clone(),
        simulated: target.provider.capabilities.simulated,
        action: format!("{list}/new"),
        back: list.clone(),
        hidden: form.hidden(),
        summary: form.summary(),
        name: fields::name(form).focused(),
        parts: target.spec.parts(form),
        common: CommonFields::new(form),
    };
    let builder = visit.page(title(target.kind)).project(target.project).crumb("Resources", list.clone());
    builder.crumb("Create a resource", format!("{list}/new")).form(form).call(call(target, form)).show(&page)
}

/// "Create a volume", "Create an instance".
fn title(kind: Kind) -> String {
    let name = kind_name(kind).to_lowercase();
    let article = if name.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("Create {article} {name}")
}

fn preview(visit: &Visit, target: &Target, form: &Form, plan: &Plan) -> PageResult {
    let list = list_path(target.project);
    let resource = &plan.resource;
    let new = [
        ("name", json!(resource.name)),
        ("kind", json!(resource.kind)),
        ("provider", json!(resource.provider)),
        ("spec", resource.spec.clone()),
        ("labels", json!(resource.labels)),
        ("protection", json!(resource.protection)),
        ("reconcile", json!(resource.reconcile)),
        ("expires_at", json!(resource.expires_at)),
    ];
    let changes: Map<String, Value> = new
        .into_iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| (name.to_owned(), json!([null, value])))
        .collect();
    let page = PlanPage {
        title: "Preview".into(),
        lead: format!("Every check passed. Nothing is created yet: this is what “{}” would be.", resource.name),
        action: format!("{list}/new"),
        typed: plan::typed(form),
        diff: Diff::of_changes(&changes),
        effect: format!(
            "The provider {} creates it. That takes some time, and the page of the resource shows the progress.",
            target.provider.name
        ),
        apply: "Create".into(),
    };
    let builder = visit.page("Preview").project(target.project).crumb("Resources", list.clone());
    builder.crumb("Create a resource", format!("{list}/new")).show(&page)
}

/// The page with all kinds that the person may create.
async fn choose(visit: &Visit, project: ProjectId) -> PageResult {
    let (allowed, providers) = tokio::try_join!(visit.scopes(project), providers::all(visit))?;
    let kinds = Kind::ALL.iter().copied().filter(|kind| allowed.contains(kind.write_scope()));
    let kinds: Vec<Kind> = kinds.filter(|kind| providers.iter().any(|provider| provider.of(*kind).is_some())).collect();
    let schemas = try_join_all(kinds.iter().map(|kind| spec::schema(visit, *kind))).await?;
    let mut families: Vec<Family> = Vec::new();
    for (kind, schema) in kinds.into_iter().zip(&schemas) {
        let supporting = providers.iter().filter(|provider| provider.of(kind).is_some());
        let simulation =
            |provider: &Provider| provider.capabilities.simulated.then(|| Badge::new(Tone::Neutral, "Simulation"));
        let offered = Offered {
            kind,
            name: kind_name(kind),
            description: spec::description(schema).to_owned(),
            providers: supporting.map(|provider| (provider.name.clone(), simulation(provider))).collect(),
        };
        match families.iter_mut().find(|known| known.name == family(kind)) {
            Some(known) => known.kinds.push(offered),
            None => families.push(Family { name: family(kind), kinds: vec![offered] }),
        }
    }
    // What most people look for comes first. Networks are first in the API, because others refer to them.
    families.sort_by(|a, b| a.name.cmp(&b.name));
    let list = list_path(project);
    let page = Choose { path: format!("{list}/new"), families };
    let shown = Call::get("/v1/providers");
    visit.page("Create a resource").project(project).crumb("Resources", list).call(shown).show(&page)
}
