//! The address that the browser uses: whether the connection protects a cookie, and the names of cookies.

use std::borrow::Cow;

use axum::{
    http::{HeaderValue, StatusCode, header, request::Parts, uri::Authority},
    response::Response,
};
use url::{Host, Url};

use super::Visit;

/// Address of the console, as the browser knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// URL for curl commands, without a trailing slash.
    pub base: String,
    /// Origin of pages: scheme, host and port.
    pub origin: String,
    /// Whether the connection is https.
    pub is_secure: bool,
    /// Name of the session cookie.
    pub cookie: Cow<'static, str>,
    /// Name of the cookie with a message for the next page.
    pub flash_cookie: Cow<'static, str>,
}

/// The console does not work at this address, because others on the network could read the session cookie.
#[derive(Debug)]
pub struct Insecure {
    /// Address that the browser used.
    pub host: String,
}

impl Site {
    /// Determines the address from a request. Plain http is accepted from this machine only.
    pub fn of(head: &Parts, public_url: &str, https: bool) -> Result<Self, Insecure> {
        let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let host = host.or_else(|| head.uri.authority().map(Authority::as_str)).unwrap_or_default();
        if https {
            let origin = Url::parse(public_url).map(|url| url.origin().ascii_serialization());
            return Ok(Self {
                base: public_url.to_owned(),
                origin: origin.unwrap_or_else(|_| format!("https://{host}")),
                is_secure: true,
                cookie: "__Host-cloudapi".into(),
                flash_cookie: "__Host-cloudapi-message".into(),
            });
        }
        let url = Url::parse(&format!("http://{host}")).ok().filter(is_loopback);
        let Some(url) = url else { return Err(Insecure { host: host.to_owned() }) };
        // Cookies ignore the port, and another server of this machine may use the same name.
        let port = url.port_or_known_default().unwrap_or(80);
        let origin = url.origin().ascii_serialization();
        Ok(Self {
            base: origin.clone(),
            origin,
            is_secure: false,
            cookie: format!("cloudapi-{port}").into(),
            flash_cookie: format!("cloudapi-message-{port}").into(),
        })
    }

    /// A script cannot see a redirect, which its request follows. It gets a header instead.
    pub(super) fn redirect_for_script(&self, visit: &Visit, mut response: Response) -> Response {
        if visit.is_script && response.status() == StatusCode::SEE_OTHER {
            let location = response.headers_mut().remove(header::LOCATION);
            let location = location.unwrap_or(HeaderValue::from_static("/console"));
            response.headers_mut().insert("hx-redirect", location);
            *response.status_mut() = StatusCode::OK;
        }
        response
    }
}

/// Whether the URL leads to the machine of the browser. A name that somebody else controls never does.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn site(host: &str, public_url: &str, https: bool) -> Result<Site, Insecure> {
        let (head, ()) = Request::builder().header(header::HOST, host).body(()).unwrap().into_parts();
        Site::of(&head, public_url, https)
    }

    #[test]
    fn plain_http_works_on_this_machine_only() {
        for host in ["127.0.0.1:8080", "localhost:8080", "[::1]:8080", "api.localhost:8080", "127.9.9.9:8080"] {
            let site = site(host, "http://127.0.0.1:8080", false).unwrap();
            assert_eq!((site.origin, &*site.cookie), (format!("http://{host}"), "cloudapi-8080"));
        }
        for host in ["10.0.0.5:8080", "api.example.com", "localhost.example.com", "0.0.0.0:8080", "", "evil@localhost"]
        {
            let origin = site(host, "http://127.0.0.1:8080", false).map(|site| site.origin);
            assert!(origin.as_deref().is_err() || origin.as_deref().unwrap() == "http://localhost", "{host}");
        }
        assert_eq!(&*site("localhost", "", false).unwrap().cookie, "cloudapi-80");
    }

    #[test]
    fn https_uses_the_public_url_and_a_host_cookie() {
        let site = site("internal:8080", "https://api.example.com/base", true).unwrap();
        assert_eq!((site.origin.as_str(), &*site.cookie), ("https://api.example.com", "__Host-cloudapi"));
        assert!(site.is_secure);
    }
}
