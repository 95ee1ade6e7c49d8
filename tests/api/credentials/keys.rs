//! `/v1/keys`.

use std::time::Duration;

use cloudapi::base::{
    identity::{role::Role, scope::Scope},
    runtime::clock::Timestamp,
};
use serde_json::{Value, json};

use crate::support::{Identity, Key, TestApp};

fn all_scopes() -> Vec<&'static str> {
    Scope::ALL.iter().map(|scope| scope.as_str()).collect()
}

#[tokio::test]
async fn secret_is_shown_only_on_creation_and_the_key_is_otherwise_the_same_everywhere() {
    let app = TestApp::shared().await;
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
async fn key_created_without_scopes_has_the_documented_default_scopes() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let made = owner.post("/v1/keys", json!({ "project_id": owner.project })).await.created();
    let extra = ["tokens:write", "tokens:introspect", "keys:write"];
    let expected: Vec<&str> =
        all_scopes().into_iter().filter(|scope| scope.ends_with(":read") || extra.contains(scope)).collect();
    assert_eq!(made["scopes"], json!(expected));
    assert_eq!(made["name"], "");
}

#[tokio::test]
async fn only_sessions_with_keys_write_create_keys() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = owner.key_with(json!({ "scopes": all_scopes() })).await;
    let token = owner.token(&["keys:write"]).await;
    let body = json!({ "project_id": owner.project });
    key.post("/v1/keys", body.clone()).await.problem(403, "credential_kind_not_allowed");
    token.post("/v1/keys", body.clone()).await.problem(403, "credential_kind_not_allowed");
    app.anonymous().post("/v1/keys", body.clone()).await.problem(401, "missing_credentials");
    for role in [Role::Viewer, Role::Member] {
        app.member(&owner, role).await.post("/v1/keys", body.clone()).await.problem(403, "insufficient_scope");
    }
    app.member(&owner, Role::Admin).await.post("/v1/keys", body).await.created();
}

#[tokio::test]
async fn project_of_a_session_request_is_checked_before_the_rest_of_the_body() {
    let app = TestApp::shared().await;
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
async fn every_validation_error_has_the_pointer_of_its_field() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let fault = async |members: Value| {
        let mut body = members;
        body["project_id"] = json!(owner.project);
        owner.post("/v1/keys", body).await.invalid_member()
    };
    let expected_error = |pointer: &str, code: &str| (pointer.to_owned(), code.to_owned());
    assert_eq!(fault(json!({ "scopes": ["users:raed"] })).await, expected_error("#/scopes/0", "unknown_scope"));
    assert_eq!(fault(json!({ "scopes": ["users:read", 7] })).await, expected_error("#/scopes/1", "wrong_type"));
    assert_eq!(fault(json!({ "scopes": [] })).await, expected_error("#/scopes", "too_short"));
    assert_eq!(
        fault(json!({ "scopes": ["users:read", "users:read"] })).await,
        expected_error("#/scopes", "out_of_range")
    );
    assert_eq!(fault(json!({ "scopes": "users:read" })).await, expected_error("#/scopes", "wrong_type"));
    assert_eq!(fault(json!({ "name": "x".repeat(101) })).await, expected_error("#/name", "too_long"));
    assert_eq!(fault(json!({ "expires_at": "tomorrow" })).await, expected_error("#/expires_at", "invalid_format"));
    assert_eq!(
        fault(json!({ "expires_at": "2020-01-01T00:00:00Z" })).await,
        expected_error("#/expires_at", "out_of_range")
    );
    // In UTC, the time is in the year 10000, which RFC 3339 cannot represent.
    assert_eq!(
        fault(json!({ "expires_at": "9999-12-31T23:59:59-01:00" })).await,
        expected_error("#/expires_at", "invalid_format")
    );
    assert_eq!(fault(json!({ "expires_in": 60 })).await, expected_error("#/expires_in", "unknown_field"));
    // Null means absent, but an unknown field is an error even if null.
    assert_eq!(fault(json!({ "expires_in": null })).await, expected_error("#/expires_in", "unknown_field"));

    let problem = owner
        .post(
            "/v1/keys",
            json!({ "project_id": owner.project, "expires_att": "x", "scopes": ["users:raed"], "name": 1 }),
        )
        .await
        .problem(422, "validation_failed");
    assert_eq!(problem["errors"].as_array().unwrap().len(), 3, "expected all errors: {problem}");
    assert!(problem["errors"].to_string().contains("did you mean 'users:read'?"), "{problem}");
    assert!(problem["errors"].to_string().contains("did you mean 'expires_at'?"), "{problem}");
}

