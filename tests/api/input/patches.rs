//! Null in the body of a PATCH clears nullable fields and is rejected for all others.

use std::time::Duration;

use axum::http::Method;
use cloudapi::{base::identity::role::Role, server::routes};
use serde_json::{Value, json};

use super::{members, operations};
use crate::support::{Identity, Reply, Session, TestApp, cloud::insert_network, document, eventually, items};

/// Creates an item for the route; returns its path.
async fn thing(owner: &Session<'_>, template: &str) -> String {
    match template {
        "/v1/users/{user_id}" => {
            let member = owner.app.member(owner, Role::Viewer).await;
            format!("/v1/users/{}?project_id={}", member.user_id, owner.project)
        }
        "/v1/resources/{resource_id}" => format!("/v1/resources/{}", insert_network(owner).await),
        other => items::fill(owner, other).await,
    }
}

/// A value for a field that differs from its default.
fn sample(name: &str) -> Value {
    match name {
        "name" => json!("sample"),
        "description" => json!("a sample"),
        "metadata" | "labels" => json!({ "a": "b" }),
        "scopes" => json!(["users:read"]),
        "expires_at" => json!("2099-12-31T23:59:59Z"),
        "allowed_ips" => json!(["203.0.113.0/24"]),
        "rate_limit" => json!({ "requests": 600, "per_seconds": 60 }),
        "role" => json!("member"),
        "url" => json!("https://receiver.invalid/sample"),
        "event_types" => json!(["key.created"]),
        "enabled" => json!(false),
        "spec" => json!({ "cidr": "10.0.0.0/16" }),
        "protection" => json!(true),
        "reconcile" => json!("enforce"),
        "ttl_seconds" => json!(3600),
        other => panic!("{other} is a new field: add a value for it here"),
    }
}

/// The response field that shows a request field.
fn shown_as(name: &str) -> &str {
    if name == "ttl_seconds" { "expires_at" } else { name }
}

fn is_nullable(schema: &Value) -> bool {
    let has_null = |schema: &Value| {
        schema["type"] == "null" || schema["type"].as_array().is_some_and(|kinds| kinds.contains(&json!("null")))
    };
    has_null(schema)
        || schema["anyOf"].as_array().is_some_and(|any| any.iter().any(has_null) && schema.get("type").is_none())
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Updates an item and waits for its operation.
async fn patch(owner: &Session<'_>, path: &str, body: Value) -> Reply {
    let reply = owner.patch(path, body).await;
    if let Some(operation) = reply["operation"]["id"].as_str() {
        let path = format!("/v1/operations/{operation}?wait=20");
        assert!(!owner.get(&path).await.ok()["finished_at"].is_null());
    }
    reply
}

#[tokio::test]
async fn null_clears_exactly_the_fields_documented_as_nullable() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let (mut cleared, mut kept) = (Vec::new(), Vec::new());
    for operation in operations(&routes::table()).filter(|operation| operation.method == Method::PATCH) {
        let path = thing(&owner, operation.path).await;
        for (name, schema) in members(operation).expect("PATCH has no fields") {
            let what = format!("{name} of {}", operation.path);
            let set = patch(&owner, &path, json!({ name: sample(name) })).await;
            assert!(set.status < 300, "{what}: {}", set.json());
            let before = owner.get(&path).await.ok();
            assert!(!is_empty(&before[shown_as(name)]), "{what}: {before}");
            // An absent field is unchanged.
            patch(&owner, &path, json!({})).await;
            assert_eq!(owner.get(&path).await.ok()[shown_as(name)], before[shown_as(name)], "{what}");
            let answer = patch(&owner, &path, json!({ name: null })).await;
            let after = owner.get(&path).await.ok();
            if is_nullable(schema) {
                assert!(answer.status < 300, "{what}: {}", answer.json());
                assert!(is_empty(&after[shown_as(name)]), "{what} not cleared: {after}");
                cleared.push(what);
            } else {
                let problem = answer.problem(422, "validation_failed");
                assert_eq!(problem["errors"][0]["pointer"], format!("#/{name}"), "{what}");
                let detail = problem["errors"][0]["detail"].as_str().unwrap();
                assert!(detail.contains("must not be null"), "{what}: {detail}");
                assert_eq!(after[shown_as(name)], before[shown_as(name)], "{what}");
                kept.push(what);
            }
        }
    }
    for member in ["expires_at", "allowed_ips", "rate_limit", "metadata", "ttl_seconds", "description", "labels"] {
        assert!(cleared.iter().any(|what| what.starts_with(member)), "{member} cannot be cleared: {cleared:?}");
    }
    assert!(kept.len() > 5, "{kept:?}");
}

