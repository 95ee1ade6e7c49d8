//! Every input text must be well-formed UTF-8 without control characters.

use cloudapi::server::routes;
use serde_json::{Value, json};

use super::{members, operations, parameters, path_of, send};
use crate::support::{Identity, TestApp};

/// Invalid percent-encoded texts: control characters, invalid UTF-8, and invalid escapes.
const ENCODED: &[&str] = &[
    "%00",
    "a%00b",
    "%01",
    "%09",
    "%1f",
    "%7f",
    "%c2%80",
    "%c2%9f",
    "%ff",
    "%c3%28",
    "%c0%af",
    "%e0%80%af",
    "%ed%a0%80",
    "%f4%90%80%80",
    "%",
    "a%",
    "%4",
    "%zz",
    "%u0041",
];
const CONTROL_CHARACTERS: &[&str] =
    &["\u{0}", "a\u{0}b", "\u{1}", "\t", "\r\n", "\u{1f}", "\u{7f}", "\u{80}", "\u{9f}"];

#[tokio::test]
async fn invalid_text_in_a_query_parameter_is_rejected_with_its_name() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let mut tried = 0;
    for operation in operations(&routes::table()) {
        let body = operation.body.map(|_| json!({}));
        for (name, _) in parameters(operation) {
            for text in ENCODED {
                let path = format!("{}?{name}={text}", path_of(operation));
                let reply = send(&owner, &key, operation, &path, body.as_ref()).await;
                let code = if name == "cursor" { "invalid_cursor" } else { "invalid_parameter" };
                let problem = reply.problem(400, code);
                assert_eq!(problem["errors"][0]["parameter"], name, "{path}: {problem}");
                tried += 1;
            }
            let path = format!("{}?{name}={}", path_of(operation), "a".repeat(7_000));
            let reply = send(&owner, &key, operation, &path, body.as_ref()).await;
            assert!((400..500).contains(&reply.status), "{path}: {}", reply.json());
        }
    }
    assert!(tried > 1_000, "only {tried}");
}

#[tokio::test]
async fn invalid_names_of_query_parameters_are_unknown_parameters() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    for name in ENCODED {
        owner.get(&format!("/v1/projects?{name}=1")).await.problem(400, "unknown_parameter");
        owner.get(&format!("/v1/projects/{}?{name}", owner.project)).await.problem(400, "unknown_parameter");
    }
}

#[tokio::test]
async fn invalid_text_in_a_path_is_not_found() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    for operation in operations(&routes::table()).filter(|operation| operation.body.is_none()) {
        for place in operation.path.split('/').filter(|part| part.starts_with('{')) {
            for text in ENCODED {
                let template = path_of(operation);
                let at = operation.path.split('/').position(|part| part == place).unwrap();
                let path: Vec<&str> =
                    template.split('/').enumerate().map(|(n, part)| if n == at { *text } else { part }).collect();
                let path = path.join("/");
                let reply = send(&owner, &key, operation, &path, None).await;
                // With a session, this route requires the project first.
                let expected = if operation.path == "/v1/users/{user_id}" { 400 } else { 404 };
                assert_eq!(reply.status, expected, "{} {path}: {}", operation.method, reply.json());
            }
        }
    }
}

#[tokio::test]
async fn control_character_in_a_body_is_rejected_with_its_pointer() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let mut tried = 0;
    for operation in operations(&routes::table()) {
        let Some(members) = members(operation) else { continue };
        let mut path = path_of(operation);
        if parameters(operation).any(|(name, _)| name == "project_id") {
            path = format!("{path}?project_id={}", owner.project);
        }
        for name in members.keys() {
            let each = |value: fn(&str) -> Value| {
                CONTROL_CHARACTERS.iter().map(move |text| (value(text), vec![format!("#/{name}")]))
            };
            let items = |at: &str| (0..CONTROL_CHARACTERS.len()).map(|item| format!("#/{name}{at}/{item}")).collect();
            let mut shapes: Vec<(Value, Vec<String>)> = each(|text| json!(text)).collect();
            // `project_id` is read first and must be a string.
            if name != "project_id" {
                shapes.extend(each(|text| json!({ text: "a" })));
                shapes.push((json!(CONTROL_CHARACTERS), items("")));
                shapes.push((json!({ "a": CONTROL_CHARACTERS }), items("/a")));
            }
            for (value, pointers) in shapes {
                let mut body = json!({});
                if members.contains_key("project_id") {
                    body["project_id"] = json!(owner.project);
                }
                body[name] = value;
                let reply = send(&owner, &key, operation, &path, Some(&body)).await;
                let problem = reply.problem(422, "validation_failed");
                let errors = problem["errors"].as_array().unwrap();
                for pointer in pointers {
                    let is_told =
                        |error: &Value| error["pointer"] == pointer.as_str() && error["code"] == "invalid_characters";
                    assert!(errors.iter().any(is_told), "{} {path} {body}: {problem}", operation.method);
                    tried += 1;
                }
            }
        }
    }
    assert!(tried > 1_000, "only {tried}");
}

#[tokio::test]
async fn text_of_ten_thousand_characters_is_accepted_only_as_token_to_introspect() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    for operation in operations(&routes::table()) {
        let Some(members) = members(operation) else { continue };
        for name in members.keys() {
            let mut body = json!({ "project_id": owner.project });
            if !members.contains_key("project_id") {
                body = json!({});
            }
            body[name] = json!("x".repeat(10_000));
            let reply = send(&owner, &key, operation, &path_of(operation), Some(&body)).await;
            let is_taken = operation.path == "/v1/tokens/introspect" && name == "token";
            match is_taken {
                true => assert_eq!(reply.ok(), json!({ "active": false })),
                false => assert!((400..500).contains(&reply.status), "{} {name}: {}", operation.path, reply.json()),
            }
        }
    }
}
