//! Creating and listing resources.

use std::time::Duration;

use serde_json::{Value, json};

use super::{RESOURCES, conflict, faults, instance, made, make, network, path, pipeline, start, volume};
use crate::support::{
    Identity, TestApp,
    cloud::{fast_provider, fast_timing, id_of, network_in, sim, stalled_provider, wait_until_succeeded},
    eventually,
};
use cloudapi::resources::cloud::CloudOptions;

#[tokio::test]
async fn create_responds_immediately_and_the_resource_is_provisioned() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = pipeline(&owner).await;
    let mut body = volume(20);
    body["labels"] = json!({ "env": "ci-4711" });
    let reply = key.post(RESOURCES, body).await;
    let location = reply.header("location").unwrap().to_owned();
    let submitted = reply.accepted();
    let resource = submitted["resource"].clone();
    assert_eq!(location, format!("/v1/operations/{}", id_of(&submitted["operation"])));
    assert!(submitted["request_id"].as_str().unwrap().starts_with("req_"));
    assert_eq!(
        (&submitted["operation"]["type"], &submitted["operation"]["status"]),
        (&json!("create"), &json!("queued"))
    );
    assert_eq!((&resource["generation"], &resource["observed_generation"]), (&json!(1), &json!(0)));
    assert_eq!((&resource["status"]["phase"], &resource["provider"]), (&json!("pending"), &json!("sim")));
    assert_eq!((&resource["protection"], &resource["reconcile"]), (&json!(false), &json!("observe")));

    let ended = key.get(&format!("{location}?wait=20")).await.ok();
    assert_eq!(
        (&ended["status"], &ended["progress"], &ended["error"]),
        (&json!("succeeded"), &json!(100), &Value::Null)
    );
    let got = key.get(&path(&id_of(&resource))).await;
    let etag = got.header("etag").unwrap().to_owned();
    let there = got.ok();
    assert_eq!(there["etag"], etag);
    assert_ne!(there["etag"], resource["etag"]);
    assert_eq!((&there["status"]["phase"], &there["observed_generation"]), (&json!("active"), &json!(1)));
    assert_eq!(there["status"]["outputs"]["simulated"], true);
    assert!(there["status"]["provider_ref"].is_string() && there["status"]["last_synced_at"].is_string());
    assert_eq!((&there["spec"], &there["labels"]), (&json!({ "size_gib": 20 }), &json!({ "env": "ci-4711" })));
}

#[tokio::test]
async fn resource_can_reference_resources_that_are_still_being_created() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = pipeline(&owner).await;
    let network = key.post(RESOURCES, network()).await.accepted();
    let volume = key.post(RESOURCES, volume(20)).await.accepted();
    let (network, volume) = (id_of(&network["resource"]), id_of(&volume["resource"]));
    let instance = make(&key, instance(Some(&network), &[&volume])).await;
    assert_eq!((&instance["status"]["phase"], &instance["status"]["power"]), (&json!("active"), &json!("on")));
    assert_eq!((&instance["spec"]["network"], &instance["spec"]["volumes"]), (&json!(network), &json!([volume])));
    assert!(instance["status"]["outputs"]["private_ip"].as_str().unwrap().starts_with("10.0."), "{instance}");
    // In a spec too, null means the same as an absent member.
    let alone = json!({ "kind": "compute.instance", "name": "b", "spec": { "size": "small", "image": "debian-12", "network": null } });
    assert_eq!(key.post(RESOURCES, alone).await.accepted()["resource"]["spec"]["network"], Value::Null);
}

#[tokio::test]
async fn validation_errors_have_a_pointer() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = pipeline(&owner).await;
    let reported = async |body: Value| faults(key.post(RESOURCES, body).await, "validation_failed");
    let at = |pointer: &str, code: &str| vec![(pointer.to_owned(), code.to_owned())];
    let with = |name: &str, value: Value| {
        let mut body = volume(20);
        body[name] = value;
        body
    };
    assert_eq!(reported(with("kind", json!("storage.volum"))).await, at("#/kind", "unknown_value"));
    assert_eq!(reported(with("name", json!("Data"))).await, at("#/name", "invalid_format"));
    assert_eq!(reported(with("ttl_seconds", json!(59))).await, at("#/ttl_seconds", "out_of_range"));
    assert_eq!(reported(with("provider", json!("aws"))).await, at("#/provider", "unknown_value"));
    assert_eq!(reported(with("labels", json!({ "A": "b" }))).await, at("#/labels", "invalid_format"));
    assert_eq!(reported(with("spec", json!({}))).await, at("#/spec/size_gib", "required"));
    assert_eq!(reported(with("spec", json!({ "size_gib": 0 }))).await, at("#/spec/size_gib", "out_of_range"));
    assert_eq!(reported(with("spec", json!({ "size_gib": 1, "size": "s" }))).await, at("#/spec/size", "unknown_field"));
    assert_eq!(reported(with("colour", json!("red"))).await, at("#/colour", "unknown_field"));
    for cidr in ["10.0.0.0/8", "10.0.0.0/29", "8.8.0.0/16", "fd00::/24", "10.0.0.1/16"] {
        let body = json!({ "kind": "network.network", "name": "n", "spec": { "cidr": cidr } });
        assert_eq!(reported(body).await, at("#/spec/cidr", "invalid_format"), "{cidr}");
    }
    let many: Vec<String> = (1..=17).map(|n| format!("res_{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(reported(instance(None, &many)).await, at("#/spec/volumes", "too_long"));
    owner.post(RESOURCES, volume(1)).await.problem(400, "project_required");
}

#[tokio::test]
async fn unsupported_value_error_lists_the_supported_values() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = pipeline(&owner).await;
    let body = json!({ "kind": "compute.instance", "name": "n", "spec": { "size": "huge", "image": "beos" } });
    let reply = key.post(RESOURCES, body).await;
    assert!(reply["errors"][0]["detail"].as_str().unwrap().contains("small, medium, large"), "{}", reply.json());
    let reported = faults(reply, "unsupported_capability");
    let unsupported = |pointer: &str| (pointer.to_owned(), "unsupported".to_owned());
    assert_eq!(reported, [unsupported("#/spec/size"), unsupported("#/spec/image")]);
}

