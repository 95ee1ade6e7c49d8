//! `/v1/tokens`.

use std::time::Duration;

use cloudapi::base::{identity::role::Role, runtime::clock::Timestamp};
use serde_json::json;

use crate::support::{Identity, TestApp};

#[tokio::test]
async fn token_secret_is_shown_once_and_the_token_is_the_same_in_every_response() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let reply = key.post("/v1/tokens", json!({ "name": "ci-token", "scopes": ["usage:read", "users:read"] })).await;
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    let location = reply.header("location").unwrap().to_owned();
    let mut made = reply.created();
    assert!(made.as_object_mut().unwrap().remove("token").unwrap().as_str().unwrap().starts_with("cap_"));
    assert_eq!(made["scopes"], json!(["users:read", "usage:read"]));
    assert_eq!((&made["name"], &made["project_id"]), (&json!("ci-token"), &json!(owner.project)));
    let lifetime = Timestamp::parse(made["created_at"].as_str().unwrap())
        .unwrap()
        .until(Timestamp::parse(made["expires_at"].as_str().unwrap()).unwrap());
    assert_eq!(lifetime, Duration::from_secs(90 * 24 * 3600));
    assert_eq!(key.get(&location).await.ok(), made);
    assert_eq!(key.get("/v1/tokens").await.ok()["data"], json!([made]));
    assert_eq!(owner.get(&location).await.ok(), made);
}

#[tokio::test]
async fn token_is_limited_to_its_scopes() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let token = owner.key().await.token(&["users:read"]).await;
    token.get("/v1/users").await.ok();
    token.get("/v1/usage").await.problem(403, "insufficient_scope");
    token.post("/v1/tokens", json!({ "name": "n", "scopes": ["users:read"] })).await.problem(403, "insufficient_scope");
}

#[tokio::test]
async fn token_cannot_have_more_scopes_than_its_issuer() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = owner.key_with(json!({ "scopes": ["tokens:write", "users:read"] })).await;
    let ask = |scopes: &[&str]| json!({ "name": "n", "scopes": scopes });
    key.post("/v1/tokens", ask(&["users:read", "usage:read"])).await.problem(403, "scope_escalation");
    let token = key.token(&["tokens:write"]).await;
    token.post("/v1/tokens", ask(&["users:read"])).await.problem(403, "scope_escalation");

    let viewer = app.member(&owner, Role::Member).await;
    let body = json!({ "project_id": owner.project, "name": "n", "scopes": ["keys:write"] });
    viewer.post("/v1/tokens", body).await.problem(403, "scope_escalation");
}

#[tokio::test]
async fn token_loses_scopes_that_its_issuer_loses() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let admin = app.member(&owner, Role::Admin).await;
    let token = admin.token(&["keys:write", "users:read"]).await;
    let victim = owner.key().await;
    // A lower role of the user also limits tokens of the membership.
    let membership = format!("/v1/users/{}?project_id={}", admin.user_id, owner.project);
    owner.patch(&membership, json!({ "role": "viewer" })).await.ok();
    token.delete(&format!("/v1/keys/{}", victim.id)).await.problem(403, "insufficient_scope");
    token.get("/v1/users").await.ok();
    // Signing out does not revoke it: the token belongs to the membership, not to the session.
    admin.delete("/v1/sessions/current").await.ok();
    token.get("/v1/users").await.ok();
    owner.delete(&membership).await.ok();
    token.get("/v1/users").await.problem(401, "token_revoked");
}