#[tokio::test]
async fn clearing_limits_of_a_key_takes_effect_immediately_and_is_recorded() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let token = key.token(&["users:read"]).await;
    let path = format!("/v1/keys/{}", key.id);
    app.lease().await;

    let narrow = json!({ "allowed_ips": ["203.0.113.0/24"], "rate_limit": { "requests": 1, "per_seconds": 86_400 } });
    owner.patch(&path, narrow).await.ok();
    key.get("/v1/users").await.problem(403, "ip_not_allowed");
    token.get("/v1/users").await.problem(403, "ip_not_allowed");
    owner.patch(&path, json!({ "allowed_ips": null })).await.ok();
    key.get("/v1/users").await.ok();
    key.get("/v1/users").await.problem(429, "rate_limited");
    owner.patch(&path, json!({ "rate_limit": null })).await.ok();
    for _ in 0..3 {
        let reply = key.get("/v1/users").await;
        assert_eq!(reply.header("ratelimit"), None);
        reply.ok();
        token.get("/v1/users").await.ok();
    }

    let end = app.clock.now().plus(Duration::from_secs(60));
    owner.patch(&path, json!({ "expires_at": end })).await.ok();
    app.clock.advance(Duration::from_secs(61));
    key.get("/v1/users").await.problem(401, "token_expired");
    let cleared = owner.patch(&path, json!({ "expires_at": null })).await.ok();
    assert_eq!((&cleared["expires_at"], &cleared["status"]), (&json!(null), &json!("active")));
    key.get("/v1/users").await.ok();

    let trail = format!("/v1/audit-logs?project_id={}&action=key.updated&order=desc", owner.project);
    let changes = eventually("change recorded in the audit trail", async || {
        let newest = owner.get(&trail).await.ok()["data"][0]["changes"].clone();
        newest.get("expires_at").is_some_and(|change| change[1].is_null()).then_some(newest)
    })
    .await;
    assert_eq!(changes["expires_at"], json!([end, null]));
}

#[tokio::test]
async fn null_in_a_post_means_absent() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    for operation in operations(&routes::table()).filter(|operation| operation.method == Method::POST) {
        let Some(valid) = items::body_of_creation(operation.path, &owner.project) else { continue };
        let mut body = valid;
        // A session must name the project.
        let required = &document::body_schema(operation).unwrap()["required"];
        let is_required = |name: &str| {
            name == "project_id" || required.as_array().is_some_and(|names| names.iter().any(|other| other == name))
        };
        for name in members(operation).unwrap().keys().filter(|name| !is_required(name)) {
            body[name] = Value::Null;
        }
        let reply = owner.post(operation.path, body.clone()).await;
        assert!(reply.status < 300, "{} {body}: {}", operation.path, reply.json());
    }
}

#[tokio::test]
async fn null_inside_a_resource_spec_is_rejected() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let path = format!("/v1/resources/{}", insert_network(&owner).await);
    let problem = owner.patch(&path, json!({ "spec": { "cidr": null } })).await.problem(422, "validation_failed");
    assert_eq!(problem["errors"][0]["pointer"], "#/spec/cidr", "{problem}");
    let unknown = owner.patch(&path, json!({ "spec": { "cird": null } })).await;
    assert_eq!(unknown.invalid_member(), ("#/spec/cird".into(), "unknown_field".into()));
}
