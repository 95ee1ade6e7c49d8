//! `allowed_ips`, rate limits of credentials, and limits on failures and sign-ins per address.

use std::time::Duration;

use cloudapi::{
    base::input::limit::{LimitSettings, RateLimit},
    server::state::AppOptions,
};
use serde_json::json;

use crate::support::{Bearer, Identity, TestApp};

fn with_limits(limits: LimitSettings) -> AppOptions {
    AppOptions { limits, ..AppOptions::default() }
}

fn behind_a_proxy() -> AppOptions {
    AppOptions { trusted_proxies: vec!["127.0.0.1".parse().unwrap()], ..AppOptions::default() }
}

#[tokio::test]
async fn key_and_its_tokens_work_only_from_allowed_ips() {
    let app = TestApp::start_with(behind_a_proxy()).await;
    let owner = app.owner().await;
    let key = owner.key_with(json!({ "allowed_ips": ["203.0.113.0/24", "2001:db8::1"] })).await;
    let from = |address: &'static str| key.request("GET", "/v1/users").header("x-forwarded-for", address).send();
    from("203.0.113.7").await.ok();
    from("2001:db8::1").await.ok();
    from("::ffff:203.0.113.7").await.ok();
    for spelling in
        ["[2001:db8::1]", "[2001:db8::1]:4711", "203.0.113.7:4711", "[::ffff:203.0.113.7]", "[2001:db8::1],"]
    {
        from(spelling).await.ok();
    }
    from("[2001:db8::2]").await.problem(403, "ip_not_allowed");
    let problem = from("198.51.100.7").await.problem(403, "ip_not_allowed");
    assert!(problem["detail"].as_str().unwrap().contains("198.51.100.7"), "{problem}");
    // Only the last address counts: the proxy itself added it.
    from("203.0.113.7, 198.51.100.7").await.problem(403, "ip_not_allowed");
    key.get("/v1/users").await.problem(403, "ip_not_allowed");

    let body = json!({ "name": "n", "scopes": ["users:read"] });
    let made =
        key.request("POST", "/v1/tokens").json(&body).header("x-forwarded-for", "203.0.113.7").send().await.created();
    let token = Bearer { app: &app, secret: made["token"].as_str().unwrap().into() };
    token.request("GET", "/v1/users").header("x-forwarded-for", "203.0.113.8").send().await.ok();
    token
        .request("GET", "/v1/users")
        .header("x-forwarded-for", "198.51.100.7")
        .send()
        .await
        .problem(403, "ip_not_allowed");

    let path = format!("/v1/keys/{}", key.id);
    assert_eq!(owner.get(&path).await.ok()["allowed_ips"], json!(["203.0.113.0/24", "2001:db8::1/128"]));
    // A narrower list takes effect immediately. An empty list allows every address.
    owner.patch(&path, json!({ "allowed_ips": ["203.0.113.7"] })).await.ok();
    from("203.0.113.8").await.problem(403, "ip_not_allowed");
    owner.patch(&path, json!({ "allowed_ips": [] })).await.ok();
    from("198.51.100.7").await.ok();
}

#[tokio::test]
async fn x_forwarded_for_counts_only_from_a_trusted_proxy() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let elsewhere = owner.key_with(json!({ "allowed_ips": ["203.0.113.0/24"] })).await;
    let here = owner.key_with(json!({ "allowed_ips": ["127.0.0.1"] })).await;
    let claims = elsewhere.request("GET", "/v1/users").header("x-forwarded-for", "203.0.113.7");
    claims.send().await.problem(403, "ip_not_allowed");
    here.request("GET", "/v1/users").header("x-forwarded-for", "203.0.113.7").send().await.ok();
}

#[tokio::test]
async fn non_ascii_x_forwarded_for_does_not_hide_the_client_address() {
    let app = TestApp::start_with(behind_a_proxy()).await;
    // The proxy's own network is likely to be allowed.
    let key = app.owner().await.key_with(json!({ "allowed_ips": ["127.0.0.1"] })).await;
    // The client's value, followed by the address that the proxy appended.
    for forwarded in ["é, 198.51.100.7", "\u{a0},198.51.100.7"] {
        let reply = key.request("GET", "/v1/users").header("x-forwarded-for", forwarded).send().await;
        let problem = reply.problem(403, "ip_not_allowed");
        assert!(problem["detail"].as_str().unwrap().contains("198.51.100.7"), "{problem}");
    }
}

#[tokio::test]
async fn ipv4_mapped_ipv6_network_is_normalized_to_ipv4() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = owner.key_with(json!({ "allowed_ips": ["::ffff:127.0.0.0/104", "::ffff:203.0.113.7/128"] })).await;
    key.get("/v1/users").await.ok();
    let shown = owner.get(&format!("/v1/keys/{}", key.id)).await.ok();
    assert_eq!(shown["allowed_ips"], json!(["127.0.0.0/8", "203.0.113.7/32"]));
}

#[tokio::test]
async fn invalid_or_too_many_allowed_ips_are_rejected() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    for junk in ["", "example.com", "203.0.113.7/24", "203.0.113.0/33", "0.0.0.0/0/0"] {
        let body = json!({ "project_id": owner.project, "allowed_ips": ["203.0.113.0/24", junk] });
        let fault = owner.post("/v1/keys", body).await.invalid_member();
        assert_eq!(fault, ("#/allowed_ips/1".into(), "invalid_format".into()), "{junk}");
    }
    let many = vec!["203.0.113.7"; 65];
    let body = json!({ "project_id": owner.project, "allowed_ips": many });
    assert_eq!(owner.post("/v1/keys", body).await.invalid_member(), ("#/allowed_ips".into(), "too_long".into()));
}

