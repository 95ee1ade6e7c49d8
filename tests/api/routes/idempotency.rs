//! A repeated write is executed once (`Idempotency-Key`).

use std::time::Duration;

use cloudapi::{base::identity::access_policy::AccessPolicy, server::routes, tx::idempotency};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    Identity, Key, Reply, TestApp,
    items::{Items, body_of_write},
};

/// Sends a POST or PATCH with an idempotency key.
async fn send(who: &impl Identity, method: &str, path: &str, key: &str, body: &Value) -> Reply {
    let request = who.request(method, path).header("idempotency-key", key);
    if body.is_null() { request.send().await } else { request.json(body).send().await }
}

fn project(name: &str) -> Value {
    json!({ "name": name })
}

/// The parts of a response that must be equal in a replay.
fn stored_part(reply: &Reply) -> (u16, Vec<u8>, [Option<String>; 3]) {
    let header = |name| reply.header(name).map(str::to_owned);
    (reply.status, reply.body.clone(), [header("location"), header("etag"), header("cache-control")])
}

#[track_caller]
fn assert_replay_of(again: &Reply, first: &Reply) {
    assert_eq!(stored_part(again), stored_part(first));
    assert_eq!((first.header("idempotent-replayed"), again.header("idempotent-replayed")), (None, Some("true")));
    assert_ne!(again.header("x-request-id"), first.header("x-request-id"));
}

#[tokio::test]
async fn every_idempotent_write_replays_its_first_response() {
    let app = TestApp::shared().await;
    for operation in routes::table().operations().filter(|operation| operation.response.is_idempotent()) {
        let items = Items::new(&app).await;
        let (owner, path) = (&items.owner, items.path(operation).await);
        let body = body_of_write(operation, &owner.project).unwrap_or_default();
        let method = operation.method.as_str();
        let first = send(owner, method, &path, "k", &body).await;
        assert!(first.status < 300, "{method} {path}: {}", first.json());
        assert_replay_of(&send(owner, method, &path, "k", &body).await, &first);
    }
}

#[test]
fn every_authenticated_write_is_idempotent_except_those_listed() {
    let table = routes::table();
    let not: Vec<&str> = table
        .operations()
        .filter(|operation| matches!(operation.method, Method::POST | Method::PATCH))
        .filter(|operation| {
            !matches!(operation.policy, AccessPolicy::Public | AccessPolicy::SignIn)
                && !operation.response.is_idempotent()
        })
        .map(|operation| operation.path)
        .collect();
    assert_eq!(not, ["/v1/sessions/current/reauthenticate", "/v1/users/me/password", "/v1/tokens/introspect"]);
}

