//! `/v1/keys`.

use std::time::Duration;

use cloudapi::{base::scope::Scope, users::model::Role};
use serde_json::{Value, json};

use crate::support::{Identity, TestApp};

fn all_scopes() -> Vec<&'static str> {
    Scope::ALL.iter().map(|scope| scope.as_str()).collect()
}

#[tokio::test]
async fn a_key_is_shown_with_its_secret_once_and_otherwise_the_same_everywhere() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let reply =
        owner.post("/v1/keys", json!({ "project_id": owner.project, "name": "ci", "metadata": { "a": "b" } })).await;
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    let location = reply.header("location").unwrap().to_owned();
    let mut made = reply.created();
    let secret = made.as_object_mut().unwrap().remove("key").unwrap();
    let secret = secret.as_str().unwrap();
    assert_eq!(secret.len(), "sk_live_".len() + 43 + 6);
    assert_eq!(made["hint"], &secret[..12]);
    assert_eq!((&made["name"], &made["metadata"]), (&json!("ci"), &json!({ "a": "b" })));
    assert_eq!((&made["status"], &made["expires_at"]), (&json!("active"), &json!(null)));
    assert_eq!(made["created_by"], owner.user_id.to_string());
    assert_eq!(location, format!("/v1/keys/{}", made["id"].as_str().unwrap()));
    assert_eq!(owner.get(&location).await.ok(), made);
    let listed = owner.get(&format!("/v1/keys?project_id={}", owner.project)).await.ok();
    assert_eq!(listed["data"], json!([made]));
}

#[tokio::test]
async fn a_key_made_without_scopes_does_what_the_reference_does_with_a_key() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let made = owner.post("/v1/keys", json!({ "project_id": owner.project })).await.created();
    let extra = ["tokens:write", "tokens:introspect", "keys:write"];
    let expected: Vec<&str> =
        all_scopes().into_iter().filter(|scope| scope.ends_with(":read") || extra.contains(scope)).collect();
    assert_eq!(made["scopes"], json!(expected));
    assert_eq!(made["name"], "");
}

#[tokio::test]
async fn only_a_session_with_keys_write_makes_keys() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = owner.key_with(json!({ "scopes": all_scopes() })).await;
    let token = owner.token(&["keys:write"]).await;
    let body = json!({ "project_id": owner.project });
    key.post("/v1/keys", body.clone()).await.problem(403, "credential_kind_not_allowed");
    token.post("/v1/keys", body.clone()).await.problem(403, "credential_kind_not_allowed");
    app.nobody().post("/v1/keys", body.clone()).await.problem(401, "missing_credentials");
    for role in [Role::Viewer, Role::Member] {
        app.member(&owner, role).await.post("/v1/keys", body.clone()).await.problem(403, "insufficient_scope");
    }
    app.member(&owner, Role::Admin).await.post("/v1/keys", body).await.created();
}

#[tokio::test]
async fn a_session_names_the_project_before_the_rest_of_the_body_is_judged() {
    let app = TestApp::start().await;
    let (owner, stranger) = (app.owner().await, app.owner().await);
    owner.post("/v1/keys", json!({ "nonsense": 1 })).await.problem(400, "project_required");
    owner.post("/v1/keys", json!({ "project_id": null })).await.problem(400, "project_required");
    let foreign = json!({ "project_id": stranger.project, "nonsense": 1 });
    owner.post("/v1/keys", foreign).await.problem(404, "not_found");
    owner.post("/v1/keys", json!({ "project_id": "proj_1" })).await.problem(404, "not_found");
    let own = json!({ "project_id": owner.project, "nonsense": 1 });
    assert_eq!(owner.post("/v1/keys", own).await.invalid_member(), ("#/nonsense".into(), "unknown_field".into()));
    owner.get("/v1/keys").await.problem(400, "project_required");
    let wrong = owner.post("/v1/keys", json!({ "project_id": 7 })).await;
    assert_eq!(wrong.invalid_member(), ("#/project_id".into(), "wrong_type".into()));
}

