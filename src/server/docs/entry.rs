//! `/`: entry points of the server.

use std::convert::Infallible;

use axum::{
    extract::{FromRequestParts, State},
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    auth::grant::Public,
    base::error::Result,
    http::{
        PublicUrl,
        describe::{ApiResponse, Argument, ResponseShape},
        request::negotiation::weighted,
        response::Json,
    },
};

const DOCS: &str = "/docs";

/// Entry points of the server.
#[derive(Debug, Serialize, JsonSchema)]
pub struct EntryPoints {
    /// Base URL of the API.
    #[schemars(url)]
    api: String,
    /// URL of the API reference, for people.
    #[schemars(url)]
    docs: String,
    /// URL of the OpenAPI document.
    #[schemars(url)]
    openapi: String,
    /// URL of the liveness probe.
    #[schemars(url)]
    liveness: String,
    /// URL of the readiness probe.
    #[schemars(url)]
    readiness: String,
}

/// Response of `/`: the entry points for programs, or a redirect to the API reference for browsers.
#[derive(Debug)]
pub enum Entry {
    /// Entry points as JSON.
    Program(EntryPoints),
    /// Redirect.
    Browser,
}

/// Whether the client prefers HTML.
#[derive(Clone, Copy, Debug)]
pub struct PrefersHtml(bool);

impl<S: Send + Sync> FromRequestParts<S> for PrefersHtml {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> std::result::Result<Self, Infallible> {
        Ok(Self(prefers_html(&parts.headers)))
    }
}

impl Argument for PrefersHtml {}

/// Returns the entry points.
pub async fn entry(
    _: Public,
    State(public_url): State<PublicUrl>,
    PrefersHtml(to_browser): PrefersHtml,
) -> Result<Entry> {
    if to_browser {
        return Ok(Entry::Browser);
    }
    let at = |path: &str| format!("{public_url}{path}");
    Ok(Entry::Program(EntryPoints {
        api: at("/v1"),
        docs: at(DOCS),
        openapi: at("/openapi.json"),
        liveness: at("/healthz"),
        readiness: at("/readyz"),
    }))
}

/// Returns whether `Accept` prefers HTML. Browsers name `text/html`; programs send only `*/*`.
fn prefers_html(headers: &HeaderMap) -> bool {
    let (mut html, mut json) = (0.0_f32, 0.0_f32);
    for (media_type, weight) in weighted(headers, &header::ACCEPT) {
        match media_type.as_str() {
            "text/html" | "application/xhtml+xml" => html = html.max(weight),
            "application/json" => json = json.max(weight),
            _ => {}
        }
    }
    html > 0.0 && html >= json
}

impl IntoResponse for Entry {
    fn into_response(self) -> Response {
        let mut response = match self {
            Self::Program(points) => Json(points).into_response(),
            Self::Browser => (StatusCode::FOUND, [(header::LOCATION, DOCS)]).into_response(),
        };
        response.headers_mut().append(header::VARY, HeaderValue::from_static("accept"));
        response
    }
}

impl ApiResponse for Entry {
    const SHAPE: ResponseShape = ResponseShape {
        description: "The entry points.",
        others: &[(302, "For a browser: a redirect to the API reference.")],
        ..<Json<EntryPoints> as ApiResponse>::SHAPE
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browser_is_recognized_by_its_accept_header() {
        let prefers = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_str(accept).unwrap());
            prefers_html(&headers)
        };
        for accept in [
            "text/html",
            "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8",
            "Text/HTML; q=0.5, application/json; q=0.4",
            "application/json, text/html",
        ] {
            assert!(prefers(accept), "{accept}");
        }
        for accept in
            ["*/*", "", "application/json", "text/html;q=0", "text/html;q=0.4, application/json", "text/html;q=x"]
        {
            assert!(!prefers(accept), "{accept}");
        }
        assert!(!prefers_html(&HeaderMap::new()));
    }
}
