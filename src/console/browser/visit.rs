//! One request of a browser, as pages see it.

use std::{convert::Infallible, sync::Arc};

use axum::{
    extract::FromRequestParts,
    http::{HeaderValue, Method, request::Parts},
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::OnceCell;

use super::{
    cookies,
    fields::{Fields, ONCE},
    flash,
    site::Site,
};
use crate::{
    api::users::model::Profile,
    auth::console::{ConsoleRequest, ConsoleSecret},
    base::{
        id::ProjectId,
        identity::{scope::ScopeSet, secret::Secret},
        runtime::clock::Timestamp,
    },
    console::{
        Console,
        client::{Call, Client, Fault, Reply},
        components::time::When,
        forms::Form,
        view::{Failure, page::PageBuilder},
    },
};

/// What a person confirms with who they are.
#[derive(Debug)]
pub(super) enum Proof {
    /// Password.
    Password(String),
    /// One-time sign-in link.
    Link(String),
}

/// One request of a browser: the extractor of every page. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Visit {
    /// The console.
    pub console: Console,
    /// Address that the browser uses.
    pub site: Site,
    /// Client of `/v1`, as the signed-in person.
    pub api: Arc<Client>,
    /// Time of the request.
    pub now: Timestamp,
    /// Path and query.
    pub path: Arc<str>,
    /// Theme: `light`, `dark`, or none for the system's.
    pub theme: Option<&'static str>,
    /// Whether a script of ours made the request, which replaces a part of the page.
    pub is_script: bool,
    /// Message of the page before.
    pub message: Option<Arc<str>>,
    method: Method,
    is_signed_in: bool,
    fields: Fields,
    is_restored: bool,
    profile: Arc<OnceCell<Profile>>,
}

impl Visit {
    pub(super) fn new(console: Console, site: Site, head: &Parts) -> Self {
        let secret = cookies::find(&head.headers, &site.cookie).and_then(ConsoleSecret::parse);
        let is_signed_in = secret.is_some();
        let credential = secret.map_or(ConsoleRequest::Anonymous, ConsoleRequest::Session);
        let theme = cookies::find(&head.headers, cookies::THEME);
        Self {
            api: Arc::new(Client::new(console.v1.clone(), credential, head)),
            now: console.clock.now(),
            path: head.uri.path_and_query().map_or("/console", |path| path.as_str()).into(),
            theme: ["light", "dark"].into_iter().find(|known| theme == Some(known)),
            is_script: head.headers.contains_key("hx-request"),
            message: flash::read(&head.headers, &site).map(Into::into),
            method: head.method.clone(),
            is_signed_in,
            fields: Fields::default(),
            is_restored: false,
            profile: Arc::default(),
            console,
            site,
        }
    }

    /// Whether the request has the secret of a browser session. The API knows whether it is valid.
    pub fn is_signed_in(&self) -> bool {
        self.is_signed_in
    }

    /// Whether the request changes nothing.
    pub fn is_read(&self) -> bool {
        self.method.is_safe()
    }

    /// Whether the form is to be shown again with what was typed, and not submitted.
    pub fn is_restored(&self) -> bool {
        self.is_restored
    }

    /// The path without the query.
    pub fn page_path(&self) -> &str {
        self.path.split('?').next().unwrap_or_default()
    }

    /// The submitted fields.
    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    pub(super) fn fields_mut(&mut self) -> &mut Fields {
        &mut self.fields
    }

    pub(super) fn set_fields(&mut self, fields: Fields) {
        self.fields = fields;
    }

    pub(super) fn set_restored(&mut self, is_restored: bool) {
        self.is_restored = is_restored;
    }

    /// The person, read once for each request.
    pub async fn profile(&self) -> Result<&Profile, Fault> {
        let load = async || Ok(self.api.send_unrecorded(&Call::get("/v1/users/me")).await?.body);
        self.profile.get_or_try_init(load).await
    }

    /// Scopes of the person in a project. All scopes if the person has so many projects that the profile does not list
    /// this one: the API decides in any case.
    pub async fn scopes(&self, project: ProjectId) -> Result<ScopeSet, Fault> {
        let profile = self.profile().await?;
        let membership = profile.memberships.iter().find(|membership| membership.project_id == project);
        Ok(membership.map_or_else(ScopeSet::all, |membership| membership.role.scopes()))
    }

    /// Gets an object whose page is in a project. It is not found if the address of the page has another project.
    pub async fn get_in<T: DeserializeOwned>(
        &self,
        project: ProjectId,
        path: String,
        project_of: impl FnOnce(&T) -> ProjectId,
    ) -> Result<Reply<T>, Failure> {
        let found = self.api.get(path).await?;
        if project_of(&found.body) == project { Ok(found) } else { Err(Failure::not_found()) }
    }

    /// Confirms who the person is, so that the API accepts writes that need it.
    pub(super) async fn confirm(&self, proof: Proof) -> Result<(), Failure> {
        let body = match proof {
            Proof::Password(password) => json!({ "password": password }),
            Proof::Link(link) => {
                // The secret, or the address that it was printed in.
                let secret = link.find("lnk_").and_then(|start| link.get(start..)).unwrap_or_default();
                json!({ "sign_in_link": secret.trim() })
            }
        };
        let call = Call::post("/v1/sessions/current/reauthenticate").body(body);
        match self.api.send_unrecorded::<serde_json::Value>(&call).await {
            Ok(_) => Ok(()),
            Err(fault) if fault.is_about_input() => Err(Failure::Unconfirmed(Some(fault))),
            Err(fault) => Err(fault.into()),
        }
    }

    /// The submitted form, or a form with these first values.
    pub fn form(&self, first: Fields) -> Form {
        match self.fields.is_empty() {
            true => Form::new(first),
            false => Form::submitted(self.fields.clone()),
        }
    }

    /// The submitted form.
    pub fn submitted(&self) -> Form {
        Form::submitted(self.fields.clone())
    }

    /// Whether the response to the submitted form may show its secret.
    pub fn may_show_secret(&self, replayed: bool) -> bool {
        self.console.shown.may_show(self.fields.get(ONCE), replayed)
    }

    /// A time relative to now.
    pub fn when(&self, time: Timestamp) -> When {
        When::new(time, self.now)
    }

    /// Starts a page with this title.
    pub fn page(&self, title: impl Into<String>) -> PageBuilder {
        PageBuilder::new(self, title.into())
    }
}

/// New session of the API.
#[derive(Debug, Deserialize)]
pub struct NewSession {
    token: Secret,
}

impl NewSession {
    /// The session cookie.
    pub fn cookie(&self, site: &Site) -> Result<HeaderValue, Failure> {
        let cookie = cookies::session(site, self.token.expose());
        cookie.ok_or_else(|| Failure::internal("a secret is not a header value"))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Visit {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let visit: Option<&Self> = parts.extensions.get();
        visit.cloned().ok_or_else(|| Failure::internal("a page was served without the layer before it"))
    }
}

/// Query of a page, in which unknown parameters are ignored: links can have been written by hand.
#[derive(Clone, Debug, Default)]
pub struct PageQuery(pub Fields);

impl<S: Send + Sync> FromRequestParts<S> for PageQuery {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(Fields::parse(parts.uri.query().unwrap_or_default().as_bytes()).unwrap_or_default()))
    }
}
