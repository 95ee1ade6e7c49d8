//! Responses to browsers: security headers and CORS.

use std::collections::BTreeSet;

use axum::http::{HeaderName, HeaderValue};
use cloudapi::{http::layers::edge::EdgeOptions, server::state::AppOptions};
use serde_json::json;

use crate::support::{Identity, Reply, TestApp, document};

const PAGE: &str = "https://app.example.com";

async fn start(edge: EdgeOptions) -> TestApp {
    TestApp::start_with(AppOptions { edge, ..AppOptions::default() }).await
}

async fn app_for_pages() -> TestApp {
    let cors_origins = vec![HeaderValue::from_static(PAGE), HeaderValue::from_static("http://localhost:3000")];
    start(EdgeOptions { cors_origins, ..EdgeOptions::default() }).await
}

fn cors_headers(reply: &Reply) -> Vec<&str> {
    reply.headers.keys().map(HeaderName::as_str).filter(|name| name.starts_with("access-control-")).collect()
}

#[tokio::test]
async fn every_response_has_security_headers() {
    let app = TestApp::shared().await;
    let user = app.user().await;
    let long = "a".repeat(9000);
    let replies = [
        user.get("/v1/projects").await,
        user.post("/v1/projects", json!({ "name": "n" })).await,
        user.post("/v1/projects", json!({})).await,
        app.anonymous().get("/v1/projects").await,
        app.anonymous().get("/nothing").await,
        app.anonymous().get(&format!("/healthz?{long}")).await,
        app.anonymous().request("PUT", "/v1/projects").send().await,
        app.anonymous().request("OPTIONS", "/v1/projects").send().await,
        app.anonymous().get("/healthz").await,
        app.anonymous().get("/openapi.json").await,
    ];
    for reply in replies {
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(reply.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(reply.header("content-security-policy"), Some("default-src 'none'; frame-ancestors 'none'"));
        assert_eq!(reply.header("strict-transport-security"), None, "HTTPS is not configured");
    }
}

#[tokio::test]
async fn private_responses_are_not_cacheable() {
    let app = TestApp::shared().await;
    let user = app.user().await;
    let private = [user.get("/v1/projects").await, app.anonymous().get("/v1/projects").await, user.get("/v1/x").await];
    for reply in private {
        assert_eq!(reply.header("cache-control"), Some("no-store"));
    }
    assert_eq!(app.anonymous().get("/openapi.json").await.header("cache-control"), None);
}

#[tokio::test]
async fn https_server_sends_strict_transport_security() {
    let app = start(EdgeOptions { https: true, ..EdgeOptions::default() }).await;
    for path in ["/healthz", "/v1/projects", "/nothing"] {
        assert_eq!(app.anonymous().get(path).await.header("strict-transport-security"), Some("max-age=31536000"));
    }
}

#[tokio::test]
async fn cors_is_disabled_by_default() {
    let app = TestApp::shared().await;
    let preflight = app.anonymous().request("OPTIONS", "/v1/projects").header("origin", PAGE);
    let reply = preflight.header("access-control-request-method", "POST").send().await;
    assert_eq!((reply.status, reply.header("allow")), (204, Some("GET, POST, HEAD, OPTIONS")));
    assert_eq!(cors_headers(&reply), [""; 0]);
    let reply = app.anonymous().request("GET", "/healthz").header("origin", PAGE).send().await;
    assert_eq!(cors_headers(&reply), [""; 0]);
    assert_eq!(reply.header("vary"), None);
}

#[tokio::test]
async fn configured_origin_may_call_and_read_required_headers() {
    let app = app_for_pages().await;
    let user = app.user().await;
    for origin in [PAGE, "http://localhost:3000"] {
        let preflight = app.http.request(reqwest::Method::OPTIONS, format!("{}/v1/projects/proj_1", app.url));
        let preflight = preflight
            .header("origin", origin)
            .header("access-control-request-method", "PATCH")
            .header("access-control-request-headers", "authorization,content-type,idempotency-key,if-match");
        let reply = Reply::read(preflight.send().await.unwrap()).await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("access-control-allow-origin"), Some(origin));
        assert!(reply.header("access-control-allow-methods").unwrap().contains("PATCH"));
        let allowed = reply.header("access-control-allow-headers").unwrap();
        for name in ["authorization", "content-type", "idempotency-key", "if-match"] {
            assert!(allowed.contains(name), "{allowed}");
        }
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
        assert!(reply.header("x-request-id").is_some());
    }
    // Problems have CORS headers too, so that the page can read the error.
    let replies = [
        user.request("GET", "/v1/projects").header("origin", PAGE).send().await,
        app.anonymous().request("GET", "/v1/projects").header("origin", PAGE).send().await,
        app.anonymous().request("GET", &format!("/healthz?{}", "a".repeat(9000))).header("origin", PAGE).send().await,
    ];
    for (reply, status) in replies.into_iter().zip([200, 401, 414]) {
        assert_eq!((reply.status, reply.header("access-control-allow-origin")), (status, Some(PAGE)));
        let exposed = reply.header("access-control-expose-headers").unwrap();
        for name in
            ["x-request-id", "etag", "location", "retry-after", "ratelimit", "ratelimit-policy", "idempotent-replayed"]
        {
            assert!(exposed.split(',').any(|exposed| exposed.trim() == name), "{name} in {exposed}");
        }
        assert_eq!(reply.header("access-control-allow-credentials"), None, "cookies are not used");
        assert!(reply.header("vary").unwrap().contains("origin"));
    }
}

