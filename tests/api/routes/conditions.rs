//! Conditional requests (RFC 9110 §13) on every route of an item, generated from the route table.

use cloudapi::http::describe::ResponseHeader;
use cloudapi::{http::describe::Operation, server::routes};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    Identity, Reply, Session, TestApp, eventually,
    items::{Items, body_of_creation},
};

const MALFORMED: &[&str] =
    &["", "7", "\"7", "7\"", "'7'", "w/\"7\"", "\"a\" \"b\"", "*, \"a\"", "\"a\", *", "\"a\";", ","];
const PASSWORD: &str = "a long enough password 7";

fn etag(reply: &Reply) -> String {
    reply.header("etag").unwrap_or_else(|| panic!("no ETag: {} {}", reply.status, reply.json())).to_owned()
}

fn name(operation: &Operation) -> String {
    operation.name()
}

#[test]
fn every_item_response_has_an_etag_and_every_item_write_checks_preconditions() {
    let table = routes::table();
    let is_list = |operation: &Operation| {
        operation.query.is_some_and(|rules| rules.properties().contains_key("limit"))
            || operation.path.ends_with("/breakdown")
    };
    for operation in table.operations().filter(|operation| operation.path.starts_with("/v1/")) {
        let answer = operation.response;
        let is_json = answer.media_types == ["application/json"];
        let is_item = match operation.method {
            Method::GET => is_json && !is_list(operation),
            Method::DELETE => answer.has(ResponseHeader::Location),
            // The password change and introspection do not return an item.
            _ => answer.has(ResponseHeader::Location) || operation.method == Method::PATCH,
        };
        assert!(!is_item || answer.has(ResponseHeader::ETag), "{} has no ETag", name(operation));
        let is_write_of_item = operation.method != Method::GET && !operation.path_ids.is_empty();
        assert!(!is_write_of_item || operation.conditional, "{} ignores preconditions", name(operation));
    }
}

/// Whether the response has usage, which the test's own requests change.
fn reads_usage(operation: &Operation) -> bool {
    operation.path == "/v1/usage" || operation.path.ends_with("/overview")
}

#[tokio::test]
async fn every_item_route_supports_conditional_reads() {
    let app = TestApp::start().await;
    let items = Items::new(&app).await;
    let table = routes::table();
    for operation in table.operations().filter(|operation| operation.method == Method::GET && operation.conditional) {
        let (path, name) = (items.path(operation).await, name(operation));
        let get = async |header: &str, value: &str| {
            let call = items.request(operation, &path);
            if header.is_empty() { call.send().await } else { call.header(header, value).send().await }
        };
        // Usage changes while the test reads it.
        let tag = eventually("the same ETag in two reads", async || {
            let tag = etag(&get("", "").await);
            (get("if-none-match", &tag).await.status == 304).then_some(tag)
        })
        .await;
        assert!(tag.starts_with('"') && tag.ends_with('"'), "{name}: {tag}");
        let current = async || etag(&get("", "").await);
        for list in [format!("W/{}", current().await), format!("\"other\", {}", current().await), "*".to_owned()] {
            let reply = get("if-none-match", &list).await;
            if reads_usage(operation) && reply.status == 200 && list != "*" {
                continue;
            }
            assert_eq!((reply.status, reply.body.len()), (304, 0), "{name}: {list}");
            assert!(reply.header("etag").is_some() && reply.header("content-type").is_none(), "{name}");
        }
        let head = items.request_as(operation, "HEAD", &path).header("if-none-match", "*").send().await;
        assert_eq!((head.status, head.body.len()), (304, 0), "{name}");
        let reply = get("if-none-match", "\"other\", W/\"another\"").await;
        assert_eq!(reply.status, 200, "{name}");
        assert!(!reply.body.is_empty(), "{name}");

        assert_eq!(get("if-match", "*").await.status, 200, "{name}");
        eventually("a matching If-Match", async || {
            (get("if-match", &current().await).await.status == 200).then_some(())
        })
        .await;
        get("if-match", "\"other\"").await.problem(412, "precondition_failed");
        let weak = get("if-match", &format!("W/{}", current().await)).await.problem(412, "precondition_failed");
        assert!(weak["detail"].as_str().unwrap().contains("weak ETag (W/), which never matches"), "{name}: {weak}");
        for junk in MALFORMED {
            get("if-match", junk).await.problem(400, "malformed_request");
            get("if-none-match", junk).await.problem(400, "malformed_request");
        }
    }
}

