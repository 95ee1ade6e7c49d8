//! Tokens end with their issuers, although a revocation writes only the row of what is revoked.

use std::time::Duration;

use cloudapi::{
    base::{
        id::{KeyId, TokenId},
        identity::role::Role,
    },
    server::state::AppOptions,
};
use serde_json::{Value, json};

use crate::support::{Bearer, Identity, Session, TestApp, eventually, trail::sealed};

const USERS: &str = "/v1/users?limit=1";
const PASSWORD: &str = "correct horse battery staple";

/// Version of each row of `tokens`, and of locks on it.
async fn token_rows(app: &TestApp) -> Vec<String> {
    sqlx::query_scalar("SELECT concat_ws(' ', id, ctid, xmin, xmax) FROM tokens ORDER BY id")
        .fetch_all(&app.db)
        .await
        .unwrap()
}

/// Removes the row of a token.
async fn lose_token(app: &TestApp, id: &str) {
    let id: TokenId = id.parse().unwrap();
    sqlx::query("DELETE FROM tokens WHERE id = $1").bind(id).execute(&app.db).await.unwrap();
}

async fn status(owner: &Session<'_>, token: &str) -> String {
    let shown = owner.get(&format!("/v1/tokens/{token}")).await.ok();
    let listed = owner.get(&format!("/v1/tokens?project_id={}", owner.project)).await.ok();
    // The time of the last use can be written in between.
    let is_same = |item: &Value| item["id"] == shown["id"] && item["status"] == shown["status"];
    assert!(listed["data"].as_array().unwrap().iter().any(is_same), "{shown} {listed}");
    shown["status"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn revocation_writes_and_locks_no_row_of_an_issued_token() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let (key, member) = (owner.key().await, app.member(&owner, Role::Admin).await);
    let of_key = key.token(&["tokens:write", "users:read"]).await;
    let of_token = of_key.token(&["users:read"]).await;
    let of_member = member.token(&["tokens:write", "users:read"]).await;
    let nested = of_member.token(&["users:read"]).await;
    // When a token was last used is written to its row.
    app.flush_usage().await;
    let before = token_rows(&app).await;
    owner.delete(&format!("/v1/keys/{}", key.id)).await.ok();
    owner.delete(&format!("/v1/users/{}?project_id={}", member.user_id, owner.project)).await.ok();
    assert_eq!(token_rows(&app).await, before);
    for token in [of_key, of_token, of_member, nested] {
        assert_eq!(status(&owner, &token.id).await, "revoked");
        token.get(USERS).await.problem(401, "token_revoked");
    }
}

#[tokio::test]
async fn token_below_a_missing_issuer_is_dead() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let (key, asking) = (owner.key().await, owner.key().await);
    let (first, lost) = (key.token(&["tokens:write"]).await, key.token(&["tokens:write", "users:read"]).await);
    let second = lost.token(&["tokens:write", "users:read"]).await;
    let third = second.token(&["users:read"]).await;
    let unused = lost.token(&["users:read"]).await;
    // Without an invalidation, so these must not be cached.
    lose_token(&app, &lost.id).await;
    for orphan in [unused, third] {
        orphan.get(USERS).await.problem(401, "token_revoked");
        let introspected = asking.post("/v1/tokens/introspect", json!({ "token": orphan.secret })).await.ok();
        assert_eq!(introspected, json!({ "active": false }));
        assert_eq!(status(&owner, &orphan.id).await, "revoked");
    }
    let id: KeyId = key.id.parse().unwrap();
    sqlx::query("DELETE FROM keys WHERE id = $1").bind(id).execute(&app.db).await.unwrap();
    first.get("/v1/tokens").await.problem(401, "token_revoked");
    assert_eq!(status(&owner, &first.id).await, "revoked");
}

