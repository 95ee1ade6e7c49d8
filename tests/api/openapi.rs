//! The published description, and the command that prints it.

use std::{collections::BTreeSet, env, fs, path::Path};

use cloudapi::routes;
use serde_json::{Value, json};

use crate::support::{Identity, TestApp, binary::Deployment};

fn committed() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api/openapi.json")
}

#[test]
fn the_committed_description_is_the_one_that_is_served() {
    let served = serde_json::to_string_pretty(routes::description()).unwrap() + "\n";
    if env::var_os("UPDATE_OPENAPI").is_some() {
        fs::write(committed(), &served).unwrap();
    }
    assert!(
        fs::read_to_string(committed()).unwrap_or_default() == served,
        "the description has changed; if that is meant, run: UPDATE_OPENAPI=1 cargo test --test api committed_description"
    );
}

#[tokio::test]
async fn the_server_and_the_command_give_the_same_description() {
    let app = TestApp::start().await;
    let served = app.nobody().get("/openapi.json").await.ok();
    assert_eq!(&served, routes::description());
    let printed: Value = serde_json::from_str(&Deployment::new().printed(&["openapi"])).unwrap();
    assert_eq!(printed, served);
}

#[test]
fn every_operation_has_an_id_of_its_own_a_summary_its_security_and_request_ids() {
    let mut ids = BTreeSet::new();
    for (path, item) in routes::description()["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{method} {path}");
            assert!(operation["summary"].as_str().is_some_and(|summary| !summary.is_empty()), "{method} {path}");
            assert!(operation["security"].is_array(), "{method} {path}");
            for (status, response) in operation["responses"].as_object().unwrap() {
                assert!(response["headers"]["X-Request-Id"].is_object(), "{method} {path} {status}");
            }
        }
    }
}

#[test]
fn every_tag_is_described_and_every_answer_too() {
    let tags = routes::description()["tags"].as_array().unwrap();
    assert!(tags.iter().all(|tag| tag["description"].as_str().is_some_and(|text| !text.is_empty())), "{tags:#?}");
    for (path, item) in routes::description()["paths"].as_object().unwrap() {
        for response in
            item.as_object().unwrap().values().flat_map(|operation| operation["responses"].as_object().unwrap())
        {
            assert!(response.1["description"].as_str().is_some_and(|text| !text.is_empty()), "{path} {}", response.0);
        }
    }
}

#[test]
fn no_parameter_can_be_null() {
    for (path, item) in routes::description()["paths"].as_object().unwrap() {
        for operation in item.as_object().unwrap().values() {
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                assert!(!parameter["schema"].to_string().contains("null"), "{path}: {parameter}");
            }
        }
    }
}

#[test]
fn every_body_is_described_by_a_schema_object_because_generators_of_clients_choke_on_true() {
    fn contents<'a>(value: &'a Value, path: &str, found: &mut Vec<(String, &'a Value)>) {
        for (name, value) in value.as_object().into_iter().flatten() {
            let path = format!("{path}/{name}");
            match value.get("schema") {
                Some(schema) if path.contains("/content/") => found.push((path, schema)),
                _ => contents(value, &path, found),
            }
        }
    }
    let mut found = Vec::new();
    contents(&routes::description()["paths"], "", &mut found);
    assert!(found.len() > 20);
    for (path, schema) in found {
        assert!(schema.is_object(), "{path} has the schema {schema}");
    }
}

#[test]
fn a_cursor_is_described_as_the_id_of_what_the_list_holds() {
    for (path, prefix) in
        [("keys", "key"), ("projects", "proj"), ("sessions", "sess"), ("tokens", "tok"), ("users", "usr")]
    {
        let operation = &routes::description()["paths"][format!("/v1/{path}")]["get"];
        let parameters = operation["parameters"].as_array().unwrap();
        let cursor = parameters.iter().find(|parameter| parameter["name"] == "cursor").unwrap();
        let answer = operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].as_str().unwrap();
        let list = routes::description().pointer(answer.strip_prefix('#').unwrap()).unwrap();
        for schema in [&cursor["schema"], &list["properties"]["next_cursor"]] {
            assert_eq!(schema["pattern"], format!("^{prefix}_[1-9a-f][0-9a-f]{{0,31}}$"), "{path}: {schema}");
        }
    }
}

#[test]
fn what_a_request_needs_is_described_as_required_and_what_is_left_out_has_a_default() {
    let schemas = &routes::description()["components"]["schemas"];
    // Only a session makes keys, and a session names the project.
    assert_eq!(schemas["NewKey"]["required"], json!(["project_id"]));
    let parameters = routes::description()["paths"]["/v1/users"]["get"]["parameters"].as_array().unwrap();
    for (name, default) in [("limit", json!(25)), ("order", json!("asc"))] {
        let parameter = parameters.iter().find(|parameter| parameter["name"] == name).unwrap();
        assert_eq!(parameter["schema"]["default"], default, "{name}");
    }
    let project = parameters.iter().find(|parameter| parameter["name"] == "project_id").unwrap();
    assert_eq!(project["schema"]["examples"], json!(["proj_8f2c4"]));
}

#[test]
fn no_query_parameter_is_described_as_null() {
    for (path, item) in routes::description()["paths"].as_object().unwrap() {
        for parameter in item["get"]["parameters"].as_array().into_iter().flatten() {
            assert!(!parameter["schema"].to_string().contains("null"), "{path}: {parameter}");
        }
    }
}

#[test]
fn the_codes_of_errors_are_described_one_by_one() {
    let description = routes::description();
    let all = description["components"]["schemas"]["ProblemCode"]["enum"].as_array().unwrap();
    assert!(all.contains(&json!("validation_failed")));
    let refused =
        &description["paths"]["/v1/tokens"]["post"]["responses"]["422"]["content"]["application/problem+json"];
    assert_eq!(
        refused["schema"]["allOf"][1]["properties"]["code"]["enum"],
        json!(["validation_failed", "idempotency_key_reused"])
    );
}

#[test]
fn every_schema_that_is_referred_to_is_there() {
    fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
        match value {
            Value::Object(members) => members.iter().for_each(|(name, value)| match value {
                Value::String(reference) if name == "$ref" => drop(found.insert(reference)),
                _ => references(value, found),
            }),
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }
    let mut found = BTreeSet::new();
    references(routes::description(), &mut found);
    assert!(!found.is_empty());
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(routes::description().pointer(pointer).is_some(), "{reference}");
    }
}

#[test]
fn every_note_is_about_an_operation() {
    let operations = routes::description()["paths"].as_object().unwrap().values();
    let ids: BTreeSet<&str> = operations
        .flat_map(|item| item.as_object().unwrap().values())
        .map(|operation| operation["operationId"].as_str().unwrap())
        .collect();
    for (id, _) in cloudapi::openapi::notes::NOTES {
        assert!(ids.contains(id), "{id} is none of {ids:?}");
    }
}