#[tokio::test]
async fn provider_is_required_only_if_there_are_several() {
    let app =
        start(CloudOptions { providers: vec![sim("east", 0, 5), sim("west", 0, 5)], timing: fast_timing() }).await;
    let owner = app.owner().await;
    let key = pipeline(&owner).await;
    let reply = key.post(RESOURCES, volume(1)).await;
    assert!(reply["errors"][0]["detail"].as_str().unwrap().contains("east, west"));
    assert_eq!(faults(reply, "validation_failed"), [("#/provider".to_owned(), "required".to_owned())]);
    let mut body = volume(1);
    body["provider"] = json!("west");
    assert_eq!(make(&key, body).await["provider"], "west");
    let listed = key.get(&format!("{RESOURCES}?provider=west")).await.ok();
    assert_eq!(listed["data"].as_array().unwrap().len(), 1);
    assert_eq!(key.get(&format!("{RESOURCES}?provider=east")).await.ok()["data"], json!([]));
}

#[tokio::test]
async fn list_can_be_filtered_by_kind_phase_and_labels() {
    let app = start(stalled_provider()).await;
    let owner = app.owner().await;
    let key = pipeline(&owner).await;
    let mut ids = Vec::new();
    for (labels, body) in [
        (json!({ "env": "ci", "team": "core" }), volume(1)),
        (json!({ "env": "prod" }), volume(2)),
        (json!({ "env": "ci" }), network()),
    ] {
        let mut body = body;
        body["labels"] = labels;
        ids.push(id_of(&key.post(RESOURCES, body).await.accepted()["resource"]));
    }
    let listed = async |query: &str| -> Vec<usize> {
        let page = key.get(&format!("{RESOURCES}?{query}")).await.ok();
        let place = |item: &Value| ids.iter().position(|id| item["id"] == *id).unwrap();
        page["data"].as_array().unwrap().iter().map(place).collect()
    };
    assert_eq!(listed("limit=100").await, [0, 1, 2]);
    assert_eq!(listed("kind=storage.volume").await, [0, 1]);
    assert_eq!(listed("label=env=ci").await, [0, 2]);
    assert_eq!(listed("label=env").await, [0, 1, 2]);
    assert_eq!(listed("label=env%3Dci,team").await, [0]);
    assert_eq!(listed("label=env=ci&kind=network.network").await, [2]);
    assert_eq!(listed("phase=deleted").await, [0usize; 0]);
    assert_eq!(listed("phase=active").await, [0usize; 0]);
    assert_eq!(listed("order=desc&limit=2").await, [2, 1]);
    let cursor = key.get(&format!("{RESOURCES}?limit=1")).await.ok()["next_cursor"].as_str().unwrap().to_owned();
    assert_eq!(listed(&format!("cursor={cursor}")).await, [1, 2]);
    for wrong in ["kind=volume", "phase=gone", "label=A", "label=", "limit=0", "dry_run=true"] {
        assert_eq!(key.get(&format!("{RESOURCES}?{wrong}")).await.status, 400, "{wrong}");
    }
}

#[tokio::test]
async fn resource_is_deleted_when_its_ttl_expires() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = pipeline(&owner).await;
    let network_id = made(&key, network()).await;
    let with_life = |mut body: Value| {
        body["ttl_seconds"] = json!(60);
        body
    };
    let instance = make(&key, with_life(instance(Some(&network_id), &[]))).await;
    assert!(instance["expires_at"].is_string());
    let kept = make(&key, with_life(volume(1))).await;
    let forever = key.patch(&path(&id_of(&kept)), json!({ "ttl_seconds": 0 })).await.accepted();
    assert_eq!(forever["resource"]["expires_at"], Value::Null);
    app.clock.advance(Duration::from_secs(61));
    let phase = async |id: &str| owner.get(&path(id)).await.json()["status"]["phase"].clone();
    // By the advanced clock, the session has been idle for a moment, but it is still valid.
    eventually("the resource to be deleted", async || (phase(&id_of(&instance)).await == "deleted").then_some(()))
        .await;
    assert_eq!(phase(&id_of(&kept)).await, "active");
    assert_eq!(phase(&network_id).await, "active");
}

#[tokio::test]
async fn session_names_the_project_and_an_inactive_project_allows_only_deletions() {
    let app = start(fast_provider()).await;
    let owner = app.owner().await;
    let made = owner.post(RESOURCES, network_in(&owner.project)).await.accepted();
    wait_until_succeeded(&owner, &made).await;
    let listed = owner.get(&format!("{RESOURCES}?project_id={}", owner.project)).await.ok();
    assert_eq!(listed["data"].as_array().unwrap().len(), 1);
    owner.post_empty(&format!("/v1/projects/{}/suspend", owner.project)).await.ok();
    conflict(owner.post(RESOURCES, network_in(&owner.project)).await, "project_not_active");
    let id = id_of(&made["resource"]);
    conflict(owner.patch(&path(&id), json!({ "name": "n" })).await, "project_not_active");
    conflict(owner.post_empty(&format!("{}/sync", path(&id))).await, "project_not_active");
    // Existing resources can still be deleted.
    let gone = owner.delete(&path(&id)).await.accepted();
    assert_eq!(wait_until_succeeded(&owner, &gone).await["status"]["phase"], "deleted");
}
