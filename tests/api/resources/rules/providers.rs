//! Provider capabilities and spec schemas.

use cloudapi::resources::cloud::CloudOptions;
use serde_json::{Value, json};

use super::{instance, network, start, volume};
use crate::support::{
    Identity, TestApp,
    cloud::{fast_timing, sim},
};

#[tokio::test]
async fn providers_are_listed_with_capabilities() {
    let app =
        start(CloudOptions { providers: vec![sim("west", 0, 0), sim("east", 0, 0)], timing: fast_timing() }).await;
    let owner = app.owner().await;
    let key = owner.key_with(json!({ "scopes": ["network:read"] })).await;
    let names = async |query: &str| {
        let page = key.get(&format!("/v1/providers{query}")).await.ok();
        let names = page["data"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned());
        (names.collect::<Vec<_>>(), page["next_cursor"].as_str().map(str::to_owned))
    };
    assert_eq!(names("").await, (vec!["east".into(), "west".into()], None));
    assert_eq!(names("?limit=1").await, (vec!["east".into()], Some("east".into())));
    assert_eq!(names("?cursor=east").await, (vec!["west".into()], None));
    assert_eq!(names("?order=desc&limit=1").await, (vec!["west".into()], Some("west".into())));
    assert_eq!(names("?order=desc&cursor=west").await, (vec!["east".into()], None));
    let east = owner.get("/v1/providers/east").await.ok();
    assert_eq!((&east["driver"], &east["region"]), (&json!("sim"), &Value::Null));
    assert_eq!((&east["capabilities"]["simulated"], &east["capabilities"]["import"]), (&json!(true), &json!(true)));
    let kinds = east["capabilities"]["kinds"].as_array().unwrap();
    let volume = kinds.iter().find(|kind| kind["kind"] == "storage.volume").unwrap();
    assert_eq!((&volume["actions"], &volume["updatable"]), (&json!(["resize"]), &json!(["size_gib"])));
    for absent in ["north", "East", "%00", "sim;"] {
        key.get(&format!("/v1/providers/{absent}")).await.problem(404, "not_found");
    }
    owner
        .key_with(json!({ "scopes": ["usage:read"] }))
        .await
        .get("/v1/providers")
        .await
        .problem(403, "insufficient_scope");
}

#[tokio::test]
async fn schema_of_a_kind_validates_its_specs() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    for body in [network(), volume(20), instance(Some("res_1"), &["res_2"])] {
        let kind = body["kind"].as_str().unwrap();
        let schema = owner.get(&format!("/v1/schemas/{kind}")).await.ok();
        assert_eq!(schema["$id"], format!("https://api.example.com/v1/schemas/{kind}"));
        let validator = jsonschema::validator_for(&schema).unwrap();
        assert!(validator.is_valid(&body["spec"]), "{kind}");
        let mut wrong = body["spec"].clone();
        wrong["colour"] = json!("red");
        assert!(!validator.is_valid(&wrong), "{kind}");
    }
    let schema = owner.get("/v1/schemas/compute.instance").await.ok();
    assert!(schema["x-providers"]["sim"]["sizes"].as_array().unwrap().contains(&json!("small")));
    let problem = owner.get("/v1/schemas/storage.volum").await.problem(404, "not_found");
    assert!(problem["detail"].as_str().unwrap().contains("storage.volume"), "{problem}");
}
