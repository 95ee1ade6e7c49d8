//! `/v1/tokens/introspect` (RFC 7662).

use std::time::Duration;

use cloudapi::base::{identity::secret::SecretKind, runtime::clock::Timestamp};
use serde_json::{Value, json};

use crate::support::{Identity, TestApp, app::unknown_secret};

async fn introspect(by: &impl Identity, secret: &str) -> Value {
    let reply = by.post("/v1/tokens/introspect", json!({ "token": secret })).await;
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    reply.ok()
}

#[tokio::test]
async fn active_key_and_token_of_the_project_return_all_fields() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let token = key.token(&["users:read", "usage:read"]).await;
    let seconds = |view: &Value, name: &str| Timestamp::parse(view[name].as_str().unwrap()).unwrap().unix_seconds();

    let view = owner.get(&format!("/v1/tokens/{}", token.id)).await.ok();
    let introspected = introspect(&key, &token.secret).await;
    let expected = json!({
        "active": true, "scope": "users:read usage:read", "client_id": owner.project, "sub": token.id,
        "jti": token.id, "token_type": "Bearer", "iat": seconds(&view, "created_at"), "exp": seconds(&view, "expires_at"),
    });
    assert_eq!(introspected, expected);

    let view = owner.get(&format!("/v1/keys/{}", key.id)).await.ok();
    let introspected = introspect(&key, &key.secret).await;
    assert_eq!(
        (&introspected["active"], &introspected["sub"], &introspected["iat"]),
        (&json!(true), &json!(key.id), &json!(seconds(&view, "created_at")))
    );
    assert!(introspected.get("exp").is_none(), "key without expiry has exp: {introspected}");
}

#[tokio::test]
async fn other_secrets_return_only_active_false() {
    let app = TestApp::start().await;
    let (owner, stranger) = (app.owner().await, app.owner().await);
    let key = owner.key().await;
    let (revoked, foreign) = (owner.key().await, stranger.key().await);
    let foreign_token = foreign.token(&["users:read"]).await;
    owner.delete(&format!("/v1/keys/{}", revoked.id)).await.ok();
    let short =
        key.post("/v1/tokens", json!({ "name": "n", "scopes": ["users:read"], "expires_in": 60 })).await.created();
    app.clock.advance(Duration::from_secs(61));
    let stray = unknown_secret(SecretKind::Token);
    let invitation = unknown_secret(SecretKind::Invitation);
    for secret in [
        &revoked.secret,
        &foreign.secret,
        &foreign_token.secret,
        &owner.secret,
        &stray,
        &invitation,
        short["token"].as_str().unwrap(),
        "",
        "junk",
        "sk_live_é",
        "'; DROP TABLE tokens; --",
    ] {
        assert_eq!(introspect(&key, secret).await, json!({ "active": false }), "{secret}");
    }
}

#[tokio::test]
async fn token_scope_and_expiry_are_limited_by_its_issuer() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let (asker, key) = (owner.key().await, owner.key().await);
    let token = key.token(&["users:read", "usage:read"]).await;
    owner.patch(&format!("/v1/keys/{}", key.id), json!({ "scopes": ["usage:read"] })).await.ok();
    assert_eq!(introspect(&asker, &token.secret).await["scope"], "usage:read");
    let end = app.clock.now().plus(Duration::from_secs(60));
    owner.patch(&format!("/v1/keys/{}", key.id), json!({ "expires_at": end })).await.ok();
    assert_eq!(introspect(&asker, &token.secret).await["exp"], end.unix_seconds());
}

