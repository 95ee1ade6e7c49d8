//! Errors about the format of a text show how to write it, never a regular expression.

use cloudapi::server::routes;
use serde_json::{Value, json};

use super::{members, operations, parameters, path_of, send};
use crate::support::{Identity, TestApp, document};

/// Syntax that occurs only in regular expressions.
const REGEX: &[&str] =
    &["^", "$", "\\d", "\\w", "\\s", "[0-9]", "[a-z", "[A-Z", "[1-9", "(?", ")*", "]*", "]+", "{0,", "{1,"];

#[track_caller]
fn is_plain(problem: &Value, sent: &str) {
    let errors = problem["errors"].as_array().into_iter().flatten();
    for detail in errors.map(|error| &error["detail"]).chain([&problem["detail"]]) {
        let detail = detail.as_str().unwrap();
        for syntax in REGEX {
            assert!(!detail.contains(syntax), "{sent}: {detail}");
        }
    }
}

/// Every schema inside `schema`, each with a value that has `text` only at the place of that schema.
fn placed(schema: &'static Value, text: &str, depth: u8) -> Vec<(&'static Value, Value)> {
    let schema = document::resolve(schema);
    let mut found = vec![(schema, json!(text))];
    if depth == 0 {
        return found;
    }
    for (name, member) in schema["properties"].as_object().into_iter().flatten() {
        found.extend(placed(member, text, depth - 1).into_iter().map(|(of, value)| (of, json!({ name: value }))));
    }
    if schema["items"].is_object() {
        found.extend(placed(&schema["items"], text, depth - 1).into_iter().map(|(of, value)| (of, json!([value]))));
    }
    if schema["additionalProperties"].is_object() {
        let values = placed(&schema["additionalProperties"], text, depth - 1);
        found.extend(values.into_iter().map(|(of, value)| (of, json!({ "a": value }))));
    }
    if schema["propertyNames"].is_object() {
        found.push((&schema["propertyNames"], json!({ text: "a" })));
    }
    for alternative in schema["anyOf"].as_array().into_iter().flatten() {
        found.extend(placed(alternative, text, depth - 1).into_iter().skip(1));
    }
    found
}

#[test]
fn every_published_input_pattern_has_a_form_or_an_example() {
    for operation in operations(&routes::table()) {
        let members = members(operation).into_iter().flat_map(serde_json::Map::values);
        let parameters = parameters(operation).map(|(_, schema)| schema);
        for schema in members.chain(parameters).flat_map(|schema| placed(schema, "", 4)).map(|(schema, _)| schema) {
            let Some(pattern) = schema["pattern"].as_str() else { continue };
            let is_about_control_characters = pattern.contains("\\u0000");
            let is_explained = schema["x-form"].is_string() || schema["examples"][0].is_string();
            assert!(is_about_control_characters || is_explained, "{} {schema}", operation.path);
        }
    }
}

#[tokio::test]
async fn errors_about_body_fields_show_no_regular_expression() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let mut patterns = 0;
    for operation in operations(&routes::table()) {
        let Some(members) = members(operation) else { continue };
        let mut path = path_of(operation);
        if parameters(operation).any(|(name, _)| name == "project_id") {
            path = format!("{path}?project_id={}", owner.project);
        }
        for (name, schema) in members {
            for text in ["", "_", "É!", "a b", "-", "x=="] {
                for (schema, value) in placed(schema, text, 4) {
                    let mut body = json!({});
                    if members.contains_key("project_id") && name != "project_id" {
                        body["project_id"] = json!(owner.project);
                    }
                    body[name] = value;
                    let reply = send(&owner, &key, operation, &path, Some(&body)).await;
                    if reply.status >= 400 {
                        is_plain(reply.json(), &format!("{} {path} {body}", operation.method));
                    }
                    patterns += usize::from(schema["pattern"].is_string());
                }
            }
        }
    }
    assert!(patterns > 50, "only {patterns}");
    let kinds = ["network.network", "storage.volume", "compute.instance"];
    for kind in kinds {
        let spec = json!({ "cidr": "x", "size_gib": "x", "size": "!", "image": "!", "network": "x", "volumes": ["x"] });
        let body = json!({ "project_id": owner.project, "kind": kind, "name": "N", "spec": spec });
        is_plain(&owner.post("/v1/resources", body).await.problem(422, "validation_failed"), kind);
    }
}

#[tokio::test]
async fn errors_about_query_parameters_and_headers_show_no_regular_expression() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    for operation in operations(&routes::table()) {
        let body = operation.body.map(|_| json!({}));
        for (name, _) in parameters(operation) {
            for text in ["", "_", "%C3%89!", "a+b", "-", "x==", "Nov"] {
                let path = format!("{}?{name}={text}", path_of(operation));
                let reply = send(&owner, &key, operation, &path, body.as_ref()).await;
                if reply.status >= 400 {
                    is_plain(reply.json(), &path);
                }
            }
        }
        let headers = document::parameters(document::described(operation));
        for header in headers.filter(|parameter| parameter["in"] == "header") {
            let request = owner.request(operation.method.as_str(), &path_of(operation));
            let reply = request.header(header["name"].as_str().unwrap(), "a b").json(&json!({})).send().await;
            if reply.status >= 400 {
                is_plain(reply.json(), operation.path);
            }
        }
    }
}
