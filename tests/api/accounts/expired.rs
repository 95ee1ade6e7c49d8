//! Expired credentials and invitations are removed after 30 days.

use std::time::Duration;

use cloudapi::{
    auth::{expired::delete_expired, revocation::node},
    base::{id::TokenId, identity::role::Role},
};
use serde_json::json;

use crate::support::{Bearer, Identity, TestApp};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Removes everything that can be removed. Batches are small enough that locks are short.
async fn remove_all(app: &TestApp) -> u64 {
    let mut db = app.db.acquire().await.unwrap();
    let mut all = 0;
    while let removed @ 1.. = delete_expired(&mut db, app.clock.now()).await.unwrap() {
        assert!(removed <= 4000, "{removed}");
        all += removed;
    }
    all
}

#[tokio::test]
async fn expired_credentials_are_listed_for_30_days_and_then_unknown() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let issue = json!({ "name": "short", "scopes": ["users:read"], "expires_in": 60 });
    let issued = key.post("/v1/tokens", issue).await.created();
    let path = format!("/v1/tokens/{}", issued["id"].as_str().unwrap());
    let token = Bearer { app: &app, secret: issued["token"].as_str().unwrap().to_owned() };
    let rotation = json!({ "overlap_seconds": 60 });
    let rotated = owner.post(&format!("/v1/keys/{}/rotate", key.id), rotation).await.created();
    let rotated = Bearer { app: &app, secret: rotated["key"].as_str().unwrap().to_owned() };
    let invitation = json!({ "project_id": owner.project, "email": "new@example.com", "role": "viewer" });
    let invited = owner.post("/v1/users", invitation).await.created();
    let accept = json!({ "token": invited["invitation"], "password": "correct horse battery staple" });

    app.clock.advance(30 * DAY);
    remove_all(&app).await;
    let session = app.another_session(&owner).await;
    assert_eq!(session.get(&path).await.ok()["status"], "expired");
    token.get("/v1/users").await.problem(401, "token_expired");
    key.get("/v1/users").await.problem(401, "token_expired");
    owner.get("/v1/projects").await.problem(401, "token_expired");
    app.anonymous().post("/v1/invitations/accept", accept.clone()).await.problem(409, "invalid_state");

    app.clock.advance(31 * DAY);
    remove_all(&app).await;
    let session = app.another_session(&owner).await;
    session.get(&path).await.problem(404, "not_found");
    session.delete(&path).await.problem(404, "not_found");
    for bearer in [&token.secret, &key.secret, &owner.secret] {
        let bearer = Bearer { app: &app, secret: bearer.clone() };
        bearer.get("/v1/projects").await.problem(401, "invalid_token");
    }
    app.anonymous().post("/v1/invitations/accept", accept).await.problem(404, "not_found");
    // What has not expired is kept.
    rotated.get("/v1/users").await.ok();
    assert_eq!(session.get(&format!("/v1/keys/{}", key.id)).await.ok()["status"], "active");
}

#[tokio::test]
async fn token_outlives_neither_its_issuer_nor_the_removal_of_its_issuer() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let body = json!({ "name": "short", "scopes": ["tokens:write", "users:read"], "expires_in": 60 });
    let issued = owner.key().await.post("/v1/tokens", body).await.created();
    let parent = Bearer { app: &app, secret: issued["token"].as_str().unwrap().to_owned() };
    let body = json!({ "name": "nested", "scopes": ["users:read"] });
    let nested = parent.post("/v1/tokens", body).await.created();
    // As if the nested token had a later end than its issuer.
    let id: TokenId = nested["id"].as_str().unwrap().parse().unwrap();
    let sql = "UPDATE tokens SET expires_at = expires_at + interval '1 year' WHERE id = $1";
    sqlx::query(sql).bind(id).execute(&app.db).await.unwrap();
    let nested = Bearer { app: &app, secret: nested["token"].as_str().unwrap().to_owned() };
    nested.get("/v1/users").await.ok();
    app.clock.advance(Duration::from_secs(61));
    nested.get("/v1/users").await.problem(401, "token_revoked");
    app.clock.advance(31 * DAY);
    assert!(remove_all(&app).await > 0);
    nested.get("/v1/users").await.problem(401, "token_revoked");
}

#[tokio::test]
async fn locked_row_is_skipped_and_delays_no_other_removal() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let member = app.member(&owner, Role::Admin).await;
    let (locked, other) = (owner.token(&["users:read"]).await, member.token(&["users:read"]).await);
    app.clock.advance(121 * DAY);
    let ids = [&locked, &other].map(|token| token.id.parse::<TokenId>().unwrap());
    let mut lock = app.db.begin().await.unwrap();
    sqlx::query("SELECT FROM tokens WHERE id = $1 FOR NO KEY UPDATE").bind(ids[0]).execute(&mut *lock).await.unwrap();
    let left = async || -> Vec<TokenId> {
        sqlx::query_scalar("SELECT id FROM tokens WHERE id = ANY ($1)").bind(&ids[..]).fetch_all(&app.db).await.unwrap()
    };
    remove_all(&app).await;
    assert_eq!(left().await, [ids[0]]);
    lock.rollback().await.unwrap();
    remove_all(&app).await;
    assert_eq!(left().await, []);
}

#[tokio::test]
async fn log_of_invalidations_is_pruned_in_batches_of_whole_numbers() {
    let app = TestApp::start().await;
    let mut db = app.db.acquire().await.unwrap();
    // Three subjects of each number. The first batch ends within a number.
    sqlx::query(
        "INSERT INTO auth_log (seq, subject, made_at)
         SELECT n, 'key_' || s, clock_timestamp() - CASE WHEN n < -100 THEN interval '2 hours' ELSE interval '1 minute' END
         FROM generate_series(-900, -1) AS n, generate_series(1, 3) AS s",
    )
    .execute(&mut *db)
    .await
    .unwrap();
    let mut batches = Vec::new();
    while let removed @ 1.. = node::prune_log(&mut db).await.unwrap() {
        batches.push(removed);
    }
    assert!(batches.iter().all(|removed| removed % 3 == 0 && *removed <= 1002), "{batches:?}");
    assert_eq!(batches.iter().sum::<u64>(), 800 * 3);
}
