//! The list of events, in the order of the audit trail and as documented.

use std::{collections::BTreeSet, time::Duration};

use cloudapi::base::{action::Action, identity::role::Role};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{EVENTS, ids, listed, trigger_event};
use crate::support::{Identity, Session, TestApp, contract, document, eventually};

/// The project's stored audit entries that are events: ID and action.
async fn trail(app: &TestApp, owner: &Session<'_>) -> Vec<(String, String)> {
    let project = Uuid::from_u128(u128::from_str_radix(owner.project.strip_prefix("proj_").unwrap(), 16).unwrap());
    let rows: Vec<(Uuid, String)> =
        sqlx::query_as("SELECT id, action FROM audit_entries WHERE project_id = $1 AND is_event ORDER BY seq")
            .bind(project)
            .fetch_all(&app.db)
            .await
            .unwrap();
    rows.into_iter().map(|(id, action)| (format!("evt_{:x}", id.as_u128()), action)).collect()
}

#[tokio::test]
async fn events_are_listed_in_the_order_and_with_the_ids_of_the_audit_trail() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    key.token(&["users:read"]).await;
    owner.patch(&format!("/v1/keys/{}", key.id), json!({ "name": "CI" })).await.ok();
    trigger_event(&owner, &key).await;
    let events = listed(&key).await;
    let recorded: Vec<(String, String)> = events
        .iter()
        .map(|event| (event["id"].as_str().unwrap().to_owned(), event["type"].as_str().unwrap().to_owned()))
        .collect();
    assert_eq!(recorded, trail(&app, &owner).await);
    let types: Vec<&str> = recorded.iter().map(|recorded| recorded.1.as_str()).collect();
    assert_eq!(types, ["project.created", "key.created", "token.created", "key.updated", "key.created"]);

    let backwards = key.get(&format!("{EVENTS}?order=desc&limit=2")).await.ok();
    let cursor = backwards["next_cursor"].as_str().unwrap();
    let rest = key.get(&format!("{EVENTS}?order=desc&cursor={cursor}")).await.ok();
    let all: Vec<Value> =
        [&backwards, &rest].iter().flat_map(|page| page["data"].as_array().unwrap()).rev().cloned().collect();
    assert_eq!(all, events);
}

#[tokio::test]
async fn event_contains_actor_action_target_and_changes() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let patched = owner.request("PATCH", &format!("/v1/keys/{}", key.id)).json(&json!({ "name": "CI" })).send().await;
    let event = eventually("event listed", async || {
        let page = key.get(&format!("{EVENTS}?type=key.updated")).await.ok();
        page["data"].as_array().unwrap().first().cloned()
    })
    .await;
    let expected = json!({
        "specversion": "1.0",
        "id": event["id"],
        "type": "key.updated",
        "source": format!("https://api.example.com/v1/projects/{}", owner.project),
        "subject": key.id,
        "time": event["time"],
        "traceparent": event["traceparent"],
        "datacontenttype": "application/json",
        "data": {
            "action": "key.updated",
            "actor": { "credential_id": owner.id, "id": owner.user_id.to_string(), "type": "user" },
            "target": { "id": key.id, "type": "key" },
            "changes": { "name": ["", "CI"] },
            "request_id": patched.header("x-request-id"),
        },
    });
    assert_eq!(event, expected);
    contract::check_event(&event);
}

