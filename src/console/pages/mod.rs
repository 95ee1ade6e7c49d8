//! The pages, and the table of them. A page is a folder with its handler, its template and what the template shows.
//!
//! A new page: add the folder, write `routes`, and add a row to [`TABLE`]. The layers before it, the navigation, the
//! metrics and the tests of all pages take it from the table.

mod account;
mod audit;
mod create_project;
pub mod events;
mod go;
mod home;
mod invitation;
mod keys;
mod members;
pub mod objects;
mod operations;
mod overview;
mod providers;
mod resources;
mod settings;
pub(super) mod sign_in;
mod sign_out;
mod theme;
mod tokens;
pub mod trail;
mod usage;
mod webhooks;

use axum::{
    extract::Request,
    handler::Handler,
    http::Method,
    response::{IntoResponse, Response},
    routing::{MethodRouter, get, post},
};

use super::{Console, browser::Visit, components::icon::Icon};
use crate::base::identity::scope::Scope;

/// Page of the console.
#[derive(Debug)]
pub struct Page {
    /// Path template.
    pub path: &'static str,
    /// Who may open it.
    pub access: Access,
    /// Link in the navigation.
    pub nav: Option<Nav>,
    /// Name in the command palette, for pages that are not in the navigation.
    pub command: Option<&'static str>,
    /// Scope without which the page is not linked.
    pub scope: Option<Scope>,
    /// Whether the URL can have a secret, so that browsers must not send it to anybody.
    pub has_secret_url: bool,
    /// Whether it is a page, and not a stream or a file.
    pub is_html: bool,
    /// Handlers.
    pub routes: fn() -> MethodRouter<Console>,
}

/// Who may open a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Open,
    /// A person who is signed in.
    SignedIn,
}

/// Link in the navigation.
#[derive(Clone, Copy, Debug)]
pub struct Nav {
    /// Text.
    pub label: &'static str,
    /// Icon.
    pub icon: Icon,
    /// Whether the link is marked on this page only, and not on the pages below it.
    pub is_exact: bool,
}

/// Methods of pages, with the status of a usual response.
pub const METHODS: [(Method, u16); 2] = [(Method::GET, 200), (Method::POST, 303)];

