//! Scopes by kind of resource.

use cloudapi::base::identity::role::Role;
use serde_json::{Value, json};

use super::{RESOURCES, instance, made, network, path, pipeline, volume};
use crate::support::{
    Identity, Reply, TestApp,
    cloud::{id_of, insert_network, network_in, wait_until_ended},
};

#[track_caller]
fn lacks(reply: Reply, scope: &str) {
    assert!(reply.header("www-authenticate").unwrap().contains(&format!("scope=\"{scope}\"")));
    let problem = reply.problem(403, "insufficient_scope");
    assert!(problem["detail"].as_str().unwrap().contains(&format!("'{scope}'")), "{problem}");
}

#[tokio::test]
async fn write_requires_the_scope_of_the_resources_kind() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let all = pipeline(&owner).await;
    let (network_id, volume_id) = (made(&all, network()).await, made(&all, volume(1)).await);
    let storage = owner.key_with(json!({ "scopes": ["storage:write"] })).await;
    lacks(storage.post(RESOURCES, network()).await, "network:write");
    lacks(storage.patch(&path(&network_id), json!({ "name": "n" })).await, "network:write");
    lacks(storage.delete(&path(&network_id)).await, "network:write");
    lacks(
        storage.post(&format!("{}/actions", path(&network_id)), json!({ "action": "reboot" })).await,
        "network:write",
    );
    lacks(storage.post_empty(&format!("{}/sync", path(&network_id))).await, "network:write");
    let body = json!({ "kind": "network.network", "provider": "sim", "provider_ref": "net-1", "name": "n" });
    lacks(storage.post(&format!("{RESOURCES}/import"), body).await, "network:write");
    storage.post(RESOURCES, volume(1)).await.accepted();
    storage.patch(&path(&volume_id), json!({ "protection": true })).await.accepted();
    // A caller without any of the scopes gets the list of sufficient ones.
    let none = owner.key_with(json!({ "scopes": ["usage:read"] })).await;
    let problem = none.post(RESOURCES, network()).await.problem(403, "insufficient_scope");
    assert!(problem["detail"].as_str().unwrap().contains("'compute:write', 'storage:write', 'network:write'"));
}

#[tokio::test]
async fn lists_and_operations_show_only_kinds_that_the_caller_can_read() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let all = pipeline(&owner).await;
    made(&all, network()).await;
    let submitted = all.post(RESOURCES, volume(1)).await.accepted();
    wait_until_ended(&all, &submitted).await;
    let network_only = owner.key_with(json!({ "scopes": ["network:read"] })).await;
    let kinds = |page: Value| -> Vec<String> {
        page["data"].as_array().unwrap().iter().map(|item| item["kind"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(kinds(network_only.get(RESOURCES).await.ok()), ["network.network"]);
    assert_eq!(kinds(all.get(RESOURCES).await.ok()), ["network.network", "storage.volume"]);
    lacks(network_only.get(&format!("{RESOURCES}?kind=storage.volume")).await, "storage:read");
    lacks(network_only.get(&path(&id_of(&submitted["resource"]))).await, "storage:read");
    let operation = format!("/v1/operations/{}", id_of(&submitted["operation"]));
    lacks(network_only.get(&operation).await, "storage:read");
    lacks(network_only.get(&format!("{operation}?wait=30")).await, "storage:read");
    let operations = network_only.get("/v1/operations").await.ok();
    assert_eq!(operations["data"].as_array().unwrap().len(), 1);
    let reader = owner.key_with(json!({ "scopes": ["storage:write", "network:write"] })).await;
    lacks(
        owner.key_with(json!({ "scopes": ["network:write"] })).await.post_empty(&format!("{operation}/cancel")).await,
        "storage:write",
    );
    reader.get("/v1/operations").await.problem(403, "insufficient_scope");
}

#[tokio::test]
async fn reference_requires_the_read_scope_of_its_target() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let all = pipeline(&owner).await;
    let (network, volume) = (made(&all, network()).await, made(&all, volume(1)).await);
    let compute = owner.key_with(json!({ "scopes": ["compute:write", "compute:read"] })).await;
    lacks(compute.post(RESOURCES, instance(Some(&network), &[])).await, "network:read");
    lacks(compute.post(RESOURCES, instance(None, &[&volume])).await, "storage:read");
    made(&compute, instance(None, &[])).await;
}

#[tokio::test]
async fn viewers_can_read_and_members_can_create_resources() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let (viewer, member) = (app.member(&owner, Role::Viewer).await, app.member(&owner, Role::Member).await);
    let id = insert_network(&member).await;
    viewer.get(&path(&id)).await.ok();
    viewer.post(RESOURCES, network_in(&owner.project)).await.problem(403, "insufficient_scope");
    viewer.delete(&path(&id)).await.problem(403, "insufficient_scope");
    // A key's default scopes are read-only.
    let key = owner.key().await;
    key.get(&path(&id)).await.ok();
    key.delete(&path(&id)).await.problem(403, "insufficient_scope");
}