#[tokio::test]
async fn events_are_filtered_by_type_and_project() {
    let app = TestApp::shared().await;
    let (owner, other) = (app.owner().await, app.owner().await);
    let (key, foreign) = (owner.key().await, other.key().await);
    key.token(&["users:read"]).await;
    trigger_event(&owner, &key).await;
    trigger_event(&other, &foreign).await;
    let types = |events: &Value| -> BTreeSet<String> {
        events["data"].as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect()
    };
    let tokens = key.get(&format!("{EVENTS}?type=token.created")).await.ok();
    assert_eq!((types(&tokens), tokens["data"].as_array().unwrap().len()), (["token.created".to_owned()].into(), 1));
    let (own, foreigns) = (listed(&key).await, listed(&foreign).await);
    assert!(own.iter().all(|event| event["source"].as_str().unwrap().ends_with(&owner.project)));
    assert!(foreigns.iter().all(|event| !own.contains(event)));
    // The ID of another project's event is a valid cursor.
    let cursor = foreigns.last().unwrap()["id"].as_str().unwrap();
    let before = key.get(&format!("{EVENTS}?order=desc&limit=100&cursor={cursor}")).await.ok();
    assert_eq!(before["data"].as_array().unwrap().len(), own.len());
    key.get(&format!("{EVENTS}?type=key.admired")).await.problem(400, "invalid_parameter");
    key.get(&format!("{EVENTS}?type=session.created")).await.problem(400, "invalid_parameter");
    owner.get(EVENTS).await.problem(400, "project_required");
    owner.get(&format!("{EVENTS}?project_id={}", other.project)).await.problem(404, "not_found");
    key.get(&format!("{EVENTS}?cursor=aud_4d2")).await.problem(400, "invalid_cursor");
}

#[tokio::test]
async fn events_are_kept_for_seven_days_and_older_cursors_are_expired() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let old = trigger_event(&owner, &key).await["id"].as_str().unwrap().to_owned();
    app.clock.advance(Duration::from_secs(7 * 24 * 3600 - 60));
    let late = app.another_session(&owner).await;
    let new = trigger_event(&late, &key).await;
    // Advancing the clock also adds a checkpoint, so the list is filtered by type.
    assert_eq!(key.get(&format!("{EVENTS}?type=key.created&cursor={old}")).await.ok()["data"], json!([new]));
    app.clock.advance(Duration::from_secs(120));
    for order in ["asc", "desc"] {
        let refused = key.get(&format!("{EVENTS}?order={order}&cursor={old}")).await;
        let problem = refused.problem(410, "cursor_expired");
        assert_eq!(problem["errors"][0]["parameter"], "cursor");
        assert_eq!(key.get(&format!("{EVENTS}?type=key.created&order={order}")).await.ok()["data"], json!([new]));
    }
    // The audit trail keeps entries that are no longer events.
    assert!(trail(&app, &owner).await.iter().any(|(id, _)| *id == old));
}

#[tokio::test]
async fn redacted_entry_is_not_listed_and_its_id_remains_a_valid_cursor() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let gone = trigger_event(&owner, &key).await["id"].as_str().unwrap().to_owned();
    let next = trigger_event(&owner, &key).await;
    let id = Uuid::from_u128(u128::from_str_radix(gone.strip_prefix("evt_").unwrap(), 16).unwrap());
    sqlx::query(
        "UPDATE audit_entries SET payload = NULL, salt = NULL, action = NULL, actor_id = NULL, target_id = NULL
         WHERE id = $1",
    )
    .bind(id)
    .execute(&app.db)
    .await
    .unwrap();
    assert!(!ids(&listed(&key).await).contains(&gone));
    assert_eq!(key.get(&format!("{EVENTS}?cursor={gone}")).await.ok()["data"], json!([next]));
    assert_eq!(key.open_stream_after(&gone).await.event().await.unwrap().json(), next);
}

