//! Protection of writes against requests that other sites make with the browser's cookie (CSRF).

use axum::http::{header, request::Parts};

use super::site::Site;

/// Whether a page of this console made the request. Browsers say so in `Sec-Fetch-Site`, which scripts cannot set. Old
/// browsers only send the origin. A request without either is not from a page.
pub fn is_own(head: &Parts, site: &Site) -> bool {
    let mut found = head.headers.get_all("sec-fetch-site").iter();
    match (found.next(), found.next()) {
        (Some(fetch_site), None) => fetch_site == "same-origin",
        (None, _) => {
            let mut origins = head.headers.get_all(header::ORIGIN).iter();
            origins.next().is_some_and(|origin| origin.as_bytes() == site.origin.as_bytes()) && origins.next().is_none()
        }
        (Some(_), Some(_)) => false,
    }
}
