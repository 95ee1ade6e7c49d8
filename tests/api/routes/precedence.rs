//! Precedence of errors: a request begins with several faults, which are fixed one by one in the documented order.

use cloudapi::base::identity::role::Role;
use serde_json::json;

use crate::support::{Identity, Reply, TestApp, cloud::insert_network};

/// A request whose faults are fixed one by one.
struct Attempt<'a> {
    app: &'a TestApp,
    method: &'static str,
    path: String,
    query: &'static str,
    secret: Option<String>,
    media_type: &'static str,
    if_match: Option<&'static str>,
    long_head: bool,
    key: Option<&'static str>,
    body: String,
}

impl<'a> Attempt<'a> {
    /// Starts with every fault.
    fn new(app: &'a TestApp) -> Self {
        Self {
            app,
            method: "PUT",
            path: "/v1/nothing".into(),
            query: "?nonsense=1",
            secret: None,
            media_type: "text/plain",
            if_match: Some("\"no-such-state\""),
            long_head: true,
            key: Some("no key"),
            body: format!("{{\"name\":{}", "x".repeat(70_000)),
        }
    }

    async fn send(&self) -> Reply {
        let nobody = self.app.anonymous();
        let mut request = nobody.request(self.method, &format!("{}{}", self.path, self.query));
        if let Some(secret) = &self.secret {
            request = request.header("authorization", &format!("Bearer {secret}"));
        }
        if let Some(tag) = self.if_match {
            request = request.header("if-match", tag);
        }
        if let Some(key) = self.key {
            request = request.header("idempotency-key", key);
        }
        if self.long_head {
            request = request.header("x-long", &"a".repeat(17 * 1024));
        }
        request.header("content-type", self.media_type).body(self.body.clone()).send().await
    }

    /// Checks which error is reported, then fixes a fault.
    async fn expect(&mut self, status: u16, code: &str, fix: impl FnOnce(&mut Self)) {
        self.send().await.problem(status, code);
        fix(self);
    }
}

#[tokio::test]
async fn on_a_collection_project_is_checked_before_content_and_project_state_last() {
    let app = TestApp::shared().await;
    let (owner, stranger) = (app.owner().await, app.owner().await);
    let viewer = app.member(&owner, Role::Viewer).await;
    let suspended = app.owner().await;
    suspended.post_empty(&format!("/v1/projects/{}/suspend", suspended.project)).await.ok();
    let key = owner.key().await;
    let mut attempt = Attempt::new(&app);
    attempt.expect(431, "headers_too_large", |it| it.long_head = false).await;
    attempt.expect(404, "route_not_found", |it| it.path = "/v1/keys".into()).await;
    attempt.expect(405, "method_not_allowed", |it| it.method = "POST").await;
    attempt.expect(401, "missing_credentials", |it| it.secret = Some("sk_live_junk".into())).await;
    attempt.expect(401, "invalid_token", |it| it.secret = Some(key.secret)).await;
    attempt.expect(403, "credential_kind_not_allowed", |it| it.secret = Some(viewer.secret)).await;
    attempt.expect(400, "invalid_idempotency_key", |it| it.key = None).await;
    attempt.expect(400, "unknown_parameter", |it| it.query = "").await;
    attempt.expect(415, "unsupported_media_type", |it| it.media_type = "application/json").await;
    attempt.expect(413, "payload_too_large", |it| it.body = "{\"nonsense\":".into()).await;
    attempt.expect(400, "malformed_json", |it| it.body = json!({ "nonsense": 1 }).to_string()).await;
    let body = |project: &str| json!({ "project_id": project, "nonsense": 1 }).to_string();
    attempt.expect(400, "project_required", |it| it.body = body(&stranger.project)).await;
    attempt.expect(404, "not_found", |it| it.body = body(&owner.project)).await;
    attempt.expect(403, "insufficient_scope", |it| it.secret = Some(owner.secret)).await;
    let valid = json!({ "project_id": suspended.project, "expires_at": "2020-01-01T00:00:00Z" });
    attempt
        .expect(422, "validation_failed", |it| (it.body, it.secret) = (valid.to_string(), Some(suspended.secret)))
        .await;
    let valid = json!({ "project_id": suspended.project });
    attempt.expect(422, "validation_failed", |it| it.body = valid.to_string()).await;
    attempt.expect(409, "project_not_active", |_| ()).await;
}

#[tokio::test]
async fn on_an_item_content_is_checked_before_existence_and_existence_before_role() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let viewer = app.member(&owner, Role::Viewer).await;
    owner.post_empty(&format!("/v1/projects/{}/suspend", owner.project)).await.ok();
    let mut attempt = Attempt::new(&app);
    (attempt.long_head, attempt.path) = (false, "/v1/projects/proj_1".into());
    attempt.expect(405, "method_not_allowed", |it| it.method = "PATCH").await;
    attempt.expect(401, "missing_credentials", |it| it.secret = Some(viewer.secret)).await;
    attempt.expect(400, "invalid_idempotency_key", |it| it.key = None).await;
    attempt.expect(400, "unknown_parameter", |it| it.query = "").await;
    attempt.expect(415, "unsupported_media_type", |it| it.media_type = "application/json").await;
    attempt.expect(413, "payload_too_large", |it| it.body = "{".into()).await;
    attempt.expect(400, "malformed_json", |it| it.body = json!({ "name": "" }).to_string()).await;
    attempt.expect(422, "validation_failed", |it| it.body = json!({ "name": "n" }).to_string()).await;
    attempt.expect(404, "not_found", |it| it.path = format!("/v1/projects/{}", owner.project)).await;
    attempt.expect(403, "insufficient_scope", |it| it.secret = Some(owner.secret)).await;
    attempt.expect(412, "precondition_failed", |it| it.if_match = None).await;
    attempt.expect(409, "project_not_active", |_| ()).await;
}