#[tokio::test]
async fn key_is_rejected_after_its_expiry() {
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
async fn revoked_key_is_rejected_immediately_and_repeated_revocation_returns_the_same() {
    let app = TestApp::shared().await;
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
async fn key_may_revoke_itself() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let path = format!("/v1/keys/{}", key.id);
    key.delete(&path).await.ok();
    key.delete(&path).await.problem(401, "token_revoked");
}

#[tokio::test]
async fn tokens_issued_by_a_key_are_revoked_with_it_transitively() {
    let app = TestApp::shared().await;
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
async fn owner_can_grant_all_scopes() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    // Every role with keys:write has all scopes, so no role can attempt an escalation.
    let made = owner.post("/v1/keys", json!({ "project_id": owner.project, "scopes": all_scopes() })).await.created();
    assert_eq!(made["scopes"], json!(all_scopes()));
}

#[tokio::test]
async fn key_of_another_project_is_not_found_by_any_credential() {
    let app = TestApp::shared().await;
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
    // With a foreign cursor, the list contains only own rows.
    let listed = key.get(&format!("/v1/keys?order=desc&cursor={}", foreign.id)).await.ok();
    assert_eq!(listed["data"].as_array().unwrap().len(), 1);
    assert_eq!(listed["data"][0]["id"], key.id);
}

#[tokio::test]
async fn viewer_reads_keys_and_cannot_revoke_them() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let viewer = app.member(&owner, Role::Viewer).await;
    viewer.get(&format!("/v1/keys/{}", key.id)).await.ok();
    viewer.delete(&format!("/v1/keys/{}", key.id)).await.problem(403, "insufficient_scope");
    key.get("/v1/projects").await.ok();
}

#[tokio::test]
async fn update_of_a_key_takes_effect_immediately_for_the_key_and_its_tokens() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = owner.key_with(json!({ "name": "old", "metadata": { "a": "1" } })).await;
    let token = key.token(&["users:read", "usage:read"]).await;
    let path = format!("/v1/keys/{}", key.id);
    let changed = owner.patch(&path, json!({ "scopes": ["usage:read"] })).await.ok();
    assert_eq!(
        (&changed["scopes"], &changed["name"], &changed["metadata"]),
        (&json!(["usage:read"]), &json!("old"), &json!({ "a": "1" }))
    );
    key.get("/v1/users").await.problem(403, "insufficient_scope");
    token.get("/v1/users").await.problem(403, "insufficient_scope");
    token.get("/v1/usage").await.ok();
    // `last_used_at` changes when it is flushed, which may happen at any time.
    app.flush_usage().await;
    let changed =
        owner.patch(&path, json!({ "name": "new", "metadata": {}, "scopes": ["usage:read", "users:read"] })).await.ok();
    assert_eq!((&changed["name"], &changed["metadata"]), (&json!("new"), &json!({})));
    token.get("/v1/users").await.ok();
    assert_eq!(owner.get(&path).await.ok(), changed);
    assert_eq!(owner.patch(&path, json!({})).await.ok(), changed);
}

#[tokio::test]
async fn earlier_expiry_of_a_key_also_ends_its_tokens() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let token = key.token(&["users:read"]).await;
    let end = app.clock.now().plus(Duration::from_secs(60));
    let path = format!("/v1/keys/{}", key.id);
    assert_eq!(owner.patch(&path, json!({ "expires_at": end })).await.ok()["expires_at"], json!(end));
    app.clock.advance(Duration::from_secs(61));
    key.get("/v1/users").await.problem(401, "token_expired");
    token.get("/v1/users").await.problem(401, "token_revoked");
    let past = owner.patch(&path, json!({ "expires_at": "2020-01-01T00:00:00Z" })).await;
    assert_eq!(past.invalid_member(), ("#/expires_at".into(), "out_of_range".into()));
    owner.patch(&path, json!({ "expires_at": app.clock.now().plus(Duration::from_secs(60)) })).await.ok();
    key.get("/v1/users").await.ok();
}

#[tokio::test]
async fn revoked_key_cannot_be_updated_or_rotated() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let path = format!("/v1/keys/{}", key.id);
    owner.delete(&path).await.ok();
    owner.patch(&path, json!({ "name": "n" })).await.problem(409, "key_revoked");
    owner.post(&format!("{path}/rotate"), json!({})).await.problem(409, "key_revoked");
}

#[tokio::test]
async fn previous_secret_of_a_rotated_key_works_until_the_overlap_ends() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let token = key.token(&["users:read"]).await;
    // Flush the use above, so that `last_used_at` does not change later.
    app.flush_usage().await;
    let reply = owner.post(&format!("/v1/keys/{}/rotate", key.id), json!({ "overlap_seconds": 3600 })).await;
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    let mut rotated = reply.created();
    assert_eq!(rotated["id"], key.id);
    let secret = rotated.as_object_mut().unwrap().remove("key").unwrap().as_str().unwrap().to_owned();
    assert_ne!(secret, key.secret);
    assert_eq!(rotated["hint"], secret[..12]);
    let end = Timestamp::parse(rotated["previous_expires_at"].as_str().unwrap()).unwrap();
    let overlap = app.clock.now().until(end).as_secs();
    assert!((3590..=3600).contains(&overlap), "{overlap}");
    assert_eq!(owner.get(&format!("/v1/keys/{}", key.id)).await.ok(), rotated);
    let newer = Key { app: &app, id: key.id.clone(), secret };
    newer.get("/v1/users").await.ok();
    key.get("/v1/users").await.ok();
    app.clock.advance(Duration::from_secs(3601));
    key.get("/v1/users").await.problem(401, "token_expired");
    newer.get("/v1/users").await.ok();
    // Issued tokens depend on the key, not on one of its secrets.
    token.get("/v1/users").await.ok();
}