#[tokio::test]
async fn tokens_of_a_removed_member_stay_dead_on_every_server_when_the_user_joins_again() {
    for auth_cache in [true, false] {
        let options = || AppOptions { auth_cache, ..AppOptions::default() };
        let here = TestApp::start_with(options()).await;
        let there = here.start_peer(options()).await;
        let owner = here.owner().await;
        let member = here.member(&owner, Role::Admin).await;
        here.set_password(&member, PASSWORD).await;
        let token = member.token(&["tokens:write", "users:read"]).await;
        let nested = token.token(&["users:read"]).await;
        let used = [&token, &nested].map(|token| Bearer { app: &there, secret: token.secret.clone() });
        for bearer in &used {
            bearer.get(USERS).await.ok();
        }
        owner.delete(&format!("/v1/users/{}?project_id={}", member.user_id, owner.project)).await.ok();
        let invitation = json!({ "project_id": owner.project, "email": member.email, "role": "admin" });
        let invited = owner.post("/v1/users", invitation).await.created();
        for bearer in &used {
            bearer.get(USERS).await.problem(401, "token_revoked");
        }
        let accept = json!({ "token": invited["invitation"], "password": PASSWORD });
        here.anonymous().post("/v1/invitations/accept", accept).await.created();
        member.get(&format!("{USERS}&project_id={}", owner.project)).await.ok();
        for (bearer, token) in used.iter().zip([&token, &nested]) {
            bearer.get(USERS).await.problem(401, "token_revoked");
            assert_eq!(status(&owner, &token.id).await, "revoked");
        }
        let fresh = member.token(&["users:read"]).await;
        Bearer { app: &there, secret: fresh.secret }.get(USERS).await.ok();
        assert_eq!(status(&owner, &fresh.id).await, "active");
    }
}

#[tokio::test]
async fn token_expires_in_lists_when_its_issuers_end_is_moved_forward() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let token = key.token(&["tokens:write", "users:read"]).await;
    let nested = token.token(&["users:read"]).await;
    let end = app.clock.now().plus(Duration::from_secs(60));
    owner.patch(&format!("/v1/keys/{}", key.id), json!({ "expires_at": end })).await.ok();
    for token in [&token, &nested] {
        assert_eq!(status(&owner, &token.id).await, "active");
    }
    app.clock.advance(Duration::from_secs(61));
    for token in [&token, &nested] {
        assert_eq!(status(&owner, &token.id).await, "expired");
    }
    owner.delete(&format!("/v1/keys/{}", key.id)).await.ok();
    for token in [&token, &nested] {
        assert_eq!(status(&owner, &token.id).await, "revoked");
    }
}

#[tokio::test]
async fn revoking_a_token_that_died_with_its_issuer_records_no_second_revocation() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let token = key.token(&["users:read"]).await;
    let path = format!("/v1/tokens/{}", token.id);
    let etag = owner.get(&path).await.header("etag").unwrap().to_owned();
    owner.delete(&format!("/v1/keys/{}", key.id)).await.ok();
    // A repeated revocation has no preconditions.
    let again = owner.request("DELETE", &path).header("if-match", &etag).send().await;
    assert_eq!(again.ok(), json!({ "id": token.id, "revoked": true }));
    let revocations: Vec<_> =
        sealed(&app.db).await.into_iter().filter(|entry| entry["action"] == "token.revoked").collect();
    assert_eq!(revocations, [json!(null); 0]);
}

#[tokio::test]
async fn revocation_of_an_issuer_does_not_wait_for_a_token_that_is_being_issued() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let parent = key.token(&["tokens:write", "users:read"]).await;
    // A token whose insertion is not committed yet.
    let mut issuing = app.db.begin().await.unwrap();
    let made: String = sqlx::query_scalar(
        "SELECT issue_token('first', gen_random_uuid(), project_id, sha256('late'), 'cap_', NULL, id, NULL, 'late',
                            ARRAY['users:read'], now(), now() + interval '1 hour', 8::smallint)
         FROM tokens WHERE id = $1",
    )
    .bind(parent.id.parse::<TokenId>().unwrap())
    .fetch_one(&mut *issuing)
    .await
    .unwrap();
    assert_eq!(made, "done");
    owner.delete(&format!("/v1/tokens/{}", parent.id)).await.ok();
    owner.delete(&format!("/v1/keys/{}", key.id)).await.ok();
    issuing.commit().await.unwrap();
    let listed = eventually("the late token to be listed", async || {
        let listed = owner.get(&format!("/v1/tokens?project_id={}", owner.project)).await.ok();
        listed["data"].as_array().unwrap().iter().find(|token| token["name"] == "late").cloned()
    })
    .await;
    assert_eq!(listed["status"], "revoked");
}
