//! `/v1/tokens/introspect` (RFC 7662).

use std::time::Duration;

use cloudapi::base::{clock::Timestamp, secret::SecretKind};
use serde_json::{Value, json};

use crate::support::{Identity, TestApp, app::stray_secret};

async fn ask(by: &impl Identity, secret: &str) -> Value {
    let reply = by.post("/v1/tokens/introspect", json!({ "token": secret })).await;
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    reply.ok()
}

#[tokio::test]
async fn a_live_key_and_a_live_token_of_the_project_are_told_whole() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let token = key.token(&["users:read", "usage:read"]).await;
    let seconds = |view: &Value, name: &str| Timestamp::parse(view[name].as_str().unwrap()).unwrap().unix_seconds();

    let view = owner.get(&format!("/v1/tokens/{}", token.id)).await.ok();
    let told = ask(&key, &token.secret).await;
    let expected = json!({
        "active": true, "scope": "users:read usage:read", "client_id": owner.project, "sub": token.id,
        "jti": token.id, "token_type": "Bearer", "iat": seconds(&view, "created_at"), "exp": seconds(&view, "expires_at"),
    });
    assert_eq!(told, expected);

    let view = owner.get(&format!("/v1/keys/{}", key.id)).await.ok();
    let told = ask(&key, &key.secret).await;
    assert_eq!(
        (&told["active"], &told["sub"], &told["iat"]),
        (&json!(true), &json!(key.id), &json!(seconds(&view, "created_at")))
    );
    assert!(told.get("exp").is_none(), "a key without an end has none: {told}");
}

#[tokio::test]
async fn everything_else_is_not_active_and_nothing_more() {
    let app = TestApp::start().await;
    let (owner, stranger) = (app.owner().await, app.owner().await);
    let key = owner.key().await;
    let (revoked, foreign) = (owner.key().await, stranger.key().await);
    let foreign_token = foreign.token(&["users:read"]).await;
    owner.delete(&format!("/v1/keys/{}", revoked.id)).await.ok();
    let short =
        key.post("/v1/tokens", json!({ "name": "n", "scopes": ["users:read"], "expires_in": 60 })).await.created();
    app.clock.advance(Duration::from_secs(61));
    let stray = stray_secret(SecretKind::Token);
    let invitation = stray_secret(SecretKind::Invitation);
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
        assert_eq!(ask(&key, secret).await, json!({ "active": false }), "{secret}");
    }
}

#[tokio::test]
async fn a_tokens_scope_is_what_its_issuer_still_lets_it_do() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let (asker, key) = (owner.key().await, owner.key().await);
    let token = key.token(&["users:read", "usage:read"]).await;
    owner.patch(&format!("/v1/keys/{}", key.id), json!({ "scopes": ["usage:read"] })).await.ok();
    assert_eq!(ask(&asker, &token.secret).await["scope"], "usage:read");
    let end = app.clock.now().plus(Duration::from_secs(60));
    owner.patch(&format!("/v1/keys/{}", key.id), json!({ "expires_at": end })).await.ok();
    assert_eq!(ask(&asker, &token.secret).await["exp"], end.unix_seconds());
}

#[tokio::test]
async fn a_question_may_be_a_form_as_rfc_7662_has_it() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let form = |body: String| {
        let request = key.request("POST", "/v1/tokens/introspect");
        request.header("content-type", "application/x-www-form-urlencoded").body(body).send()
    };
    assert_eq!(form(format!("token={}&token_type_hint=access_token", key.secret)).await.ok()["active"], true);
    assert_eq!(form("token=".into()).await.ok(), json!({ "active": false }));
    form("token=a&token=b".into()).await.problem(400, "malformed_request");
    assert_eq!(form("tokn=a&token=b".into()).await.invalid_member(), ("#/tokn".into(), "unknown_field".into()));
    assert_eq!(form(String::new()).await.invalid_member(), ("#/token".into(), "required".into()));
    let text = key.request("POST", "/v1/tokens/introspect").header("content-type", "text/plain").body("token=x");
    text.send().await.problem(415, "unsupported_media_type");
}

#[tokio::test]
async fn only_a_key_or_token_with_the_scope_may_ask() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let body = json!({ "token": "x" });
    owner.post("/v1/tokens/introspect", body.clone()).await.problem(403, "credential_kind_not_allowed");
    let narrow = owner.key_with(json!({ "scopes": ["users:read"] })).await;
    narrow.post("/v1/tokens/introspect", body.clone()).await.problem(403, "insufficient_scope");
    owner.token(&["tokens:introspect"]).await.post("/v1/tokens/introspect", body).await.ok();
}