#[tokio::test]
async fn token_expires_no_later_than_its_issuer() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let end = app.clock.now().plus(Duration::from_secs(3600));
    let key = owner.key_with(json!({ "expires_at": end })).await;
    let made = key.post("/v1/tokens", json!({ "name": "n", "scopes": ["users:read"] })).await.created();
    assert_eq!(made["expires_at"], json!(end));
    let longer = key.post("/v1/tokens", json!({ "name": "n", "scopes": ["users:read"], "expires_in": 7200 })).await;
    assert_eq!(longer.invalid_member(), ("#/expires_in".into(), "out_of_range".into()));
    let made =
        key.post("/v1/tokens", json!({ "name": "n", "scopes": ["users:read"], "expires_in": 60 })).await.created();
    let token = crate::support::Bearer { app: &app, secret: made["token"].as_str().unwrap().into() };
    token.get("/v1/users").await.ok();
    app.clock.advance(Duration::from_secs(61));
    token.get("/v1/users").await.problem(401, "token_expired");
}

#[tokio::test]
async fn invalid_members_of_a_new_token_are_rejected() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    for (members, pointer, code) in [
        (json!({ "scopes": ["users:read"] }), "#/name", "required"),
        (json!({ "name": "", "scopes": ["users:read"] }), "#/name", "too_short"),
        (json!({ "name": "n" }), "#/scopes", "required"),
        (json!({ "name": "n", "scopes": [] }), "#/scopes", "too_short"),
        (json!({ "name": "n", "scopes": ["users:read"], "expires_in": 59 }), "#/expires_in", "out_of_range"),
        (json!({ "name": "n", "scopes": ["users:read"], "expires_in": 31_536_001 }), "#/expires_in", "out_of_range"),
        (json!({ "name": "n", "scopes": ["users:read"], "expires_in": "60" }), "#/expires_in", "wrong_type"),
        (json!({ "name": "n", "scopes": ["users:read"], "expires_in": 60.5 }), "#/expires_in", "wrong_type"),
    ] {
        assert_eq!(key.post("/v1/tokens", members).await.invalid_member(), (pointer.into(), code.into()));
    }
    let round = r#"{"name":"n","scopes":["users:read"],"expires_in":6e1}"#;
    key.request("POST", "/v1/tokens").header("content-type", "application/json").body(round).send().await.created();
}

#[tokio::test]
async fn tokens_can_be_nested_eight_levels_deep() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let mut token = owner.key().await.token(&["tokens:write", "users:read"]).await;
    for _ in 2..=8 {
        token = token.token(&["tokens:write", "users:read"]).await;
    }
    token.get("/v1/users").await.ok();
    let ninth = token.post("/v1/tokens", json!({ "name": "n", "scopes": ["users:read"] })).await;
    ninth.problem(409, "limit_reached");
}

#[tokio::test]
async fn revoking_a_token_revokes_nested_tokens_and_is_idempotent() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let parent = key.token(&["tokens:write", "users:read"]).await;
    let child = parent.token(&["users:read"]).await;
    let path = format!("/v1/tokens/{}", parent.id);
    for reply in [key.delete(&path).await, owner.delete(&path).await] {
        assert_eq!(reply.ok(), json!({ "id": parent.id, "revoked": true }));
    }
    parent.get("/v1/users").await.problem(401, "token_revoked");
    child.get("/v1/users").await.problem(401, "token_revoked");
}

#[tokio::test]
async fn token_without_tokens_write_can_revoke_only_itself() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let (token, sibling) = (key.token(&["users:read"]).await, key.token(&["users:read"]).await);
    token.delete(&format!("/v1/tokens/{}", sibling.id)).await.problem(403, "insufficient_scope");
    token.delete(&format!("/v1/tokens/{}", token.id)).await.ok();
    token.delete(&format!("/v1/tokens/{}", token.id)).await.problem(401, "token_revoked");
    sibling.get("/v1/users").await.ok();
}