/// A write of an item.
struct Attempt {
    path: String,
    /// The item's ETag, and its path, if the item can be read.
    tag: Option<String>,
    item: Option<String>,
}

/// Signs in; the response has the ETag of the session.
async fn signed_in(owner: &Session<'_>) -> Reply {
    owner.app.anonymous().post("/v1/sessions", json!({ "email": owner.email, "password": PASSWORD })).await
}

impl Attempt {
    async fn new(items: &Items<'_>, operation: &Operation) -> Self {
        if operation.path == "/v1/sessions/{session_id}" {
            let session = signed_in(&items.owner).await;
            let path = session.header("location").unwrap().to_owned();
            return Self { path, tag: Some(etag(&session)), item: None };
        }
        let path = items.path(operation).await;
        let Some(item) = items.item_path(operation, &path) else { return Self { path, tag: None, item: None } };
        let tag = etag(&items.owner.get(&item).await);
        Self { path, tag: Some(tag), item: Some(item) }
    }

    async fn send(&self, items: &Items<'_>, operation: &Operation, headers: &[(&str, &str)]) -> Reply {
        let mut call = items.request(operation, &self.path);
        if let Some(body) = items.body(operation) {
            call = call.json(&body);
        }
        for (name, value) in headers {
            call = call.header(name, value);
        }
        call.send().await
    }

    /// The state that a write can change, without fields that the server sets from observation.
    async fn state(&self, items: &Items<'_>) -> Value {
        let Some(item) = &self.item else {
            let sessions = items.owner.get("/v1/sessions?limit=100").await.ok();
            return sessions["data"].as_array().unwrap().iter().map(|session| session["id"].clone()).collect();
        };
        let mut state = items.owner.get(item).await.ok();
        let members = state.as_object_mut().unwrap();
        members
            .retain(|name, value| name != "last_used_at" && name != "etag" && !(name == "status" && value.is_object()));
        state
    }
}

#[tokio::test]
async fn every_write_of_an_item_checks_preconditions() {
    let app = TestApp::shared().await;
    let items = Items::new(&app).await;
    app.set_password(&items.owner, PASSWORD).await;
    let table = routes::table();
    for operation in table.operations().filter(|operation| operation.method != Method::GET && operation.conditional) {
        let name = name(operation);
        if operation.path == "/v1/sessions/current" {
            // This route revokes the session that sends it, so it has its own test.
            continue;
        }
        let attempt = Attempt::new(&items, operation).await;
        let tag = attempt.tag.clone().unwrap_or_else(|| panic!("{name}: no ETag for this item"));
        let before = attempt.state(&items).await;
        let weak = format!("W/{tag}");
        for (header, value) in [
            ("if-match", "\"0\""),
            ("if-match", "\"0\", \"1234\""),
            ("if-match", weak.as_str()),
            ("if-none-match", "*"),
            ("if-none-match", tag.as_str()),
            ("if-none-match", weak.as_str()),
        ] {
            let problem = attempt.send(&items, operation, &[(header, value)]).await.problem(412, "precondition_failed");
            if value.starts_with("W/") && header == "if-match" {
                let detail = problem["detail"].as_str().unwrap();
                assert!(detail.contains("weak ETag (W/), which never matches"), "{name}: {detail}");
            }
        }
        for junk in MALFORMED {
            attempt.send(&items, operation, &[("if-match", junk)]).await.problem(400, "malformed_request");
            attempt.send(&items, operation, &[("if-none-match", junk)]).await.problem(400, "malformed_request");
        }
        assert_eq!(attempt.state(&items).await, before, "{name} changed something");

        let list = format!("\"0\", {tag}");
        for (number, headers) in [
            &[("if-match", tag.as_str())][..],
            &[("if-match", "*")],
            &[("if-match", list.as_str())],
            &[("if-none-match", "\"0\"")],
            &[("if-match", "*"), ("if-none-match", "\"0\"")],
        ]
        .iter()
        .enumerate()
        {
            // A new item for each attempt, because the first write changes the ETag.
            let attempt = if number == 0 { attempt_again(&attempt) } else { Attempt::new(&items, operation).await };
            let tag = attempt.tag.clone().unwrap();
            let headers: Vec<(&str, &str)> = headers
                .iter()
                .map(|&(header, value)| {
                    (header, if value.ends_with('*') || value == "\"0\"" { value } else { tag.as_str() })
                })
                .collect();
            let reply = attempt.send(&items, operation, &headers).await;
            assert!(matches!(reply.status, 200..=202), "{name} {headers:?}: {} {}", reply.status, reply.json());
            if operation.response.has(ResponseHeader::ETag) {
                etag(&reply);
            }
            let shows_item = matches!(reply.status, 200 | 201) && operation.response.has(ResponseHeader::ETag);
            if let (true, Some(item)) = (shows_item, &attempt.item) {
                assert_eq!(
                    etag(&reply),
                    etag(&items.owner.get(item).await),
                    "{name}: ETag differs from that of the item"
                );
            }
        }
    }
}

