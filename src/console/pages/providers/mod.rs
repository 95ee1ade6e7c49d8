//! `/console/projects/{project_id}/providers`: the providers and what they support.

use askama::Template;
use axum::{
    extract::Path,
    routing::{MethodRouter, get},
};

use super::resources::{
    kind_name, list_path,
    parts::{
        label,
        providers::{KindCapabilities, Provider},
    },
};
use crate::{
    base::id::ProjectId,
    console::{
        Console,
        browser::{Visit, visit::PageQuery},
        client::{Call, List},
        components::{
            list::Paging,
            status::{Badge, Empty, Tone},
            text::api_name,
        },
        view::PageResult,
    },
    resources::kinds::Kind,
};

#[derive(Template)]
#[template(path = "pages/providers/providers.html")]
struct Providers {
    providers: Vec<Shown>,
    paging: Paging,
    empty: Empty,
}

struct Shown {
    name: String,
    driver: String,
    region: Option<String>,
    badges: Vec<Badge>,
    resources: String,
    kinds: Vec<ShownKind>,
}

/// What a provider supports for one kind.
struct ShownKind {
    kind: Kind,
    name: String,
    /// Path of the form that creates one, if the person may.
    create: Option<String>,
    /// Names and values.
    facts: Vec<(&'static str, String)>,
}

/// Handlers of the page.
pub fn routes() -> MethodRouter<Console> {
    get(show)
}

async fn show(visit: Visit, Path(project): Path<ProjectId>, PageQuery(query): PageQuery) -> PageResult {
    let call = Call::get("/v1/providers").query("cursor", query.get("cursor"));
    let (found, allowed) = tokio::try_join!(visit.api.send::<List<Provider>>(call), visit.scopes(project))?;
    let list = list_path(project);
    let kind = |provider: &Provider, of: &KindCapabilities| ShownKind {
        kind: of.kind,
        name: kind_name(of.kind),
        create: allowed
            .contains(of.kind.write_scope())
            .then(|| format!("{list}/new?kind={}&provider={}", of.kind, provider.name)),
        facts: facts(of),
    };
    let shown = |provider: Provider| {
        let simulated = provider.capabilities.simulated.then(|| Badge::new(Tone::Warn, "Simulation"));
        let import = provider.capabilities.import.then(|| Badge::new(Tone::Neutral, "Import"));
        Shown {
            resources: format!("{list}?provider={}", provider.name),
            kinds: provider.capabilities.kinds.iter().map(|of| kind(&provider, of)).collect(),
            badges: simulated.into_iter().chain(import).collect(),
            region: provider.region,
            driver: provider.driver,
            name: provider.name,
        }
    };
    let page = Providers {
        paging: Paging::new(&visit, &query, &[], found.body.next_cursor.as_deref()),
        providers: found.body.data.into_iter().map(shown).collect(),
        empty: Empty::new("No providers", "The operator of the server configures providers in a file."),
    };
    visit.page("Providers").project(project).show(&page)
}

fn facts(of: &KindCapabilities) -> Vec<(&'static str, String)> {
    let list = |items: Vec<String>| if items.is_empty() { "none".to_owned() } else { items.join(", ") };
    let mut facts = vec![
        ("Actions", list(of.actions.iter().map(|action| api_name(*action)).collect())),
        ("Can change later", list(of.updatable.iter().map(|name| label(name)).collect())),
    ];
    for (name, items) in [("Sizes", &of.sizes), ("Images", &of.images)] {
        if !items.is_empty() {
            facts.push((name, items.join(", ")));
        }
    }
    if of.native_terms {
        facts.push(("Other names", "the provider’s own sizes and images, too".into()));
    }
    facts
}