/// Every page, in the order of the navigation.
pub const TABLE: &[Page] = &[
    Page::open("/console/sign-in", sign_in::routes).with_secret_url(),
    Page::open("/console/invitation", invitation::routes).with_secret_url(),
    Page::open("/console/sign-out", sign_out::routes),
    Page::open("/console/theme", theme::routes),
    Page::new("/console", home::routes),
    Page::new("/console/go", go::routes),
    Page::new("/console/projects/{project_id}", overview::routes).in_nav("Overview", Icon::Home).exact(),
    Page::new("/console/projects/new", create_project::routes).command("Create a project"),
    // Keys.
    Page::new("/console/projects/{project_id}/keys", keys::list::routes).in_nav("Keys", Icon::Key),
    Page::new("/console/projects/{project_id}/keys/new", keys::create::routes)
        .command("Create a key")
        .needs(Scope::KeysWrite),
    Page::new("/console/projects/{project_id}/keys/{key_id}", keys::one::routes),
    Page::new("/console/projects/{project_id}/keys/{key_id}/edit", keys::edit::routes),
    Page::new("/console/projects/{project_id}/keys/{key_id}/rotate", keys::rotate::routes),
    Page::new("/console/projects/{project_id}/keys/{key_id}/revoke", keys::revoke::routes),
    // Tokens.
    Page::new("/console/projects/{project_id}/tokens", tokens::list::routes).in_nav("Tokens", Icon::Token),
    Page::new("/console/projects/{project_id}/tokens/new", tokens::create::routes)
        .command("Create a token")
        .needs(Scope::TokensWrite),
    Page::new("/console/projects/{project_id}/tokens/{token_id}", tokens::one::routes),
    Page::new("/console/projects/{project_id}/tokens/{token_id}/revoke", tokens::revoke::routes),
    // Members.
    Page::new("/console/projects/{project_id}/members", members::list::routes).in_nav("Members", Icon::People),
    Page::new("/console/projects/{project_id}/members/invite", members::invite::routes)
        .command("Invite a person")
        .needs(Scope::UsersWrite),
    Page::new("/console/projects/{project_id}/members/{user_id}", members::one::routes),
    Page::new("/console/projects/{project_id}/members/{user_id}/role", members::role::routes),
    Page::new("/console/projects/{project_id}/members/{user_id}/remove", members::remove::routes),
    // Resources.
    Page::new("/console/projects/{project_id}/resources", resources::list::routes).in_nav("Resources", Icon::Boxes),
    Page::new("/console/projects/{project_id}/resources/new", resources::create::routes)
        .command("Create a resource")
        .needs(Scope::ComputeWrite),
    Page::new("/console/projects/{project_id}/resources/import", resources::import::routes)
        .command("Import a resource")
        .needs(Scope::ComputeWrite),
    Page::new("/console/projects/{project_id}/resources/{resource_id}", resources::one::routes),
    Page::new("/console/projects/{project_id}/resources/{resource_id}/edit", resources::edit::routes),
    Page::new("/console/projects/{project_id}/resources/{resource_id}/actions", resources::act::routes),
    Page::new("/console/projects/{project_id}/resources/{resource_id}/sync", resources::sync::routes),
    Page::new("/console/projects/{project_id}/resources/{resource_id}/delete", resources::remove::routes),
    Page::new("/console/projects/{project_id}/operations/{operation_id}", operations::one::routes),
    Page::new("/console/projects/{project_id}/operations/{operation_id}/cancel", operations::cancel::routes),
    Page::new("/console/projects/{project_id}/providers", providers::routes).in_nav("Providers", Icon::Cloud),
    // Usage.
    Page::new("/console/projects/{project_id}/usage", usage::overview::routes)
        .in_nav("Usage", Icon::Chart)
        .needs(Scope::UsageRead),
    Page::new("/console/projects/{project_id}/usage/download", usage::download::routes).not_html(),
    // Audit log.
    Page::new("/console/projects/{project_id}/audit", audit::list::routes)
        .in_nav("Audit log", Icon::Log)
        .needs(Scope::AuditRead),
    Page::new("/console/projects/{project_id}/audit/export", audit::export::routes).not_html(),
    Page::new("/console/projects/{project_id}/audit/{entry_id}", audit::entry::routes),
    // Events.
    Page::new("/console/projects/{project_id}/events", events::list::routes).in_nav("Events", Icon::Pulse),
    Page::new("/console/projects/{project_id}/events/stream", events::stream::routes).not_html(),
    Page::new("/console/projects/{project_id}/events/{event_id}", events::one::routes),
    // Webhooks.
    Page::new("/console/projects/{project_id}/webhooks", webhooks::list::routes).in_nav("Webhooks", Icon::Hook),
    Page::new("/console/projects/{project_id}/webhooks/new", webhooks::create::routes)
        .command("Create a webhook")
        .needs(Scope::WebhooksWrite),
    Page::new("/console/projects/{project_id}/webhooks/{webhook_id}", webhooks::one::routes),
    Page::new("/console/projects/{project_id}/webhooks/{webhook_id}/edit", webhooks::edit::routes),
    Page::new("/console/projects/{project_id}/webhooks/{webhook_id}/rotate", webhooks::rotate::routes),
    Page::new("/console/projects/{project_id}/webhooks/{webhook_id}/delete", webhooks::delete::routes),
    Page::new(
        "/console/projects/{project_id}/webhooks/{webhook_id}/deliveries/{delivery_id}",
        webhooks::delivery::routes,
    ),
    // Settings.
    Page::new("/console/projects/{project_id}/settings", settings::general::routes).in_nav("Settings", Icon::Gear),
    Page::new("/console/projects/{project_id}/settings/suspend", settings::status::suspend),
    Page::new("/console/projects/{project_id}/settings/resume", settings::status::resume),
    Page::new("/console/projects/{project_id}/settings/archive", settings::status::archive),
    Page::new("/console/projects/{project_id}/settings/delete", settings::delete::routes),
    // The person.
    Page::new("/console/account", account::overview::routes).command("Account"),
    Page::new("/console/account/password", account::password::routes).command("Change your password"),
];

impl Page {
    const fn new(path: &'static str, routes: fn() -> MethodRouter<Console>) -> Self {
        Self {
            path,
            access: Access::SignedIn,
            nav: None,
            command: None,
            scope: None,
            has_secret_url: false,
            is_html: true,
            routes,
        }
    }

    const fn open(path: &'static str, routes: fn() -> MethodRouter<Console>) -> Self {
        Self { access: Access::Open, ..Self::new(path, routes) }
    }

    const fn in_nav(self, label: &'static str, icon: Icon) -> Self {
        Self { nav: Some(Nav { label, icon, is_exact: false }), ..self }
    }

    const fn command(self, name: &'static str) -> Self {
        Self { command: Some(name), ..self }
    }

    const fn needs(self, scope: Scope) -> Self {
        Self { scope: Some(scope), ..self }
    }

    const fn exact(self) -> Self {
        match self.nav {
            Some(nav) => Self { nav: Some(Nav { is_exact: true, ..nav }), ..self },
            None => self,
        }
    }

    const fn not_html(self) -> Self {
        Self { is_html: false, ..self }
    }

    const fn with_secret_url(self) -> Self {
        Self { has_secret_url: true, ..self }
    }
}

/// Handlers of a page with a form: `show` for GET, `submit` for POST. After a person has signed in again, the form is
/// posted to be shown with what was typed, which `show` does.
pub fn form<S, T, U, V>(show: S, submit: U) -> MethodRouter<Console>
where
    S: Handler<T, Console> + Clone + Sync,
    U: Handler<V, Console> + Clone + Sync,
    T: 'static,
    V: 'static,
{
    let shown = show.clone();
    let posted = async move |state: axum::extract::State<Console>, request: Request| -> Response {
        let is_restored = request.extensions().get::<Visit>().is_some_and(Visit::is_restored);
        match is_restored {
            true => shown.call(request, state.0).await,
            false => submit.call(request, state.0).await,
        }
        .into_response()
    };
    get(show).merge(post(posted))
}