#[tokio::test]
async fn first_response_is_replayed_after_the_state_has_changed() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let body = json!({ "project_id": owner.project, "name": "ci" });
    let first = send(&owner, "POST", "/v1/keys", "k", &body).await;
    let id = first["id"].as_str().unwrap().to_owned();
    owner.delete(&format!("/v1/keys/{id}")).await.ok();
    owner.post_empty(&format!("/v1/projects/{}/suspend", owner.project)).await.ok();
    assert_replay_of(&send(&owner, "POST", "/v1/keys", "k", &body).await, &first);
    let listed = owner.get(&format!("/v1/keys?project_id={}", owner.project)).await.ok();
    assert_eq!(listed["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn semantically_equal_bodies_are_the_same_request() {
    let app = TestApp::shared().await;
    let user = app.user().await;
    let sent = |key: &'static str, body: &'static str| {
        let request = user.request("POST", "/v1/projects").header("idempotency-key", key);
        request.header("content-type", "application/json").body(body).send()
    };
    let first = sent("k", r#"{"name":"n","metadata":{"a":"1","b":"2"}}"#).await;
    assert_replay_of(&sent("\"k\"", r#"{ "metadata": {"b":"2","a":"1"}, "name": "\u006e" }"#).await, &first);
    let nothing = sent("l", r#"{"name":"n"}"#).await;
    assert_replay_of(&sent("l", r#"{"name":"n","metadata":null}"#).await, &nothing);
    for other in [r#"{"name":"m"}"#, r#"{"name":"n","metadata":{}}"#, r#"{"name":""}"#] {
        sent("l", other).await.problem(422, "idempotency_key_reused");
    }
    let owner = app.owner().await;
    send(&owner, "POST", "/v1/projects", "k", &project("n")).await.created();
    let path = format!("/v1/projects/{}", owner.project);
    send(&owner, "PATCH", &path, "k", &project("n")).await.problem(422, "idempotency_key_reused");
    send(&owner, "POST", &format!("{path}/suspend"), "k", &Value::Null).await.problem(422, "idempotency_key_reused");
}

#[tokio::test]
async fn idempotency_key_is_one_header_of_1_to_255_visible_characters() {
    let app = TestApp::shared().await;
    let user = app.user().await;
    let long = "k".repeat(256);
    for key in ["", "\"\"", "a b", "\"", "é", &long] {
        send(&user, "POST", "/v1/projects", key, &project("n")).await.problem(400, "invalid_idempotency_key");
    }
    let twice = user.request("POST", "/v1/projects").header("idempotency-key", "a").header("idempotency-key", "a");
    twice.json(&project("n")).send().await.problem(400, "invalid_idempotency_key");
    // The header is ignored on routes that do not use it.
    user.request("GET", "/v1/projects").header("idempotency-key", "a b").send().await.ok();
}

#[tokio::test]
async fn failed_responses_are_not_stored() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let path = format!("/v1/projects/{}", owner.project);
    owner.post_empty(&format!("{path}/suspend")).await.ok();
    let body = json!({ "project_id": owner.project });
    send(&owner, "POST", "/v1/keys", "k", &body).await.problem(409, "project_not_active");
    send(&owner, "POST", "/v1/keys", "k", &json!({ "project_id": owner.project, "name": 1 }))
        .await
        .problem(422, "validation_failed");
    owner.post_empty(&format!("{path}/resume")).await.ok();
    let first = send(&owner, "POST", "/v1/keys", "k", &body).await;
    assert_eq!((first.status, first.header("idempotent-replayed")), (201, None));
}

#[tokio::test]
async fn idempotency_key_expires_after_a_day_and_its_record_is_pruned() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let (key, other) = (owner.key().await, owner.key().await);
    let body = json!({ "name": "n", "scopes": ["users:read"] });
    let first = send(&key, "POST", "/v1/tokens", "k", &body).await;
    send(&other, "POST", "/v1/tokens", "k", &body).await.created();
    app.clock.advance(Duration::from_secs(24 * 3600 - 60));
    assert_replay_of(&send(&key, "POST", "/v1/tokens", "k", &body).await, &first);
    app.clock.advance(Duration::from_secs(120));
    let again = send(&key, "POST", "/v1/tokens", "k", &body).await;
    assert_ne!(again["id"], first["id"]);
    assert_replay_of(&send(&key, "POST", "/v1/tokens", "k", &body).await, &again);
    // There are two records: one was replaced, the other is pruned.
    let forgotten = idempotency::delete_expired(&mut app.db.acquire().await.unwrap(), app.clock.now()).await.unwrap();
    assert_eq!(forgotten, 1);
    assert_replay_of(&send(&key, "POST", "/v1/tokens", "k", &body).await, &again);
}

#[tokio::test]
async fn concurrent_duplicates_are_executed_once() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let body = json!({ "name": "n", "scopes": ["users:read"] });
    let sendings = (0..20).map(|_| send(&key, "POST", "/v1/tokens", "k", &body));
    let answers = futures_util::future::join_all(sendings).await;
    let (done, waiting): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 201);
    assert!(done.iter().all(|answer| answer.body == done[0].body), "responses differ");
    assert_eq!(done.iter().filter(|answer| answer.header("idempotent-replayed").is_none()).count(), 1);
    for answer in waiting {
        assert_eq!(answer.header("retry-after"), Some("1"));
        answer.problem(409, "idempotency_in_progress");
    }
    assert_eq!(key.get("/v1/tokens").await.ok()["data"].as_array().unwrap().len(), 1);
    assert_replay_of(
        &send(&key, "POST", "/v1/tokens", "k", &body).await,
        done.iter().find(|answer| answer.header("idempotent-replayed").is_none()).unwrap(),
    );
}

#[tokio::test]
async fn idempotency_keys_are_scoped_to_the_user_key_or_token() {
    let app = TestApp::shared().await;
    let (owner, stranger) = (app.owner().await, app.user().await);
    let first = send(&owner, "POST", "/v1/projects", "k", &project("n")).await.created();
    assert_ne!(send(&stranger, "POST", "/v1/projects", "k", &project("n")).await.created()["id"], first["id"]);

    let (key, sibling) = (owner.key().await, owner.key().await);
    let token = key.token(&["tokens:write", "users:read"]).await;
    let body = json!({ "name": "n", "scopes": ["users:read"] });
    let mut ids = Vec::new();
    for made in [
        send(&key, "POST", "/v1/tokens", "k", &body).await,
        send(&sibling, "POST", "/v1/tokens", "k", &body).await,
        send(&token, "POST", "/v1/tokens", "k", &body).await,
    ] {
        assert_eq!(made.header("idempotent-replayed"), None);
        ids.push(made.created()["id"].as_str().unwrap().to_owned());
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 3);
}

#[tokio::test]
async fn response_with_a_secret_is_replayed_only_to_the_bearer_secret_that_created_it() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let body = json!({ "project_id": owner.project });
    let first = send(&owner, "POST", "/v1/keys", "k", &body).await;
    let plain = send(&owner, "POST", "/v1/projects", "p", &project("n")).await;
    assert_replay_of(&send(&owner, "POST", "/v1/keys", "k", &body).await, &first);
    // In another session of the user, only responses without secrets are replayed. The error for others has the item's
    // ID.
    let other = app.another_session(&owner).await;
    assert_replay_of(&send(&other, "POST", "/v1/projects", "p", &project("n")).await, &plain);
    let problem = send(&other, "POST", "/v1/keys", "k", &body).await.problem(409, "idempotency_replay_sealed");
    assert!(problem["detail"].as_str().unwrap().contains(first["id"].as_str().unwrap()), "{problem}");
    assert_eq!(
        owner.get(&format!("/v1/keys?project_id={}", owner.project)).await.ok()["data"].as_array().unwrap().len(),
        1
    );

    // A key that is rotated after the request.
    let key = owner.key().await;
    let body = json!({ "name": "n", "scopes": ["users:read"] });
    let made = send(&key, "POST", "/v1/tokens", "k", &body).await;
    let rotated = owner.post(&format!("/v1/keys/{}/rotate", key.id), json!({})).await.created();
    let newer = Key { app: &app, id: key.id.clone(), secret: rotated["key"].as_str().unwrap().into() };
    send(&newer, "POST", "/v1/tokens", "k", &body).await.problem(409, "idempotency_replay_sealed");
    assert_replay_of(&send(&key, "POST", "/v1/tokens", "k", &body).await, &made);
}

#[tokio::test]
async fn stored_records_contain_no_plaintext_secret() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let made = send(&key, "POST", "/v1/tokens", "my-own-word", &json!({ "name": "n", "scopes": ["users:read"] })).await;
    let secret = made["token"].as_str().unwrap();
    let records: Vec<(String, Vec<u8>)> = sqlx::query_as("SELECT r::text, r.body FROM idempotency_records r")
        .fetch_all(&mut *app.db.acquire().await.unwrap())
        .await
        .unwrap();
    assert_eq!(records.len(), 1);
    let (text, body) = &records[0];
    assert!(!text.contains(secret) && !text.contains("my-own-word"), "{text}");
    assert!(!body.windows(12).any(|part| part == &secret.as_bytes()[..12]));
}

#[tokio::test]
async fn replay_is_checked_after_the_project_and_before_body_validation() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let body = json!({ "project_id": owner.project });
    let first = send(&owner, "POST", "/v1/keys", "k", &body).await;
    first.json();
    // Reuse of the key is reported before validation errors.
    let faulty = json!({ "project_id": owner.project, "nonsense": 1 });
    send(&owner, "POST", "/v1/keys", "k", &faulty).await.problem(422, "idempotency_key_reused");
    send(&owner, "POST", "/v1/keys", "k", &json!({ "nonsense": 1 })).await.problem(400, "project_required");
    send(&owner, "POST", "/v1/keys", "k", &json!({ "project_id": "proj_1" })).await.problem(404, "not_found");
    let malformed =
        owner.request("POST", "/v1/keys").header("idempotency-key", "k").header("content-type", "application/json");
    malformed.body("{").send().await.problem(400, "malformed_json");
}
