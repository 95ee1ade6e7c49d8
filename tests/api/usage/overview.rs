//! `/v1/projects/{project_id}/overview`.

use std::time::Duration;

use cloudapi::{
    base::id::{ProjectId, ResourceId},
    server::state::AppOptions,
};
use serde_json::{Value, json};

use crate::support::{Identity, TestApp, cloud::insert_network, hooks::create_idle_webhook, worker_faults};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Without workers, which would record expirations and find the resources missing at their provider.
async fn start_without_workers() -> TestApp {
    let workers = worker_faults::only(|worker| worker == "auth_lease");
    TestApp::start_with(AppOptions { workers, ..AppOptions::default() }).await
}

async fn overview(who: &impl Identity, project: &str) -> Value {
    who.get(&format!("/v1/projects/{project}/overview")).await.ok()
}

fn names(keys: &Value) -> Vec<&str> {
    keys.as_array().unwrap().iter().map(|key| key["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn overview_has_usage_of_the_month_by_day_and_the_quota() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    for _ in 0..3 {
        key.get("/v1/users").await.ok();
    }
    app.flush_usage().await;
    sqlx::query("UPDATE projects SET included = 2, hard_limit = 900 WHERE id = $1")
        .bind(uuid::Uuid::from_u128(owner.project.parse::<ProjectId>().unwrap().as_u128()))
        .execute(&app.db)
        .await
        .unwrap();
    let usage = overview(&key, &owner.project).await["usage"].clone();
    let month = owner.get(&format!("/v1/usage?project_id={}", owner.project)).await.ok();
    for name in ["period_start", "period_end", "requests", "overage", "included"] {
        assert_eq!(usage[name], month[name], "{name}");
    }
    assert_eq!((&usage["included"], &usage["hard_limit"]), (&json!(2), &json!(900)));
    let days = usage["days"].as_array().unwrap();
    assert_eq!(days.len(), usize::from(app.clock.now().date().day()));
    assert_eq!(days[0]["day"], usage["period_start"]);
    assert_eq!(
        days.last().unwrap(),
        &json!({ "day": app.clock.now().date().to_string(), "requests": usage["requests"] })
    );
}

#[tokio::test]
async fn overview_has_what_needs_attention() {
    let app = start_without_workers().await;
    let (owner, stranger) = (app.owner().await, app.owner().await);
    let in_days = |days: u32| json!(app.clock.now().plus(DAY * days));
    owner.key_with(json!({ "name": "soon", "expires_at": in_days(105) })).await;
    owner.key_with(json!({ "name": "later", "expires_at": in_days(200) })).await;
    owner.key_with(json!({ "name": "brief", "expires_at": in_days(1) })).await;
    let used = owner.key_with(json!({ "name": "used" })).await;
    let revoked = owner.key().await;
    stranger.key_with(json!({ "name": "foreign", "expires_at": in_days(100) })).await;
    owner.delete(&format!("/v1/keys/{}", revoked.id)).await.ok();
    let webhook = create_idle_webhook(&owner).await;
    owner.patch(&format!("/v1/webhooks/{webhook}"), json!({ "enabled": false })).await.ok();
    let drifted = insert_network(&owner).await;
    insert_network(&owner).await;
    sqlx::query(
        "UPDATE resources SET conditions = '[{\"type\": \"drifted\", \"reason\": \"changed\", \"message\": \"m\",
                                              \"since\": \"2026-03-01T00:00:00.000Z\"}]' WHERE id = $1",
    )
    .bind(uuid::Uuid::from_u128(drifted.parse::<ResourceId>().unwrap().as_u128()))
    .execute(&app.db)
    .await
    .unwrap();

    app.clock.advance(92 * DAY);
    used.get("/v1/users").await.ok();
    app.flush_usage().await;
    let owner = app.another_session(&owner).await;
    let found = overview(&owner, &owner.project).await;
    assert_eq!((&found["name"], &found["status"]), (&json!("A project"), &json!("active")));
    let keys = &found["keys"];
    assert_eq!(names(&keys["expiring"]), ["soon"]);
    assert_eq!(names(&keys["unused"]), ["soon", "later"]);
    // The expiration is recorded later.
    assert_eq!((&keys["active"], &keys["revoked"]), (&json!(4), &json!(1)));
    assert_eq!(found["webhooks"]["enabled"], 0);
    assert_eq!(found["webhooks"]["attention"][0]["id"], json!(webhook));
    let resources = found["resources"].as_array().unwrap();
    assert_eq!(resources.len(), 1, "{resources:?}");
    assert_eq!((&resources[0]["id"], &resources[0]["conditions"]), (&json!(drifted), &json!(["drifted"])));
}

#[tokio::test]
async fn overview_has_only_parts_that_the_caller_may_read() {
    let app = start_without_workers().await;
    let owner = app.owner().await;
    let narrow = owner.key_with(json!({ "scopes": ["projects:read"] })).await;
    insert_network(&owner).await;
    sqlx::query("UPDATE resources SET conditions = '[{}]'").execute(&app.db).await.unwrap();
    let found = overview(&narrow, &owner.project).await;
    assert_eq!([&found["usage"], &found["keys"], &found["webhooks"]], [&Value::Null; 3]);
    assert_eq!(found["resources"], json!([]));
    let path = format!("/v1/projects/{}/overview", owner.project);
    app.owner().await.get(&path).await.problem(404, "not_found");
    owner.key_with(json!({ "scopes": ["usage:read"] })).await.get(&path).await.problem(403, "insufficient_scope");
}