#[tokio::test]
async fn request_may_be_form_encoded_as_in_rfc_7662() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let form = |body: String| {
        let request = key.request("POST", "/v1/tokens/introspect");
        request.header("content-type", "application/x-www-form-urlencoded").body(body).send()
    };
    assert_eq!(form(format!("token={}&token_type_hint=access_token", key.secret)).await.ok()["active"], true);
    assert_eq!(form(format!("&&token={}&", key.secret)).await.ok()["active"], true);
    let text = key.request("POST", "/v1/tokens/introspect").header("content-type", "text/plain").body("token=x");
    text.send().await.problem(415, "unsupported_media_type");
    // RFC 6749 §3.2: a parameter must not be repeated, and one without a value counts as omitted. RFC 8707 §2:
    // `resource` may be repeated, so unknown parameters may be repeated too.
    form("token=a&resource=https%3A%2F%2Fa.example&resource=https%3A%2F%2Fb.example".into()).await.ok();
    for repeated in
        ["token=a&token=b", "token=a&token=a", "token=a&token_type_hint=x&token_type_hint=y", "token=a&%74oken=b"]
    {
        form(repeated.into()).await.problem(400, "malformed_request");
    }
    for omitted in ["", "token=", "token", "tokn=a", "token=&token_type_hint=access_token"] {
        assert_eq!(form(omitted.into()).await.invalid_member(), ("#/token".into(), "required".into()), "{omitted}");
    }
    assert_eq!(form(format!("token=&token={}", key.secret)).await.ok()["active"], true);
    for malformed in ["token=%", "token=%zz", "token=%ff", "token=%ed%a0%80"] {
        form(malformed.into()).await.problem(400, "malformed_request");
    }
    assert_eq!(form("token=%00".into()).await.invalid_member(), ("#/token".into(), "invalid_characters".into()));
}

#[tokio::test]
async fn unknown_parameters_are_ignored_in_forms_and_json() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let long = "h".repeat(10_000);
    let others = [
        "client_id=s6BhdRkqt3".to_owned(),
        "client_id=s6BhdRkqt3&client_secret=x".to_owned(),
        "resource=https%3A%2F%2Fapi.example.com%2F".to_owned(),
        "token_type_hint=refresh_token".to_owned(),
        format!("token_type_hint={long}"),
        format!("{long}=1"),
        "x=%ff&y=%".to_owned(),
        "%ff=1&=2".to_owned(),
    ];
    for other in others {
        let request = key.request("POST", "/v1/tokens/introspect");
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let reply = request.body(format!("{other}&token={}", key.secret)).send().await;
        assert_eq!(reply.ok()["sub"], key.id.as_str(), "{other:.60}");
    }
    for other in [json!("s6BhdRkqt3"), json!(null), json!({ "a": ["\u{1}"] }), json!(long)] {
        let body = json!({ "token": key.secret, "client_id": other, "token_type_hint": long, "resource": [1] });
        assert_eq!(key.post("/v1/tokens/introspect", body).await.ok()["sub"], key.id.as_str());
    }
}

#[tokio::test]
async fn unknown_token_of_any_length_up_to_the_body_limit_is_not_active() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let limit = cloudapi::http::request::extract::MAX_BODY;
    for length in [1, 64, 1_024, 1_025, 10_000, 60_000, limit - "token=".len()] {
        let token = "x".repeat(length);
        if length + 20 < limit {
            assert_eq!(introspect(&key, &token).await, json!({ "active": false }), "{length}");
        }
        let request = key.request("POST", "/v1/tokens/introspect");
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        assert_eq!(request.body(format!("token={token}")).send().await.ok(), json!({ "active": false }), "{length}");
    }
}

#[tokio::test]
async fn only_keys_and_tokens_with_the_scope_may_introspect() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let body = json!({ "token": "x" });
    owner.post("/v1/tokens/introspect", body.clone()).await.problem(403, "credential_kind_not_allowed");
    let narrow = owner.key_with(json!({ "scopes": ["users:read"] })).await;
    narrow.post("/v1/tokens/introspect", body.clone()).await.problem(403, "insufficient_scope");
    owner.token(&["tokens:introspect"]).await.post("/v1/tokens/introspect", body).await.ok();
}