/// Performs every client action that produces an event, except those tested elsewhere.
async fn do_everything(app: &TestApp, owner: &Session<'_>) {
    let project = format!("/v1/projects/{}", owner.project);
    let key = owner.key_with(json!({ "metadata": { "team": "core" }, "allowed_ips": ["127.0.0.0/8"] })).await;
    let changes = json!({ "name": "CI", "rate_limit": { "requests": 1000, "per_seconds": 1 } });
    owner.patch(&format!("/v1/keys/{}", key.id), changes).await.ok();
    owner.post(&format!("/v1/keys/{}/rotate", key.id), json!({})).await.created();
    let token = key.token(&["users:read"]).await;
    owner.delete(&format!("/v1/tokens/{}", token.id)).await.ok();
    owner.delete(&format!("/v1/keys/{}", key.id)).await.ok();
    let new = json!({ "project_id": owner.project, "email": "grace@example.com", "role": "member" });
    let invited = owner.post("/v1/users", new).await.created();
    let accept = json!({ "token": invited["invitation"], "password": "correct horse battery" });
    let accepted = app.anonymous().post("/v1/invitations/accept", accept).await.created();
    let user = format!("/v1/users/{}?project_id={}", accepted["user"]["id"].as_str().unwrap(), owner.project);
    owner.patch(&user, json!({ "role": "admin" })).await.ok();
    owner.delete(&user).await.ok();
    owner.patch(&project, json!({ "name": "Core", "metadata": { "a": "b" } })).await.ok();
    owner.post_empty(&format!("{project}/suspend")).await.ok();
    owner.post_empty(&format!("{project}/resume")).await.ok();
    owner.post_empty(&format!("{project}/archive")).await.ok();
    owner.delete(&project).await.ok();
}

#[tokio::test]
async fn every_event_conforms_to_the_schema_of_its_type() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    do_everything(&app, &owner).await;
    // The project is deleted, so nobody can read its events; its audit trail remains.
    let trail = eventually("project.deleted recorded", async || {
        let trail = trail(&app, &owner).await;
        (trail.last()?.1 == "project.deleted").then_some(trail)
    })
    .await;
    let payloads: Vec<Vec<u8>> = sqlx::query_scalar(
        "SELECT payload FROM audit_entries WHERE is_event AND action <> 'audit.checkpoint' ORDER BY id",
    )
    .fetch_all(&app.db)
    .await
    .unwrap();
    for payload in payloads {
        let event = cloudapi::api::events::model::Event::from_payload(&payload, "https://api.example.com").unwrap();
        contract::check_event(&serde_json::from_str(&event.to_json()).unwrap());
    }
    // Events of the operator, the server, webhooks and resources are checked in their own tests.
    let elsewhere = [
        "project.quota_changed",
        "project.resource_quota_changed",
        "quota.",
        "webhook.",
        "audit.",
        "resource.",
        "operation.",
    ];
    let done: BTreeSet<&str> = trail.iter().map(|(_, action)| action.as_str()).collect();
    let missing: Vec<&str> = Action::events()
        .map(Action::as_str)
        .filter(|action| !done.contains(action) && !elsewhere.iter().any(|prefix| action.starts_with(prefix)))
        .collect();
    assert!(missing.is_empty(), "no event of type {missing:?}");
}

#[test]
fn every_event_type_is_documented_with_a_valid_example() {
    let described = document::published()["webhooks"].as_object().unwrap();
    let types: BTreeSet<&str> = Action::events().map(Action::as_str).collect();
    assert_eq!(described.keys().map(String::as_str).collect::<BTreeSet<_>>(), types);
    for (kind, webhook) in described {
        let schema = document::resolve(&webhook["post"]["requestBody"]["content"]["application/json"]["schema"]);
        let data = document::own(document::resolve(&document::own(schema)["properties"]["data"]));
        let changes = &data["properties"]["changes"]["examples"][0];
        assert!(changes.is_object(), "{data}");
        contract::check_event(&json!({
            "specversion": "1.0",
            "id": "evt_4d2",
            "type": kind,
            "source": "https://api.cloudapi.dev/v1/projects/proj_8f2c4",
            "time": "2026-03-01T00:00:00.000Z",
            "datacontenttype": "application/json",
            "data": {
                "action": kind,
                "actor": { "credential_id": null, "id": null, "type": "system" },
                "target": null,
                "changes": changes,
                "request_id": null,
            },
        }));
    }
}

#[test]
fn events_page_lists_every_type() {
    let page = include_str!("../../../docs/events.md");
    for action in Action::events() {
        let row = format!("| `{action}` | {} |", action.description());
        assert!(page.contains(&row), "docs/events.md lacks: {row}");
    }
}

#[tokio::test]
async fn every_role_may_read_events() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let viewer = app.member(&owner, Role::Viewer).await;
    viewer.get(&format!("{EVENTS}?project_id={}", owner.project)).await.ok();
}
