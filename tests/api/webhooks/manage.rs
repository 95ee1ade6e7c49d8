//! Creating, updating, rotating and deleting webhooks.

use cloudapi::base::{action::Action, id::ProjectId, identity::role::Role};
use serde_json::{Value, json};

use super::{UNREACHABLE_URL as URL, allow_loopback, fast_policy, path, webhook};
use crate::support::{Identity, Session, TestApp, eventually};

/// Waits for the sealed audit entry of this action.
async fn entry(owner: &Session<'_>, action: &str) -> Value {
    let project: ProjectId = owner.project.parse().unwrap();
    eventually(action, async || {
        let sql = "SELECT payload FROM audit_entries WHERE project_id = $1 AND action = $2";
        let query = sqlx::query_scalar(sql).bind(project).bind(action);
        let payload: Option<Vec<u8>> = query.fetch_optional(&owner.app.db).await.unwrap();
        payload.map(|payload| serde_json::from_slice(&payload).unwrap())
    })
    .await
}

#[tokio::test]
async fn webhook_secret_is_shown_once_and_the_webhook_is_the_same_in_every_response() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let body = json!({ "project_id": owner.project, "url": URL, "event_types": ["key.created"], "description": "billing", "enabled": false });
    let reply = owner.post("/v1/webhooks", body).await;
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    let location = reply.header("location").unwrap().to_owned();
    let mut made = reply.created();
    let secret = made.as_object_mut().unwrap().remove("secret").unwrap();
    assert!(secret.as_str().unwrap().starts_with("whsec_"));
    assert_eq!(location, path(&made));
    assert_eq!((&made["url"], &made["event_types"]), (&json!(URL), &json!(["key.created"])));
    assert_eq!((&made["enabled"], &made["disabled_reason"]), (&json!(false), &json!(null)));
    assert_eq!(owner.get(&location).await.ok(), made);
    let listed = owner.get(&format!("/v1/webhooks?project_id={}", owner.project)).await.ok();
    assert_eq!(listed["data"], json!([made]));

    let entry = entry(&owner, "webhook.created").await;
    assert_eq!(entry["changes"], made);
    assert_eq!(entry["target"], json!({ "id": made["id"], "type": "webhook" }));
}

#[tokio::test]
async fn webhook_created_with_only_a_url_receives_all_events() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let made = webhook(&owner, URL, json!({})).await;
    assert_eq!((&made["event_types"], &made["enabled"], &made["description"]), (&json!([]), &json!(true), &json!("")));
}

#[tokio::test]
async fn creation_and_rotation_with_an_idempotency_key_replay_the_same_secret() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let body = json!({ "project_id": owner.project, "url": URL });
    let send = || owner.request("POST", "/v1/webhooks").header("idempotency-key", "k").json(&body).send();
    let (first, again) = (send().await, send().await);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(first.created(), again.created());
    let rotation = format!(
        "/v1/webhooks/{}/rotate-secret",
        owner.get(&format!("/v1/webhooks?project_id={}", owner.project)).await.ok()["data"][0]["id"].as_str().unwrap()
    );
    let rotate = || owner.request("POST", &rotation).header("idempotency-key", "r").json(&json!({})).send();
    assert_eq!(rotate().await.created(), rotate().await.created());
}

#[tokio::test]
async fn sessions_and_keys_can_manage_webhooks_and_tokens_cannot() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = owner.key_with(json!({ "scopes": ["webhooks:read", "webhooks:write", "tokens:write"] })).await;
    let made = key.post("/v1/webhooks", json!({ "url": URL })).await.created();
    key.patch(&path(&made), json!({ "description": "by a key" })).await.ok();
    let token = key.token(&["webhooks:read", "webhooks:write"]).await;
    token.get(&path(&made)).await.problem(403, "credential_kind_not_allowed");
    let reader = owner.key_with(json!({ "scopes": ["webhooks:read"] })).await;
    assert_eq!(reader.get(&path(&made)).await.ok()["description"], "by a key");
    reader.patch(&path(&made), json!({})).await.problem(403, "insufficient_scope");
    let viewer = app.member(&owner, Role::Viewer).await;
    viewer.get(&path(&made)).await.ok();
    viewer.delete(&path(&made)).await.problem(403, "insufficient_scope");
    assert_eq!(key.delete(&path(&made)).await.ok(), json!({ "id": made["id"], "deleted": true }));
    key.get(&path(&made)).await.problem(404, "not_found");
}

