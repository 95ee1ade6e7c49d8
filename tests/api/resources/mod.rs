//! Cloud resources at a simulated provider: requests, errors and results.

mod lists;
mod rules;
mod writes;

use cloudapi::{resources::cloud::CloudOptions, server::state::AppOptions};
use serde_json::{Value, json};

use crate::support::{
    Identity, Key, Reply, Session, TestApp,
    cloud::{id_of, network_in, wait_until_succeeded},
};

const RESOURCES: &str = "/v1/resources";
const ALL_SCOPES: [&str; 6] =
    ["compute:read", "compute:write", "storage:read", "storage:write", "network:read", "network:write"];

/// A server with these providers.
async fn start(cloud: CloudOptions) -> TestApp {
    TestApp::start_with(AppOptions { cloud, ..AppOptions::default() }).await
}

fn path(resource: &str) -> String {
    format!("{RESOURCES}/{resource}")
}

/// A pipeline's key, with scopes for resources only.
async fn pipeline<'a>(owner: &Session<'a>) -> Key<'a> {
    owner.key_with(json!({ "scopes": ALL_SCOPES })).await
}

fn network() -> Value {
    let mut body = network_in("");
    body.as_object_mut().unwrap().remove("project_id");
    body
}

fn volume(size_gib: u32) -> Value {
    json!({ "kind": "storage.volume", "name": "data", "spec": { "size_gib": size_gib } })
}

fn instance(network: Option<&str>, volumes: &[&str]) -> Value {
    let mut spec = json!({ "size": "small", "image": "debian-12", "volumes": volumes });
    if let Some(network) = network {
        spec["network"] = json!(network);
    }
    json!({ "kind": "compute.instance", "name": "web", "spec": spec })
}

/// Creates a resource, waits until it is provisioned, and returns it.
async fn make(who: &impl Identity, body: Value) -> Value {
    let submitted = who.post(RESOURCES, body).await.accepted();
    wait_until_succeeded(who, &submitted).await
}

/// Like [`make`], but returns the ID.
async fn made(who: &impl Identity, body: Value) -> String {
    id_of(&make(who, body).await)
}

/// Pointers and codes of the `errors` of a 422.
#[track_caller]
fn faults(reply: Reply, code: &str) -> Vec<(String, String)> {
    let problem = reply.problem(422, code);
    let text = |item: &Value, name: &str| item[name].as_str().unwrap().to_owned();
    problem["errors"].as_array().unwrap().iter().map(|item| (text(item, "pointer"), text(item, "code"))).collect()
}

/// The `detail` of a 409.
#[track_caller]
fn conflict(reply: Reply, code: &str) -> String {
    reply.problem(409, code)["detail"].as_str().unwrap().to_owned()
}