#[tokio::test]
async fn token_of_another_project_is_not_found() {
    let app = TestApp::shared().await;
    let (owner, stranger) = (app.owner().await, app.owner().await);
    let key = owner.key().await;
    let foreign = stranger.key().await.token(&["users:read"]).await;
    for id in [foreign.id.as_str(), "tok_123", "key_7d1"] {
        let path = format!("/v1/tokens/{id}");
        key.get(&path).await.problem(404, "not_found");
        key.delete(&path).await.problem(404, "not_found");
        owner.get(&path).await.problem(404, "not_found");
        owner.delete(&path).await.problem(404, "not_found");
    }
    foreign.get("/v1/users").await.ok();
    let body = json!({ "project_id": stranger.project, "name": "n", "scopes": ["users:read"] });
    key.post("/v1/tokens", body).await.problem(404, "not_found");
}

#[tokio::test]
async fn no_active_token_remains_when_issuing_and_revoking_race() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    for _ in 0..10 {
        let key = owner.key().await;
        let path = format!("/v1/keys/{}", key.id);
        let mint = || key.post("/v1/tokens", json!({ "name": "n", "scopes": ["users:read"] }));
        let (a, b, revoked, c, d) = tokio::join!(mint(), mint(), owner.delete(&path), mint(), mint());
        revoked.ok();
        for reply in [a, b, c, d] {
            if reply.status == 201 {
                let secret = reply["token"].as_str().unwrap().to_owned();
                let id = reply["id"].as_str().unwrap().to_owned();
                crate::support::Bearer { app: &app, secret }.get("/v1/users").await.problem(401, "token_revoked");
                // Stored as revoked, not only rejected when used.
                assert_eq!(owner.get(&format!("/v1/tokens/{id}")).await.ok()["status"], "revoked");
            } else {
                reply.problem(401, "token_revoked");
            }
        }
    }
}

#[tokio::test]
async fn token_names_its_issuer_and_lists_find_it_by_issuer_and_status() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = owner.key_with(json!({ "scopes": ["tokens:write", "users:read"] })).await;
    let of_user = owner.token(&["users:read"]).await;
    let of_key = key.token(&["tokens:write", "users:read"]).await;
    let of_token = of_key.token(&["users:read"]).await;
    let user = owner.user_id.to_string();
    for (token, id, kind) in [(&of_user, &user, "user"), (&of_key, &key.id, "key"), (&of_token, &of_key.id, "token")] {
        let view = owner.get(&format!("/v1/tokens/{}", token.id)).await.ok();
        assert_eq!(view["issuer"], json!({ "id": id, "type": kind }));
    }
    let list = async |filters: &str| {
        let found = owner.get(&format!("/v1/tokens?project_id={}&{filters}", owner.project)).await.ok();
        found["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|token| token["id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(list(&format!("issuer={user}")).await, [of_user.id.as_str()]);
    assert_eq!(list(&format!("issuer={}", key.id)).await, [of_key.id.as_str()]);
    assert_eq!(list(&format!("issuer={}&order=desc", of_key.id)).await, [of_token.id.as_str()]);
    assert!(list(&format!("issuer={}", of_token.id)).await.is_empty());
    // The same number as the ID of another kind is another issuer.
    let same_number = key.id.replace("key_", "tok_");
    assert!(list(&format!("issuer={same_number}")).await.is_empty());

    assert_eq!(list("status=active").await.len(), 3);
    owner.delete(&format!("/v1/keys/{}", key.id)).await.ok();
    assert_eq!(list("status=active").await, [of_user.id.as_str()]);
    assert_eq!(list("status=revoked").await, [of_key.id.as_str(), of_token.id.as_str()]);
    assert_eq!(list(&format!("status=revoked&issuer={}&name=TOKEN", key.id)).await, [of_key.id.as_str()]);
    app.clock.advance(Duration::from_secs(91 * 24 * 3600));
    let later = app.another_session(&owner).await;
    for (status, count) in [("active", 0), ("expired", 1), ("revoked", 2)] {
        let found = later.get(&format!("/v1/tokens?project_id={}&status={status}", owner.project)).await.ok();
        assert_eq!(found["data"].as_array().unwrap().len(), count, "{status}");
    }
}