#[tokio::test]
async fn on_a_resource_capabilities_are_checked_after_role_and_before_if_match() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let viewer = app.member(&owner, Role::Viewer).await;
    let network = insert_network(&owner).await;
    owner.post_empty(&format!("/v1/projects/{}/suspend", owner.project)).await.ok();
    let mut attempt = Attempt::new(&app);
    (attempt.long_head, attempt.path) = (false, "/v1/resources/res_1".into());
    attempt.expect(405, "method_not_allowed", |it| it.method = "PATCH").await;
    attempt.expect(401, "missing_credentials", |it| it.secret = Some(viewer.secret)).await;
    attempt.expect(400, "invalid_idempotency_key", |it| it.key = None).await;
    attempt.expect(400, "unknown_parameter", |it| it.query = "").await;
    attempt.expect(415, "unsupported_media_type", |it| it.media_type = "application/json").await;
    attempt.expect(413, "payload_too_large", |it| it.body = "{".into()).await;
    attempt.expect(400, "malformed_json", |it| it.body = json!({ "name": "" }).to_string()).await;
    let other = json!({ "spec": { "cidr": "10.1.0.0/16" } });
    attempt.expect(422, "validation_failed", |it| it.body = other.to_string()).await;
    attempt.expect(404, "not_found", |it| it.path = format!("/v1/resources/{network}")).await;
    attempt.expect(403, "insufficient_scope", |it| it.secret = Some(owner.secret)).await;
    attempt.expect(422, "unsupported_capability", |it| it.body = json!({ "name": "n" }).to_string()).await;
    attempt.expect(412, "precondition_failed", |it| it.if_match = None).await;
    attempt.expect(409, "project_not_active", |_| ()).await;
}

#[tokio::test]
async fn rights_and_rate_limit_of_a_key_are_checked_before_its_request() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let narrow = owner.key_with(json!({ "scopes": ["usage:read"] })).await;
    let spent = owner.key_with(json!({ "rate_limit": { "requests": 1, "per_seconds": 86_400 } })).await;
    spent.get("/v1/usage").await.ok();
    let elsewhere = owner.key_with(json!({ "allowed_ips": ["203.0.113.7"], "scopes": ["usage:read"] })).await;
    let mut token = owner.key().await.token(&["tokens:write"]).await;
    for _ in 2..=8 {
        token = token.token(&["tokens:write"]).await;
    }
    let mut attempt = Attempt::new(&app);
    (attempt.long_head, attempt.path, attempt.method) = (false, "/v1/tokens".into(), "POST");
    attempt.expect(401, "missing_credentials", |it| it.secret = Some(elsewhere.secret)).await;
    attempt.expect(403, "ip_not_allowed", |it| it.secret = Some(narrow.secret)).await;
    attempt.expect(403, "insufficient_scope", |it| it.secret = Some(spent.secret)).await;
    attempt.expect(429, "rate_limited", |it| it.secret = Some(token.secret)).await;
    attempt.expect(400, "invalid_idempotency_key", |it| it.key = None).await;
    attempt.expect(400, "unknown_parameter", |it| it.query = "").await;
    attempt.expect(415, "unsupported_media_type", |it| it.media_type = "application/json").await;
    attempt.expect(413, "payload_too_large", |it| it.body = "[".into()).await;
    attempt.expect(400, "malformed_json", |it| it.body = json!({ "name": "n" }).to_string()).await;
    let body = |scope: &str| json!({ "name": "n", "scopes": [scope] }).to_string();
    attempt.expect(422, "validation_failed", |it| it.body = body("users:read")).await;
    attempt.expect(403, "scope_escalation", |it| it.body = body("tokens:write")).await;
    attempt.expect(409, "limit_reached", |_| ()).await;
}

#[tokio::test]
async fn sign_in_limit_is_checked_before_the_request() {
    let limits = cloudapi::base::input::limit::LimitSettings {
        sign_ins: cloudapi::base::input::limit::RateLimit::new(1, 86_400),
        ..Default::default()
    };
    let app = TestApp::start_with(cloudapi::server::state::AppOptions { limits, ..Default::default() }).await;
    let mut attempt = Attempt::new(&app);
    (attempt.long_head, attempt.path) = (false, "/v1/sessions".into());
    attempt.expect(405, "method_not_allowed", |it| it.method = "POST").await;
    attempt.expect(400, "unknown_parameter", |_| ()).await;
    attempt.expect(429, "rate_limited", |_| ()).await;
}
