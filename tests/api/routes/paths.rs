//! Percent-encoded spellings of a path (RFC 3986 §2.1) are equivalent everywhere.

use cloudapi::{
    base::identity::access_policy::{AccessPolicy, SelfAccess},
    server::routes,
};
use reqwest::Method;
use serde_json::json;

use crate::support::{Identity, Reply, TestApp, items::Items};

/// Percent-encoded spellings of `id`.
fn spellings(id: &str) -> Vec<String> {
    let all = |digits: fn(u8) -> String| id.bytes().map(digits).collect::<String>();
    let (head, tail) = id.split_at(1);
    vec![
        id.replace('_', "%5F"),
        id.replace('_', "%5f"),
        all(|byte| format!("%{byte:02X}")),
        all(|byte| format!("%{byte:02x}")),
        format!("%{:02x}{tail}", head.as_bytes()[0]),
    ]
}

/// `path` with every ID percent-encoded.
fn spelled(template: &str, path: &str, number: usize) -> String {
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    let parts = template.split('/').zip(path.split('/')).map(|(part, given)| match part.starts_with('{') {
        true => spellings(given)[number].clone(),
        false => given.to_owned(),
    });
    let path = parts.collect::<Vec<_>>().join("/");
    query.map_or(path.clone(), |query| format!("{path}?{}", query.replace('_', "%5F")))
}

fn says(reply: &Reply) -> (u16, String) {
    (reply.status, reply["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn every_path_is_accepted_in_every_spelling() {
    let app = TestApp::shared().await;
    let items = Items::new(&app).await;
    let table = routes::table();
    for operation in table.operations().filter(|operation| operation.path.contains('{')) {
        for number in 0..spellings("a_1").len() {
            let path = items.path(operation).await;
            let other = spelled(operation.path, &path, number);
            let send = async |path: &str, key: Option<&str>| {
                let mut call = items.request(operation, path);
                if let Some(body) = items.body(operation) {
                    call = call.json(&body);
                }
                if let Some(key) = key {
                    call = call.header("idempotency-key", key);
                }
                call.send().await
            };
            let name = operation.name();
            if operation.response.is_idempotent() {
                // The second request is a retry of the first: the fingerprint does not depend on the spelling.
                let key = format!("{name} {number}").replace(' ', "-");
                let (first, again) = (send(&path, Some(&key)).await, send(&other, Some(&key)).await);
                assert!(first.status < 300, "{name}: {}", first.json());
                assert_eq!(again.header("idempotent-replayed"), Some("true"), "{name} {other}: {}", again.json());
                assert_eq!(again.body, first.body, "{name} {other}");
            } else {
                let (first, again) = (send(&other, None).await, send(&path, None).await);
                assert!(first.status < 300, "{name} {other}: {}", first.json());
                assert_eq!(says(&again), says(&first), "{name} {other}");
            }
        }
    }
}

#[tokio::test]
async fn credential_in_its_own_path_is_recognized_in_every_spelling() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let table = routes::table();
    let of_itself = table.operations().filter(|operation| {
        matches!(
            operation.policy,
            AccessPolicy::Scoped { self_access: SelfAccess::ScopeNotRequired | SelfAccess::KeySelfOnly, .. }
        )
    });
    let mut tried = 0;
    for operation in of_itself {
        for number in 0..spellings("a_1").len() {
            let (secret, id) = match operation.path.split('/').nth(2) {
                Some("keys") => {
                    let key = owner.key_with(json!({ "scopes": ["users:read"] })).await;
                    (key.secret, key.id)
                }
                Some("tokens") => {
                    let token = owner.token(&["users:read"]).await;
                    (token.secret, token.id)
                }
                other => panic!("add a credential for {other:?} to this test"),
            };
            let itself = crate::support::Bearer { app: &app, secret };
            let send = |path: String| {
                let call = itself.request(operation.method.as_str(), &path);
                if operation.body.is_some() { call.json(&json!({})) } else { call }.send()
            };
            let of = |id: &str| operation.path.replace(['{', '}'], "").replace("key_id", id).replace("token_id", id);
            // Double encoding is a different name.
            let twice = send(of(&id.replace('_', "%255F"))).await;
            assert_eq!(twice.status, 403, "{}: {}", operation.name(), twice.json());
            let reply = send(of(&spellings(&id)[number])).await;
            assert!(reply.status < 300, "{} {number}: {}", operation.name(), reply.json());
            tried += 1;
        }
    }
    assert!(tried > 0);
}

#[tokio::test]
async fn write_to_another_item_does_not_replay() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let (one, other) = (owner.key().await.id, owner.key().await.id);
    let rename = |id: String| {
        let call = owner.request(Method::PATCH.as_str(), &format!("/v1/keys/{id}")).json(&json!({ "name": "n" }));
        call.header("idempotency-key", "k").send()
    };
    rename(one).await.ok();
    rename(other.replace('_', "%5F")).await.problem(422, "idempotency_key_reused");
}
