//! The layout around the content of every page.

use askama::Template;
use axum::{
    http::{StatusCode, header},
    response::{Html, IntoResponse, Response},
};

use super::{Content, frame::Frame};
use crate::{
    api::users::model::ProfileMembership,
    auth::credentials::sessions::IDLE_TIMEOUT,
    base::{id::ProjectId, identity::scope::ScopeSet},
    console::{
        assets,
        browser::{Visit, cookies},
        components::{icon::Icon, status::Badge},
        pages::{self, Page},
    },
};

/// Settings of htmx: no evaluation of text, no styles of its own, requests to this server only, no copies of pages.
const HTMX: &str = r#"{"allowEval":false,"allowScriptTags":false,"includeIndicatorStyles":false,"selfRequestsOnly":true,"historyCacheSize":0,"refreshOnHistoryMiss":true,"scrollIntoViewOnBoost":false,"responseHandling":[{"code":"204","swap":false},{"code":"[2345]..","swap":true}]}"#;

#[derive(Template)]
#[template(path = "view/layout.html")]
struct Layout<'a> {
    visit: &'a Visit,
    content: &'a Content,
    frame: Option<&'a Frame>,
    project: Option<&'a ProfileMembership>,
    nav: Vec<Link>,
    commands: Vec<(&'static str, String)>,
    calls: Vec<Shown>,
    css: &'static str,
    js: &'static str,
    htmx: &'static str,
    mark: &'static str,
    settings: &'static str,
    session_end: Option<SessionEnd>,
}

/// When the session ends without further requests.
struct SessionEnd {
    seconds: u64,
    /// Whether a request would delay the end.
    is_idle: bool,
}

impl SessionEnd {
    fn of(visit: &Visit, frame: &Frame) -> Self {
        let left = visit.now.until(frame.profile.session.expires_at);
        Self { seconds: left.min(IDLE_TIMEOUT).as_secs(), is_idle: left > IDLE_TIMEOUT }
    }
}

impl Layout<'_> {
    fn is_here(&self, project: &ProjectId) -> bool {
        self.content.project.as_ref() == Some(project)
    }
}

/// Link of the navigation.
struct Link {
    label: &'static str,
    icon: Icon,
    path: String,
    is_current: bool,
}

/// Call of `/v1`, as the page shows it.
struct Shown {
    id: String,
    name: String,
    curl: String,
}

/// A page with navigation.
pub fn full(visit: &Visit, content: Content, frame: &Frame) -> Response {
    page(visit, &content, Some(frame))
}

/// A page without navigation.
pub fn bare(visit: &Visit, content: Content) -> Response {
    page(visit, &content, None)
}

fn page(visit: &Visit, content: &Content, frame: Option<&Frame>) -> Response {
    let memberships = frame.map(|frame| frame.profile.memberships.as_slice()).unwrap_or_default();
    let project = content.project.and_then(|id| memberships.iter().find(|project| project.project_id == id));
    let linked: Vec<(&'static Page, String)> = frame.map(|_| linked(content, project)).unwrap_or_default();
    let nav = links(visit, content, &linked);
    let commands = linked.iter().filter_map(|(page, path)| Some((page.command?, path.clone()))).collect();
    let shown = content.calls.iter().enumerate().map(|(index, call)| Shown {
        id: format!("curl-{index}"),
        name: call.name(),
        curl: call.curl(&visit.site.base),
    });
    let layout = Layout {
        visit,
        content,
        frame,
        project,
        nav,
        commands,
        calls: shown.collect(),
        css: assets::CSS,
        js: assets::JS,
        htmx: assets::HTMX,
        mark: assets::MARK,
        settings: HTMX,
        session_end: frame.map(|frame| SessionEnd::of(visit, frame)),
    };
    let text = match layout.render() {
        Ok(text) => text,
        Err(error) => {
            tracing::error!(error = %error, "page could not be rendered");
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
    };
    let mut response = (content.status, Html(text)).into_response();
    let ended = visit.message.as_ref().and_then(|_| cookies::end_message(&visit.site));
    let set = content.cookies.iter().cloned().chain(ended);
    response.headers_mut().extend(set.map(|cookie| (header::SET_COOKIE, cookie)));
    response
}

/// The pages that can be linked: those of the content's project that the person may open, and those without a project.
fn linked(content: &Content, project: Option<&ProfileMembership>) -> Vec<(&'static Page, String)> {
    // A project that the profile does not list: the API decides.
    let allowed = project.map_or_else(ScopeSet::all, |project| project.role.scopes());
    let path = |page: &'static Page| {
        let path = match content.project {
            Some(project) => page.path.replace("{project_id}", &project.to_string()),
            None => page.path.to_owned(),
        };
        let may_open = page.scope.is_none_or(|scope| allowed.contains(scope));
        (may_open && !path.contains('{')).then_some((page, path))
    };
    pages::TABLE.iter().filter_map(path).collect()
}

/// Links of the navigation.
fn links(visit: &Visit, content: &Content, linked: &[(&'static Page, String)]) -> Vec<Link> {
    let here = visit.page_path();
    let link = |(page, path): &(&'static Page, String)| {
        let nav = page.nav?;
        let is_below = here.strip_prefix(path.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        // The overview is above all other pages of the project.
        // Pages of parts of an object, such as an operation, belong to the list above them.
        let is_above = content.crumbs.first().is_some_and(|(_, above)| above == path);
        let is_current = if nav.is_exact { here == path } else { is_below || is_above };
        Some(Link { label: nav.label, icon: nav.icon, path: path.clone(), is_current })
    };
    linked.iter().filter_map(link).collect()
}