#[tokio::test]
async fn every_fault_of_a_body_is_told_at_its_place() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let fault = async |members: Value| {
        let mut body = members;
        body["project_id"] = json!(owner.project);
        owner.post("/v1/keys", body).await.invalid_member()
    };
    let told = |pointer: &str, code: &str| (pointer.to_owned(), code.to_owned());
    assert_eq!(fault(json!({ "scopes": ["users:raed"] })).await, told("#/scopes/0", "unknown_scope"));
    assert_eq!(fault(json!({ "scopes": ["users:read", 7] })).await, told("#/scopes/1", "wrong_type"));
    assert_eq!(fault(json!({ "scopes": [] })).await, told("#/scopes", "too_short"));
    assert_eq!(fault(json!({ "scopes": ["users:read", "users:read"] })).await, told("#/scopes", "out_of_range"));
    assert_eq!(fault(json!({ "scopes": "users:read" })).await, told("#/scopes", "wrong_type"));
    assert_eq!(fault(json!({ "name": "x".repeat(101) })).await, told("#/name", "too_long"));
    assert_eq!(fault(json!({ "expires_at": "tomorrow" })).await, told("#/expires_at", "invalid_format"));
    assert_eq!(fault(json!({ "expires_at": "2020-01-01T00:00:00Z" })).await, told("#/expires_at", "out_of_range"));
    // In UTC it is in the year 10000, which RFC 3339 cannot write.
    assert_eq!(
        fault(json!({ "expires_at": "9999-12-31T23:59:59-01:00" })).await,
        told("#/expires_at", "invalid_format")
    );
    assert_eq!(fault(json!({ "expires_in": 60 })).await, told("#/expires_in", "unknown_field"));
    // Null stands for an absent member, and there is none of this name to be absent.
    assert_eq!(fault(json!({ "expires_in": null })).await, told("#/expires_in", "unknown_field"));

    let problem = owner
        .post(
            "/v1/keys",
            json!({ "project_id": owner.project, "expires_att": "x", "scopes": ["users:raed"], "name": 1 }),
        )
        .await
        .problem(422, "validation_failed");
    assert_eq!(problem["errors"].as_array().unwrap().len(), 3, "all at once: {problem}");
    assert!(problem["errors"].to_string().contains("did you mean 'users:read'?"), "{problem}");
    assert!(problem["errors"].to_string().contains("did you mean 'expires_at'?"), "{problem}");
}

#[tokio::test]
async fn a_key_ends_when_it_was_told_to() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let end = app.clock.now().plus(Duration::from_secs(3600));
    let key = owner.key_with(json!({ "expires_at": end })).await;
    key.get("/v1/projects").await.ok();
    app.clock.advance(Duration::from_secs(3601));
    let reply = key.get("/v1/projects").await;
    assert!(reply.header("www-authenticate").unwrap().contains("error=\"invalid_token\""));
    reply.problem(401, "token_expired");
    assert_eq!(owner.get(&format!("/v1/keys/{}", key.id)).await.ok()["status"], "expired");
}

#[tokio::test]
async fn a_revoked_key_is_dead_at_once_and_revoking_it_again_says_the_same() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let (key, other) = (owner.key().await, owner.key().await);
    let path = format!("/v1/keys/{}", key.id);
    for revoker in [owner.delete(&path).await, other.delete(&path).await] {
        assert_eq!(revoker.ok(), json!({ "id": key.id, "revoked": true }));
    }
    key.get("/v1/projects").await.problem(401, "token_revoked");
    assert_eq!(other.get(&path).await.ok()["status"], "revoked");
}

#[tokio::test]
async fn a_key_may_revoke_itself_and_is_then_gone() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let path = format!("/v1/keys/{}", key.id);
    key.delete(&path).await.ok();
    key.delete(&path).await.problem(401, "token_revoked");
}

#[tokio::test]
async fn what_a_key_issued_ends_with_it_all_the_way_down() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let (key, other) = (owner.key().await, owner.key().await);
    let child = key.token(&["tokens:write", "users:read"]).await;
    let grandchild = child.token(&["users:read"]).await;
    let unrelated = other.token(&["users:read"]).await;
    grandchild.get("/v1/users").await.ok();
    owner.delete(&format!("/v1/keys/{}", key.id)).await.ok();
    child.get("/v1/users").await.problem(401, "token_revoked");
    grandchild.get("/v1/users").await.problem(401, "token_revoked");
    unrelated.get("/v1/users").await.ok();
    assert_eq!(other.get(&format!("/v1/tokens/{}", grandchild.id)).await.ok()["status"], "revoked");
}

#[tokio::test]
async fn nobody_hands_out_more_than_they_hold() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    // No role holds keys:write without holding everything, so this is the owner's own bound.
    let made = owner.post("/v1/keys", json!({ "project_id": owner.project, "scopes": all_scopes() })).await.created();
    assert_eq!(made["scopes"], json!(all_scopes()));
}

#[tokio::test]
async fn another_projects_key_is_not_found_however_it_is_asked_for() {
    let app = TestApp::start().await;
    let (owner, stranger) = (app.owner().await, app.owner().await);
    let (key, foreign) = (owner.key().await, stranger.key().await);
    for id in [foreign.id.as_str(), "key_123", "key_0123", "tok_2c9", "'; DROP TABLE keys; --"] {
        let path = format!("/v1/keys/{id}");
        key.get(&path).await.problem(404, "not_found");
        owner.get(&path).await.problem(404, "not_found");
        key.delete(&path).await.problem(404, "not_found");
        owner.delete(&path).await.problem(404, "not_found");
    }
    foreign.get("/v1/projects").await.ok();
    // A foreign cursor shows one's own rows only.
    let listed = key.get(&format!("/v1/keys?order=desc&cursor={}", foreign.id)).await.ok();
    assert_eq!(listed["data"].as_array().unwrap().len(), 1);
    assert_eq!(listed["data"][0]["id"], key.id);
}

#[tokio::test]
async fn a_viewer_sees_keys_and_revokes_none() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let viewer = app.member(&owner, Role::Viewer).await;
    viewer.get(&format!("/v1/keys/{}", key.id)).await.ok();
    viewer.delete(&format!("/v1/keys/{}", key.id)).await.problem(403, "insufficient_scope");
    key.get("/v1/projects").await.ok();
}
