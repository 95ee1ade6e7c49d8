//! The published reference: every example request, and every member of each example response with its type.

use cloudapi::cli::quick_start::{self, QuickStart, demo};
use serde_json::{Value, json};

use crate::support::{Identity, Key, Session, TestApp};

/// Checks that `given` has every member of `shown`, with the same type.
#[track_caller]
fn assert_same_members(given: &Value, shown: &Value) {
    match (given, shown) {
        (Value::Object(given), Value::Object(shown)) => {
            for (name, value) in shown {
                let member = given.get(name).unwrap_or_else(|| panic!("no '{name}' in {given:?}"));
                assert_same_members(member, value);
            }
        }
        (Value::Array(given), Value::Array(shown)) => {
            assert!(!given.is_empty(), "an empty list where {shown:?} is shown");
            for item in given {
                assert_same_members(item, &shown[0]);
            }
        }
        _ => assert_eq!(std::mem::discriminant(given), std::mem::discriminant(shown), "{given} is not like {shown}"),
    }
}

/// Loads the reference's examples like a first start does. Returns a session and a key.
async fn set_up(app: &TestApp) -> (Session<'_>, Key<'_>) {
    demo::load_if_empty(app).await.unwrap();
    let QuickStart { session, key, .. } = quick_start::credentials(app).await.unwrap();
    let session = Session {
        app,
        user_id: "usr_8f1".parse().unwrap(),
        email: demo::OWNER_EMAIL.into(),
        id: String::new(),
        secret: session.expose().into(),
        project: "proj_8f2c4".into(),
    };
    let key = Key { app, id: String::new(), secret: key.expose().into() };
    (session, key)
}

#[tokio::test]
async fn create_a_key_with_a_dashboard_session_and_use_it() {
    let app = TestApp::start().await;
    let (session, _) = set_up(&app).await;
    let made = session.post("/v1/keys", json!({ "project_id": "proj_8f2c4" })).await.created();
    let key = Key { app: &app, id: made["id"].as_str().unwrap().into(), secret: made["key"].as_str().unwrap().into() };
    assert!(key.secret.starts_with("sk_live_"));
    key.get("/v1/projects").await.ok();
}

#[tokio::test]
async fn list_projects_with_a_key_and_a_content_type() {
    let app = TestApp::start().await;
    let (_, key) = set_up(&app).await;
    let listed = key.request("GET", "/v1/projects").header("Content-Type", "application/json").send().await.ok();
    assert_same_members(
        &listed,
        &json!({ "data": [{ "id": "proj_8f2c4", "name": "Core Platform", "status": "active" }], "request_id": "req_9c0e1" }),
    );
    assert_eq!(listed["data"][0]["id"], "proj_8f2c4");
    assert_eq!(listed["data"][0]["name"], "Core Platform");
    assert_eq!(listed["data"][0]["status"], "active");
    assert!(listed["request_id"].as_str().unwrap().starts_with("req_"));
}

#[tokio::test]
async fn list_the_users_visible_to_the_project() {
    let app = TestApp::start().await;
    let (_, key) = set_up(&app).await;
    let listed = key.get("/v1/users?limit=25").await.ok();
    assert_same_members(
        &listed,
        &json!({ "data": [{ "id": "usr_8f2", "email": "ada@example.com", "role": "admin" }] }),
    );
    let admin = listed["data"].as_array().unwrap().iter().find(|user| user["id"] == "usr_8f2").unwrap();
    assert_eq!(admin["role"], "admin");
    // The published cursor works even if no items follow.
    let page = key.get("/v1/users?limit=1").await.ok();
    assert_eq!(page["next_cursor"], page["data"][0]["id"]);
    key.get("/v1/users?limit=25&cursor=usr_8f2").await.ok();
}

#[tokio::test]
async fn create_a_scoped_token() {
    let app = TestApp::start().await;
    let (_, key) = set_up(&app).await;
    let made =
        key.post("/v1/tokens", json!({ "name": "ci-token", "scopes": ["users:read", "usage:read"] })).await.created();
    assert_same_members(
        &made,
        &json!({ "id": "tok_2c9", "token": "cap_****", "scopes": ["users:read", "usage:read"] }),
    );
    assert_eq!(made["scopes"], json!(["users:read", "usage:read"]));
    assert!(made["token"].as_str().unwrap().starts_with("cap_"));
    assert_eq!(key.get("/v1/tokens/tok_2c9").await.ok()["name"], "ci-token");
}

#[tokio::test]
async fn fetch_the_usage_of_the_current_period() {
    let app = TestApp::start().await;
    let (_, key) = set_up(&app).await;
    let usage = key.get("/v1/usage").await.ok();
    let shown = json!({ "period_start": "2026-03-01", "period_end": "2026-03-31", "requests": 184_902, "overage": 0 });
    assert_same_members(&usage, &shown);
}

#[tokio::test]
async fn revoke_the_spare_key_with_the_published_request() {
    let app = TestApp::start().await;
    let (_, key) = set_up(&app).await;
    let reply = key.delete("/v1/keys/key_7d1").await;
    assert_eq!(reply.body, b"{\"id\":\"key_7d1\",\"revoked\":true}\n");
    assert_eq!(reply.ok(), json!({ "id": "key_7d1", "revoked": true }));
    assert_eq!(key.delete("/v1/keys/key_7d1").await.ok(), json!({ "id": "key_7d1", "revoked": true }));
}

#[tokio::test]
async fn examples_are_loaded_once_and_never_into_a_database_in_use() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    demo::load_if_empty(&app).await.unwrap();
    assert!(!demo::is_loaded(&app).await.unwrap());
    owner.get("/v1/projects/proj_8f2c4").await.problem(404, "not_found");

    let fresh = TestApp::start().await;
    demo::load_if_empty(&fresh).await.unwrap();
    demo::load_if_empty(&fresh).await.unwrap();
    assert!(demo::is_loaded(&fresh).await.unwrap());
}
