//! What a handler returns: the content of a page, or a redirect with a message.

use askama::Template;
use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::Failure;
use crate::{
    base::id::ProjectId,
    console::{
        browser::{Visit, cookies, flash},
        client::Call,
        forms::Form,
    },
};

/// Content of a page, without the layout.
#[derive(Clone, Debug)]
pub struct Content {
    /// Title.
    pub title: String,
    /// HTML.
    pub body: String,
    /// Status of the response.
    pub status: StatusCode,
    /// Project of the page, whose pages the navigation lists.
    pub project: Option<ProjectId>,
    /// Pages above this one, the topmost first: label and path.
    pub crumbs: Vec<(String, String)>,
    /// Calls of `/v1` that the page stands for.
    pub calls: Vec<Call>,
    /// Whether the page has no navigation, such as the sign-in page.
    pub is_bare: bool,
    /// Cookies to set.
    pub cookies: Vec<HeaderValue>,
    /// Address that the browser shows once the page is loaded, for a response to a form.
    pub shown_path: Option<String>,
}

impl IntoResponse for Content {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Builds the content of a page.
#[derive(Debug)]
pub struct PageBuilder {
    content: Content,
    recorded: Vec<Call>,
}

impl PageBuilder {
    pub(in crate::console) fn new(visit: &Visit, title: String) -> Self {
        let content = Content {
            title,
            body: String::new(),
            status: StatusCode::OK,
            project: None,
            crumbs: Vec::new(),
            calls: Vec::new(),
            is_bare: false,
            cookies: Vec::new(),
            shown_path: None,
        };
        Self { content, recorded: visit.api.calls() }
    }

    /// Sets the project.
    #[must_use]
    pub fn project(mut self, project: ProjectId) -> Self {
        self.content.project = Some(project);
        self
    }

    /// Adds a page above this one.
    #[must_use]
    pub fn crumb(mut self, label: impl Into<String>, path: impl Into<String>) -> Self {
        self.content.crumbs.push((label.into(), path.into()));
        self
    }

    /// Adds the call that a form of the page makes. The calls that the page made itself are added without it.
    #[must_use]
    pub fn call(mut self, call: Call) -> Self {
        self.content.calls.push(call);
        self
    }

    /// The page is a form: 422 if it has errors.
    #[must_use]
    pub fn form(mut self, form: &Form) -> Self {
        if form.is_rejected() {
            self.content.status = StatusCode::UNPROCESSABLE_ENTITY;
        }
        self
    }

    /// Sets the status.
    #[must_use]
    pub fn status(mut self, status: StatusCode) -> Self {
        self.content.status = status;
        self
    }

    /// The page has no navigation.
    #[must_use]
    pub fn bare(mut self) -> Self {
        self.content.is_bare = true;
        self
    }

    /// Sets the address that the browser shows, for a response to a form.
    #[must_use]
    pub fn shown_at(mut self, path: impl Into<String>) -> Self {
        self.content.shown_path = Some(path.into());
        self
    }

    /// Finishes the page with its template.
    pub fn show(mut self, template: &impl Template) -> Result<Content, Failure> {
        self.content.body = template.render()?;
        if self.content.calls.is_empty() {
            self.content.calls = self.recorded;
        }
        Ok(self.content)
    }
}

/// Redirect after a write, with a message for the next page.
#[derive(Debug)]
pub struct Redirected {
    path: String,
    cookies: Vec<HeaderValue>,
}

impl Redirected {
    /// Redirects to a page.
    pub fn to(path: impl Into<String>) -> Self {
        Self { path: path.into(), cookies: Vec::new() }
    }

    /// Shows a message there.
    #[must_use]
    pub fn message(self, visit: &Visit, text: &str) -> Self {
        self.cookie(cookies::message(&visit.site, &flash::value(text)))
    }

    /// Sets a cookie.
    #[must_use]
    pub fn cookie(mut self, cookie: Option<HeaderValue>) -> Self {
        self.cookies.extend(cookie);
        self
    }
}

impl IntoResponse for Redirected {
    fn into_response(self) -> Response {
        let mut response = super::see_other(&self.path);
        response.headers_mut().extend(self.cookies.into_iter().map(|cookie| (header::SET_COOKIE, cookie)));
        response
    }
}