#[tokio::test]
async fn unknown_event_type_is_rejected_with_a_suggestion() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let refused = async |types: Value| {
        let body = json!({ "project_id": owner.project, "url": URL, "event_types": types });
        let reply = owner.post("/v1/webhooks", body).await;
        let detail = reply["errors"][0]["detail"].as_str().unwrap_or_default().to_owned();
        (reply.invalid_member(), detail)
    };
    let (member, detail) = refused(json!(["key.created", "key.craeted"])).await;
    assert_eq!(member, ("#/event_types/1".to_owned(), "unknown_value".to_owned()));
    assert!(detail.contains("did you mean 'key.created'?"), "{detail}");
    // An audit action that is not an event.
    assert_eq!(refused(json!(["session.created"])).await.0.1, "unknown_value");
    assert_eq!(refused(json!(["key.created", "key.created"])).await.0.1, "out_of_range");
    let all: Vec<&str> = Action::events().map(Action::as_str).collect();
    webhook(&owner, URL, json!({ "event_types": all })).await;
}

#[tokio::test]
async fn disallowed_url_is_rejected_on_create_and_update() {
    let app = TestApp::start_with(allow_loopback(fast_policy())).await;
    let owner = app.owner().await;
    let made = webhook(&owner, "http://127.0.0.1:1/", json!({ "enabled": false })).await;
    for url in [
        "https://10.0.0.1/",
        "http://10.0.0.1/",
        "https://0xa000001/",
        "https://[::ffff:10.0.0.1]/",
        "https://u:p@example.com/",
        "ftp://example.com/",
        "http://8.8.8.8/",
    ] {
        let body = json!({ "project_id": owner.project, "url": url });
        owner.post("/v1/webhooks", body).await.problem(422, "url_not_allowed");
        owner.patch(&path(&made), json!({ "url": url })).await.problem(422, "url_not_allowed");
    }
    let body = json!({ "project_id": owner.project, "url": "not a url" });
    assert_eq!(owner.post("/v1/webhooks", body).await.invalid_member().0, "#/url");
    // Without the operator's setting, this address is rejected too.
    let strict = app.start_peer(Default::default()).await;
    let body = json!({ "project_id": owner.project, "url": "https://127.0.0.1:1/" });
    let request = strict.http.post(format!("{}/v1/webhooks", strict.url)).bearer_auth(&owner.secret);
    let reply = request.header("content-type", "application/json").body(body.to_string()).send().await.unwrap();
    assert_eq!(reply.status(), 422);
}

#[tokio::test]
async fn project_has_at_most_twenty_webhooks_even_if_created_concurrently() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let making = (0..24)
        .map(|_| owner.post("/v1/webhooks", json!({ "project_id": owner.project, "url": URL, "enabled": false })));
    let replies = futures_util::future::join_all(making).await;
    let (made, refused): (Vec<_>, Vec<_>) = replies.into_iter().partition(|reply| reply.status == 201);
    assert_eq!((made.len(), refused.len()), (20, 4));
    refused.into_iter().for_each(|reply| drop(reply.problem(409, "limit_reached")));
}

#[tokio::test]
async fn update_is_audited_with_previous_and_new_values() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let made = webhook(&owner, URL, json!({ "event_types": ["key.created"] })).await;
    let changed = owner.patch(&path(&made), json!({ "event_types": [], "enabled": false })).await.ok();
    assert_eq!((&changed["event_types"], &changed["enabled"]), (&json!([]), &json!(false)));
    let entry = entry(&owner, "webhook.updated").await;
    assert_eq!(entry["changes"], json!({ "event_types": [["key.created"], []], "enabled": [true, false] }));
}

#[tokio::test]
async fn webhook_has_at_most_two_valid_secrets() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let made = webhook(&owner, URL, json!({})).await;
    let rotate = async |body: Value| owner.post(&format!("{}/rotate-secret", path(&made)), body).await;
    let rotated = rotate(json!({ "overlap_seconds": 3600 })).await;
    assert_eq!(rotated.header("cache-control"), Some("no-store"));
    let rotated = rotated.created();
    assert_eq!(rotated["id"], made["id"]);
    assert_ne!(rotated["secret"], made["secret"]);
    assert!(rotated["previous_expires_at"].is_string());
    rotate(json!({})).await.problem(409, "rotation_in_progress");
    let at_once = rotate(json!({ "overlap_seconds": 0 })).await.created();
    rotate(json!({ "overlap_seconds": 604_801 })).await.problem(422, "validation_failed");
    assert_ne!(at_once["secret"], rotated["secret"]);
    let entry = entry(&owner, "webhook.secret_rotated").await;
    assert_eq!(entry["changes"].as_object().unwrap().keys().collect::<Vec<_>>(), ["previous_expires_at"]);
}

#[tokio::test]
async fn disabled_webhook_cannot_be_tested() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let made = webhook(&owner, URL, json!({ "enabled": false })).await;
    owner.post_empty(&format!("{}/test", path(&made))).await.problem(409, "webhook_disabled");
    owner.get(&format!("{}/deliveries?status=nonsense", path(&made))).await.problem(400, "invalid_parameter");
    owner.get(&format!("{}/deliveries/dlv_1", path(&made))).await.problem(404, "not_found");
    owner.post_empty(&format!("{}/deliveries/dlv_1/redeliver", path(&made))).await.problem(404, "not_found");
}
