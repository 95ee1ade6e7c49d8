//! The published description, and the command that prints it.

use std::{collections::BTreeSet, env, fs, path::Path};

use cloudapi::routes;
use serde_json::Value;

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
fn every_operation_has_an_id_of_its_own_a_summary_and_its_security() {
    let mut ids = BTreeSet::new();
    for (path, item) in routes::description()["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{method} {path}");
            assert!(operation["summary"].as_str().is_some_and(|summary| !summary.is_empty()), "{method} {path}");
            assert!(operation["security"].is_array(), "{method} {path}");
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