#[tokio::test]
async fn rate_limit_of_a_key_is_shared_with_its_tokens() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = owner.key_with(json!({ "rate_limit": { "requests": 3, "per_seconds": 3600 } })).await;
    let free = owner.key().await;
    let reply = key.get("/v1/users").await;
    assert_eq!(reply.header("ratelimit-policy"), Some("\"default\";q=3;w=3600"));
    assert_eq!(reply.header("ratelimit"), Some("\"default\";r=2;t=1200"));
    let token = key.token(&["users:read"]).await;
    token.get("/v1/users").await.ok();
    for reply in [token.get("/v1/users").await, key.get("/v1/users").await] {
        let seconds: u32 = reply.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=1200).contains(&seconds), "{seconds}");
        assert!(reply.header("ratelimit").unwrap().starts_with("\"default\";r=0;"), "{:?}", reply.headers);
        reply.problem(429, "rate_limited");
    }
    // Other keys are not limited, and responses without a limit have no `RateLimit` field.
    assert_eq!(free.get("/v1/users").await.header("ratelimit"), None);
    app.clock.advance(Duration::from_secs(1201));
    key.get("/v1/users").await.ok();
    // Requests over the limit are not counted as usage.
    app.flush_usage().await;
    let path = format!("/v1/keys/{}", key.id);
    let limit = json!({ "requests": 100, "per_seconds": 1 });
    assert_eq!(owner.patch(&path, json!({ "rate_limit": limit })).await.ok()["rate_limit"], limit);
    key.get("/v1/users").await.ok();
}

#[tokio::test]
async fn rate_limit_outside_its_bounds_is_rejected() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    for (limit, pointer, code) in [
        (json!({ "requests": 0, "per_seconds": 60 }), "#/rate_limit/requests", "out_of_range"),
        (json!({ "requests": 1, "per_seconds": 86_401 }), "#/rate_limit/per_seconds", "out_of_range"),
        (json!({ "requests": 1 }), "#/rate_limit/per_seconds", "required"),
        (json!({ "requests": 1, "per_seconds": 1, "burst": 1 }), "#/rate_limit/burst", "unknown_field"),
        (json!("600/60"), "#/rate_limit", "wrong_type"),
    ] {
        let reply = owner.post("/v1/keys", json!({ "project_id": owner.project, "rate_limit": limit })).await;
        assert_eq!(reply.invalid_member(), (pointer.into(), code.into()));
    }
}

#[tokio::test]
async fn default_rate_limit_applies_to_each_credential_without_its_own() {
    let limits = LimitSettings { credentials: Some(RateLimit::new(5, 3600)), ..LimitSettings::default() };
    let app = TestApp::start_with(with_limits(limits)).await;
    let owner = app.owner().await; // One request of this session.
    let own = owner.key_with(json!({ "rate_limit": { "requests": 50, "per_seconds": 3600 } })).await; // Two.
    let key = owner.key().await; // Three.
    for _ in 0..5 {
        key.get("/v1/users").await.ok();
        own.get("/v1/users").await.ok();
    }
    key.get("/v1/users").await.problem(429, "rate_limited");
    own.get("/v1/users").await.ok();
    owner.get("/v1/projects").await.ok();
    owner.get("/v1/projects").await.ok();
    owner.get("/v1/projects").await.problem(429, "rate_limited");
}

#[tokio::test]
async fn address_with_too_many_failures_is_limited_but_its_valid_credentials_are_not() {
    let limits = LimitSettings { failures: RateLimit::new(3, 60), ..LimitSettings::default() };
    let app = TestApp::start_with(with_limits(limits)).await;
    let key = app.owner().await.key().await;
    let junk = Bearer { app: &app, secret: "sk_live_junk".into() };
    junk.get("/v1/users").await.problem(401, "invalid_token");
    app.anonymous().get("/v1/users").await.problem(401, "missing_credentials");
    junk.get("/v1/users").await.problem(401, "invalid_token");
    let reply = junk.get("/v1/users").await;
    assert!(reply.header("retry-after").is_some());
    reply.problem(429, "rate_limited");
    app.anonymous().get("/v1/users").await.problem(429, "rate_limited");
    key.get("/v1/users").await.ok();
    // Routes without authentication are not limited either.
    app.anonymous().get("/healthz").await.ok();
    app.clock.advance(Duration::from_secs(61));
    junk.get("/v1/users").await.problem(401, "invalid_token");
}

#[tokio::test]
async fn sign_in_limit_per_address_applies_before_the_body_is_read() {
    let limits = LimitSettings { sign_ins: RateLimit::new(2, 60), ..LimitSettings::default() };
    let app = TestApp::start_with(with_limits(limits)).await;
    let nobody = app.anonymous();
    let sign_in = || nobody.post("/v1/sessions", json!({ "email": "a@example.com", "password": "wrong" }));
    sign_in().await.problem(401, "invalid_credentials");
    app.anonymous().post("/v1/invitations/accept", json!({})).await.problem(422, "validation_failed");
    sign_in().await.problem(429, "rate_limited");
    app.anonymous().request("POST", "/v1/sessions").body("junk").send().await.problem(429, "rate_limited");
    app.clock.advance(Duration::from_secs(61));
    sign_in().await.problem(401, "invalid_credentials");
}
