//! Turns what a handler returns into a page: its content in the layout, or the page of a problem.

pub mod frame;
mod layout;
pub mod page;
mod problem;

use askama::Template;
use axum::{
    http::{StatusCode, header},
    response::{Html, IntoResponse, Redirect, Response},
};

use super::{
    browser::{Visit, cookies, is_bare_error, site::Insecure},
    client::Fault,
};
use crate::base::error::{Code, Error};
use frame::Frame;
pub use page::{Content, Redirected};

/// Result of a page's handler.
pub type PageResult<T = Content> = Result<T, Failure>;

/// Why there is no page. It becomes a page that says what to do next.
#[derive(Clone, Debug)]
pub enum Failure {
    /// The API rejected a call.
    Fault(Fault),
    /// The person has to sign in.
    SignedOut,
    /// The person has to confirm the password. With the fault, if the password was wrong.
    Unconfirmed(Option<Fault>),
    /// Another site sent the form.
    ForeignOrigin,
    /// There is no page at this address, or its method is not supported.
    NoPage(StatusCode),
}

impl Failure {
    /// A failure that only the log explains.
    pub fn internal(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Fault(Fault::internal(cause))
    }

    /// The object does not exist.
    pub fn not_found() -> Self {
        Self::Fault(Error::not_found().into())
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        match fault.code() {
            _ if fault.is_signed_out() => Self::SignedOut,
            Code::ReauthenticationRequired => Self::Unconfirmed(None),
            _ => Self::Fault(fault),
        }
    }
}

impl From<askama::Error> for Failure {
    fn from(error: askama::Error) -> Self {
        Self::internal(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = StatusCode::OK.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Makes the page of a handler's response. `frame` is what the layout shows, if it was loaded already.
pub async fn finish(visit: &Visit, mut response: Response, frame: Option<Result<Frame, Fault>>) -> Response {
    let failure = response.extensions_mut().remove::<Failure>();
    let content = response.extensions_mut().remove::<Content>();
    let content = match (failure, content) {
        (Some(failure), _) => problem::content(visit, failure).await,
        (None, Some(content)) => Ok(content),
        (None, None) => match is_bare_error(&response) {
            // Axum's responses to a path or a method that no page has.
            Some(status) => problem::content(visit, Failure::NoPage(status)).await,
            // Redirects and files.
            None => return response,
        },
    };
    match content {
        Ok(content) => in_layout(visit, content, frame).await,
        Err(response) => *response,
    }
}

/// Puts content into the layout.
async fn in_layout(visit: &Visit, content: Content, frame: Option<Result<Frame, Fault>>) -> Response {
    let is_bare = content.is_bare || !visit.is_signed_in();
    let frame = match frame {
        _ if is_bare => None,
        Some(frame) => Some(frame),
        None => Some(Frame::load(visit).await),
    };
    let frame = match frame {
        // The session ended: the content is that of a signed-out person.
        Some(Err(fault)) if fault.is_signed_out() && visit.is_read() => {
            return problem::sign_in(visit).map_or_else(|response| *response, |content| layout::bare(visit, content));
        }
        Some(frame) => frame.ok(),
        None => None,
    };
    match frame {
        Some(frame) => layout::full(visit, content, &frame),
        None => layout::bare(visit, content),
    }
}

/// Shows a page that leads to the same address, so that the browser sends the session cookie.
pub fn continue_here(visit: &Visit) -> Response {
    #[derive(Template)]
    #[template(path = "view/continue.html")]
    struct Continue<'a> {
        path: &'a str,
    }
    let page = Continue { path: &visit.path };
    page.render().map_or_else(|error| Failure::from(error).into_response(), |text| Html(text).into_response())
}

/// Shows why the console does not work at this address.
pub fn refused(insecure: &Insecure) -> Response {
    #[derive(Template)]
    #[template(path = "view/insecure.html")]
    struct Refused<'a> {
        host: &'a str,
        css: &'static str,
    }
    let page = Refused { host: &insecure.host, css: super::assets::CSS };
    (StatusCode::FORBIDDEN, Html(page.render().unwrap_or_default())).into_response()
}

/// Redirects to a page after a write.
pub(super) fn see_other(path: &str) -> Response {
    Redirect::to(path).into_response()
}

/// Redirects to the sign-in page, and removes a cookie that is no longer valid.
pub(super) fn to_sign_in(visit: &Visit) -> Response {
    let mut response = see_other(&format!("/console/sign-in?return={}", super::client::call::encode(&visit.path)));
    if let Some(cookie) = cookies::end_session(&visit.site).filter(|_| visit.is_signed_in()) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}
