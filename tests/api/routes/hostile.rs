//! Malicious requests to every route, generated from the route table and the OpenAPI document, so that new routes
//! are included automatically.

use cloudapi::{http::describe::Operation, server::routes};
use serde_json::{Value, json};

use crate::support::{
    Identity, Key, Reply, Session, TestApp,
    document::{absent_path, body_schema, fill_path},
    items,
};

const HOSTILE: &[&str] = &[
    "'",
    "\"",
    "'; DROP TABLE keys; --",
    "1 OR 1=1",
    "\\",
    "%00",
    "%",
    "$1",
    "../../etc/passwd",
    "{{7*7}}",
    "<script>",
    "\u{202e}",
    "é",
    "key_",
    "key_0",
    "key_ffffffffffffffffffffffffffffffff",
    "-1",
    "99999999999999999999",
    "null",
    " ",
    "\t",
];

fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

#[track_caller]
fn assert_no_server_error(reply: &Reply, what: &str) {
    assert!(reply.status < 500, "{what}: {} {}", reply.status, reply.json());
}

/// Sends a request with the kind of credential that the operation accepts.
async fn send(owner: &Session<'_>, key: &Key<'_>, operation: &Operation, path: &str, body: Option<Value>) -> Reply {
    let method = operation.method.as_str();
    let by_session = operation.policy.kinds().is_empty()
        || operation.policy.kinds().contains(&cloudapi::base::identity::secret::SecretKind::Session);
    let request = if by_session { owner.request(method, path) } else { key.request(method, path) };
    match body {
        Some(body) => request.json(&body).send().await,
        None => request.send().await,
    }
}

/// Whether the operation revokes the session that calls it.
fn revokes_caller(operation: &Operation) -> bool {
    operation.path == "/v1/sessions/current"
}

#[tokio::test]
async fn hostile_texts_in_paths_and_parameters_never_cause_5xx() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    for operation in routes::table().operations().filter(|operation| !revokes_caller(operation)) {
        let body = operation.body.map(|_| json!({}));
        let places = operation.path.split('/').filter(|part| part.starts_with('{'));
        for place in places {
            for text in HOSTILE {
                let path = fill_path(operation, &operation.path.replace(place, &encoded(text)));
                assert_no_server_error(&send(&owner, &key, operation, &path, body.clone()).await, &path);
            }
        }
        let names = operation.query.iter().flat_map(|rules| rules.properties().keys());
        for name in names {
            for text in HOSTILE {
                let path = format!("{}?{name}={}", absent_path(operation), encoded(text));
                assert_no_server_error(&send(&owner, &key, operation, &path, body.clone()).await, &path);
            }
        }
    }
}

#[tokio::test]
async fn hostile_values_in_body_fields_never_cause_5xx() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let mut deep = json!("x");
    for _ in 0..30 {
        deep = json!([deep]);
    }
    for operation in routes::table().operations() {
        let Some(schema) = body_schema(operation) else { continue };
        let path = absent_path(operation);
        for name in schema["properties"].as_object().into_iter().flat_map(|members| members.keys()) {
            let mut values: Vec<Value> = HOSTILE.iter().map(|&text| json!(text)).collect();
            values.extend([
                json!("\u{0}"),
                json!("x".repeat(60_000)),
                json!(-1),
                json!(1e300),
                json!(u64::MAX),
                json!(true),
                json!({}),
                json!([]),
                deep.clone(),
            ]);
            for value in values {
                let mut body = json!({ name: value });
                if name != "project_id" && schema["properties"].get("project_id").is_some() {
                    body["project_id"] = json!(owner.project);
                }
                let reply = send(&owner, &key, operation, &path, Some(body)).await;
                assert_no_server_error(&reply, &format!("{} {path} {name}", operation.method));
            }
        }
    }
}

#[tokio::test]
async fn invalid_json_is_rejected_on_every_route_with_a_json_body() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let deep = "[".repeat(10_000) + &"]".repeat(10_000);
    let duplicate = r#"{"name":"a","name":"b"}"#;
    let bodies: [&[u8]; 9] = [
        b"",
        b"{",
        b"\xff\xfe",
        b"{\"a\":\"\xc0\xaf\"}",
        br#"{"a":"\ud800"}"#,
        br"{}{}",
        duplicate.as_bytes(),
        deep.as_bytes(),
        b"\0",
    ];
    for operation in routes::table().operations().filter(|operation| operation.body.is_some()) {
        let by_session = operation.policy.kinds().is_empty()
            || operation.policy.kinds().contains(&cloudapi::base::identity::secret::SecretKind::Session);
        // An optional body may be empty.
        let is_optional = operation.body.is_some_and(|body| !body.required);
        for body in bodies.into_iter().filter(|body| !(is_optional && body.is_empty())) {
            let (method, path) = (operation.method.as_str(), absent_path(operation));
            let request = if by_session { owner.request(method, &path) } else { key.request(method, &path) };
            request
                .header("content-type", "application/json")
                .body(body.to_vec())
                .send()
                .await
                .problem(400, "malformed_json");
        }
    }
}

/// The response without its request ID and date.
fn comparable(reply: &Reply) -> (u16, Vec<(String, String)>, Value) {
    let headers = reply.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    let mut headers: Vec<_> = headers.filter(|(name, _)| name != "x-request-id" && name != "date").collect();
    headers.sort();
    let mut body = reply.json().clone();
    if let Some(body) = body.as_object_mut() {
        body.remove("request_id");
    }
    (reply.status, headers, body)
}

#[tokio::test]
async fn foreign_and_nonexistent_items_get_the_same_response_on_every_route() {
    let app = TestApp::shared().await;
    let (owner, stranger) = (app.owner().await, app.owner().await);
    let all: Vec<&str> = cloudapi::base::identity::scope::Scope::ALL.iter().map(|scope| scope.as_str()).collect();
    let key = stranger.key_with(json!({ "scopes": all })).await;
    let with_ids = routes::table();
    let with_ids = with_ids
        .operations()
        .filter(|operation| operation.path.contains("_id}") && !operation.policy.kinds().is_empty());
    for operation in with_ids {
        let absent = absent_path(operation);
        let foreign = items::fill(&owner, operation.path).await;
        assert_ne!(absent, foreign);
        let names_project = operation.query.is_some_and(|rules| rules.properties().contains_key("project_id"));
        let in_project = |path: &str| match names_project {
            true => format!("{path}?project_id={}", stranger.project),
            false => path.to_owned(),
        };
        let body = operation.body.map(|_| match operation.path {
            "/v1/resources/{resource_id}/actions" => json!({ "action": "reboot" }),
            _ => json!({}),
        });
        let by_session = (
            send(&stranger, &key, operation, &in_project(&absent), body.clone()).await,
            send(&stranger, &key, operation, &in_project(&foreign), body.clone()).await,
        );
        assert_eq!(by_session.0.status, 404, "{} {absent}", operation.method);
        assert_eq!(comparable(&by_session.0), comparable(&by_session.1), "{} {absent}", operation.method);
        let method = operation.method.as_str();
        let by_key = async |path: &str| match &body {
            Some(body) => key.request(method, path).json(body).send().await,
            None => key.request(method, path).send().await,
        };
        assert_eq!(comparable(&by_key(&absent).await), comparable(&by_key(&foreign).await), "{method} {absent}");
    }
}