/// Names of request headers and response headers in the OpenAPI document, in lower case.
fn described_headers() -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut sent, mut answered) = (BTreeSet::new(), BTreeSet::new());
    let operations =
        document::published()["paths"].as_object().unwrap().values().flat_map(|item| item.as_object().unwrap());
    for (_, operation) in operations {
        let parameters = document::parameters(operation);
        sent.extend(parameters.filter(|it| it["in"] == "header").map(|it| it["name"].as_str().unwrap().to_lowercase()));
        for response in operation["responses"].as_object().unwrap().values().map(document::resolve) {
            answered.extend(response["headers"].as_object().into_iter().flatten().map(|(name, _)| name.to_lowercase()));
        }
    }
    (sent, answered)
}

#[tokio::test]
async fn cors_allows_every_header_of_the_openapi_document() {
    let app = app_for_pages().await;
    let (sent, answered) = described_headers();
    let list = |reply: &Reply, name: &str| -> BTreeSet<String> {
        reply.header(name).unwrap().split(',').map(|name| name.trim().to_lowercase()).collect()
    };
    let reply = app.anonymous().request("GET", "/healthz").header("origin", PAGE).send().await;
    let exposed = list(&reply, "access-control-expose-headers");
    assert!(answered.is_subset(&exposed), "{:?} are not exposed", answered.difference(&exposed));
    for name in ["allow", "usage-as-of", "idempotent-replayed", "etag"] {
        assert!(exposed.contains(name), "{name}");
    }
    let preflight = app.http.request(reqwest::Method::OPTIONS, format!("{}/v1/projects", app.url));
    let preflight = preflight.header("origin", PAGE).header("access-control-request-method", "PATCH");
    let reply = Reply::read(preflight.send().await.unwrap()).await;
    let allowed = list(&reply, "access-control-allow-headers");
    assert!(sent.is_subset(&allowed), "{:?} are not allowed", sent.difference(&allowed));
}

#[tokio::test]
async fn origin_that_is_not_configured_may_not_call() {
    let app = app_for_pages().await;
    for origin in ["https://evil.example", "https://app.example.com.evil.example", "http://app.example.com", "null"] {
        let reply = app.anonymous().request("GET", "/healthz").header("origin", origin).send().await;
        assert_eq!((reply.status, reply.header("access-control-allow-origin")), (200, None));
        assert!(
            reply.header("vary").unwrap().contains("origin"),
            "caches must not serve this response to another origin"
        );
    }
    // An OPTIONS request that is not a preflight returns the allowed methods.
    let reply = app.anonymous().request("OPTIONS", "/v1/projects").send().await;
    assert_eq!((reply.status, reply.header("allow")), (204, Some("GET, POST, HEAD, OPTIONS")));
}