fn attempt_again(attempt: &Attempt) -> Attempt {
    Attempt { path: attempt.path.clone(), tag: attempt.tag.clone(), item: attempt.item.clone() }
}

#[tokio::test]
async fn sign_out_checks_preconditions() {
    let app = TestApp::shared().await;
    let user = app.user().await;
    app.set_password(&user, PASSWORD).await;
    let made = signed_in(&user).await;
    let session = crate::support::Bearer { app: &app, secret: made["token"].as_str().unwrap().to_owned() };
    let leave = |tag: String| session.request("DELETE", "/v1/sessions/current").header("if-match", &tag).send();
    leave("\"0\"".to_owned()).await.problem(412, "precondition_failed");
    session.get("/v1/projects").await.ok();
    leave(etag(&made)).await.ok();
    session.get("/v1/projects").await.problem(401, "token_revoked");
}

#[tokio::test]
async fn creation_returns_the_same_etag_as_get() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let table = routes::table();
    let creations = table.operations().filter(|operation| {
        operation.method == Method::POST && operation.response.status == 201 && operation.path_ids.is_empty()
    });
    for operation in creations {
        // A session cannot be read by its ID.
        if matches!(operation.path, "/v1/sessions" | "/v1/invitations/accept") {
            continue;
        }
        let project = &owner.project;
        let body = body_of_creation(operation.path, project);
        let body = body.unwrap_or_else(|| panic!("{} creates an item: add its body", operation.path));
        let made = owner.post(operation.path, body).await;
        let mut path = made.header("location").unwrap().to_owned();
        if operation.path == "/v1/users" {
            path = format!("{path}?project_id={project}");
        }
        assert_eq!(etag(&made), etag(&owner.get(&path).await), "{}", operation.path);
    }
}

#[tokio::test]
async fn etag_changes_with_each_write_and_if_match_ignores_last_use() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let path = format!("/v1/keys/{}", key.id);
    let unused = etag(&owner.get(&path).await);
    key.get("/v1/users").await.ok();
    app.flush_usage().await;
    let used = eventually("last_used_at is set", async || {
        let reply = owner.get(&path).await;
        (!reply["last_used_at"].is_null()).then(|| etag(&reply))
    })
    .await;
    // For If-None-Match, any change counts; for If-Match, only changes by a write.
    assert_ne!(unused, used);
    assert_eq!(owner.request("GET", &path).header("if-none-match", &unused).send().await.status, 200);
    let rename = |tag: &str| owner.request("PATCH", &path).json(&json!({ "name": "n" })).header("if-match", tag).send();
    let renamed = etag(&rename(&unused).await);
    for stale in [unused, used] {
        rename(&stale).await.problem(412, "precondition_failed");
    }
    assert_eq!(rename(&renamed).await.status, 200);
}

#[tokio::test]
async fn replay_returns_first_response_although_etag_has_changed() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let path = format!("/v1/keys/{}", owner.key().await.id);
    let tag = etag(&owner.get(&path).await);
    let send = || {
        let call = owner.request("PATCH", &path).json(&json!({ "name": "n" })).header("if-match", &tag);
        call.header("idempotency-key", "once").send()
    };
    let (first, again) = (send().await, send().await);
    assert_eq!((first.status, again.status, again.header("idempotent-replayed")), (200, 200, Some("true")));
    assert_eq!(first.header("etag"), again.header("etag"));
}