#[tokio::test]
async fn key_has_at_most_two_active_secrets_and_zero_overlap_ends_all_but_the_newest() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let first = owner.key().await;
    let path = format!("/v1/keys/{}/rotate", first.id);
    let rotate = async |body: Value| {
        let made = owner.post(&path, body).await.created();
        Key { app: &app, id: first.id.clone(), secret: made["key"].as_str().unwrap().to_owned() }
    };
    let second = rotate(json!({})).await;
    owner.post(&path, json!({})).await.problem(409, "rotation_in_progress");
    second.post(&path, json!({})).await.problem(409, "rotation_in_progress");
    first.post(&path, json!({})).await.problem(409, "rotation_in_progress");
    let third = rotate(json!({ "overlap_seconds": 0 })).await;
    first.get("/v1/users").await.problem(401, "token_expired");
    second.get("/v1/users").await.problem(401, "token_expired");
    third.get("/v1/users").await.ok();
    let fourth = rotate(json!({ "overlap_seconds": 604_800 })).await;
    third.get("/v1/users").await.ok();
    fourth.get("/v1/users").await.ok();
}

#[tokio::test]
async fn concurrent_rotations_of_a_key_leave_two_active_secrets() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let path = format!("/v1/keys/{}/rotate", key.id);
    let rotate = || owner.post(&path, json!({}));
    let (a, b, c) = tokio::join!(rotate(), rotate(), rotate());
    let mut statuses = [a.status, b.status, c.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409]);
}

#[tokio::test]
async fn key_may_rotate_only_itself_and_only_with_overlap() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let (key, other) = (owner.key_with(json!({ "scopes": ["usage:read"] })).await, owner.key().await);
    let path = |id: &str| format!("/v1/keys/{id}/rotate");
    other.post(&path(&key.id), json!({})).await.problem(403, "credential_kind_not_allowed");
    let token = other.token(&["keys:write"]).await;
    token.post(&path(&other.id), json!({})).await.problem(403, "credential_kind_not_allowed");
    let short = key.post(&path(&key.id), json!({ "overlap_seconds": 299 })).await;
    assert_eq!(short.invalid_member(), ("#/overlap_seconds".into(), "out_of_range".into()));
    // A key needs no scope to rotate itself.
    let made = key.post(&path(&key.id), json!({ "overlap_seconds": 300 })).await.created();
    Key { app: &app, id: key.id.clone(), secret: made["key"].as_str().unwrap().into() }.get("/v1/usage").await.ok();
    let long = owner.post(&path(&key.id), json!({ "overlap_seconds": 604_801 })).await;
    assert_eq!(long.invalid_member(), ("#/overlap_seconds".into(), "out_of_range".into()));
}

#[tokio::test]
async fn rotation_never_extends_a_secret_beyond_its_key() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let end = app.clock.now().plus(Duration::from_secs(600));
    let key = owner.key_with(json!({ "expires_at": end })).await;
    let path = format!("/v1/keys/{}/rotate", key.id);
    assert_eq!(owner.post(&path, json!({})).await.created()["previous_expires_at"], json!(end));
    app.clock.advance(Duration::from_secs(601));
    owner.post(&path, json!({ "overlap_seconds": 0 })).await.problem(409, "invalid_state");
}

#[tokio::test]
async fn keys_are_filtered_by_status() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let (active, revoked) = (owner.key().await, owner.key().await);
    let expired = owner.key_with(json!({ "expires_at": app.clock.now().plus(Duration::from_secs(60)) })).await;
    owner.delete(&format!("/v1/keys/{}", revoked.id)).await.ok();
    app.clock.advance(Duration::from_secs(61));
    for (status, key) in [("active", &active), ("revoked", &revoked), ("expired", &expired)] {
        let listed = owner.get(&format!("/v1/keys?project_id={}&status={status}", owner.project)).await.ok();
        assert_eq!(listed["data"].as_array().unwrap().len(), 1, "{status}");
        assert_eq!((&listed["data"][0]["id"], &listed["data"][0]["status"]), (&json!(key.id), &json!(status)));
    }
}

#[tokio::test]
async fn last_used_at_of_keys_and_tokens_has_minute_precision() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let token = key.token(&["users:read"]).await;
    let unused = owner.key().await;
    token.get("/v1/users").await.ok();
    app.flush_usage().await;
    for path in [format!("/v1/keys/{}", key.id), format!("/v1/tokens/{}", token.id)] {
        let used = owner.get(&path).await.ok()["last_used_at"].as_str().unwrap().to_owned();
        assert!(used.ends_with(":00.000Z"), "{used}");
    }
    assert_eq!(owner.get(&format!("/v1/keys/{}", unused.id)).await.ok()["last_used_at"], json!(null));
}
