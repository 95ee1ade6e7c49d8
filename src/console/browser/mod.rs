//! What is between the browser and a page. [`enter`] runs before and after each handler: it checks the transport and
//! the origin of writes, reads the session cookie and the form, confirms the password where the form has one, and turns
//! what the handler returns into a page with headers.

pub mod cookies;
pub mod fields;
pub mod flash;
mod headers;
mod origin;
pub mod return_path;
pub mod shown;
pub mod site;
pub mod visit;

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{MatchedPath, Request, State},
    http::{Method, StatusCode, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{
    Console,
    client::Fault,
    pages::{self, Access, Page},
    view::{self, Failure, frame::Frame},
};
use crate::{
    base::runtime::request::{RequestContext, Route},
    http::request::body::read_body,
};
use fields::{Fields, LINK, PASSWORD, TYPED};
use site::Site;
use visit::Proof;
pub use visit::Visit;

/// Serves one request of a browser.
pub async fn enter(State(console): State<Console>, request: Request, next: Next) -> Response {
    let (mut head, body) = request.into_parts();
    let page = page_of(&console, &head);
    let site = match Site::of(&head, &console.public_url, console.https) {
        Ok(site) => site,
        Err(refused) => return headers::add(view::refused(&refused), page),
    };
    let mut visit = Visit::new(console, site, &head);
    let response = match prepare(&mut visit, &head, body, page).await {
        Ok(()) => {
            head.extensions.insert(visit.clone());
            let handled = next.run(Request::from_parts(head, Body::empty()));
            // The layout's own calls take as long as the page's, so both run at the same time.
            if visit.is_read() && page.is_some_and(|page| page.access == Access::SignedIn && page.is_html) {
                let (frame, response) = tokio::join!(Frame::load(&visit), handled);
                view::finish(&visit, response, Some(frame)).await
            } else {
                view::finish(&visit, handled.await, None).await
            }
        }
        Err(response) => view::finish(&visit, *response, None).await,
    };
    headers::add(visit.site.redirect_for_script(&visit, response), page)
}

/// Everything before the handler. The error is the response to send instead of the handler's.
async fn prepare(
    visit: &mut Visit,
    head: &Parts,
    body: Body,
    page: Option<&'static Page>,
) -> Result<(), Box<Response>> {
    let fail = |failure: Failure| Box::new(failure.into_response());
    let is_write = !head.method.is_safe();
    if is_write && !origin::is_own(head, &visit.site) {
        return Err(fail(Failure::ForeignOrigin));
    }
    if is_write {
        let bytes = read_body(head, body).await.map_err(|error| fail(Fault::from(error).into()))?;
        let fields = Fields::parse(&bytes).map_err(|error| fail(Fault::from(error).into()))?;
        visit.set_fields(fields);
    }
    let is_open = page.is_none_or(|page| page.access == Access::Open);
    if is_open {
        return Ok(());
    }
    if !visit.is_signed_in() {
        // A strict cookie is not sent when a person follows a link from another site. A navigation that begins on our
        // own page sends it.
        let is_link = header_is(head, "sec-fetch-site", "cross-site") && header_is(head, "sec-fetch-mode", "navigate");
        return Err(if head.method == Method::GET && is_link {
            Box::new(view::continue_here(visit))
        } else {
            fail(Failure::SignedOut)
        });
    }
    if is_write {
        // What was typed before the person had to sign in or to confirm the password.
        let proof = visit.fields_mut().take(LINK).filter(|link| !link.is_empty()).map(Proof::Link);
        let password = visit.fields_mut().take(PASSWORD);
        let proof = proof.or(password.map(Proof::Password));
        let is_restored = visit.fields_mut().unpack(TYPED);
        match proof {
            Some(proof) => visit.confirm(proof).await.map_err(fail)?,
            None => {
                let is_again = visit.fields_mut().take(fields::AGAIN).is_some();
                visit.set_restored(is_restored && !is_again);
            }
        }
    }
    Ok(())
}

/// Finds the page and sets the route of the request, for its log line and the metrics.
fn page_of(console: &Console, head: &Parts) -> Option<&'static Page> {
    let path = head.extensions.get::<MatchedPath>()?.as_str();
    let index = pages::TABLE.iter().position(|page| page.path == path)?;
    let page = pages::TABLE.get(index)?;
    let number = crc32fast::hash(format!("{} {}", head.method, page.path).as_bytes());
    let method = usize::from(!head.method.is_safe());
    let route =
        Route { template: page.path, number, index: console.first_route + index * pages::METHODS.len() + method };
    if let Some(context) = head.extensions.get::<Arc<RequestContext>>() {
        let _ = context.route.set(route);
    }
    Some(page)
}

fn header_is(head: &Parts, name: &str, value: &str) -> bool {
    head.headers.get(name).is_some_and(|found| found.as_bytes() == value.as_bytes())
}

/// Status of a response without a page, such as 405, which becomes a page.
pub(super) fn is_bare_error(response: &Response) -> Option<StatusCode> {
    let status = response.status();
    (status.is_client_error() || status.is_server_error()).then_some(status)
}
