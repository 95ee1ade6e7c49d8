//! The engine provisions what was requested and keeps it in that state, although calls fail, objects are changed
//! outside CloudAPI, and servers create objects twice.

mod drift;
mod operations;

use std::time::Duration;

use cloudapi::{
    resources::{
        cloud::CloudOptions,
        drivers::{
            config::{DriverSettings, ImportProjects, ProviderSettings},
            sim::SimSettings,
        },
        engine::timing::EngineTiming,
    },
    server::state::AppOptions,
};
use serde_json::{Value, json};

use crate::support::{
    Identity, Session, TestApp,
    cloud::{fast_timing, id_of, wait_until_succeeded},
    eventually,
};

/// Options that sweep providers continuously.
fn with_frequent_sweeps(settings: SimSettings) -> AppOptions {
    let provider = ProviderSettings {
        name: "sim".into(),
        import_projects: ImportProjects::None,
        driver: DriverSettings::Sim(settings),
    };
    let timing = EngineTiming { sweep_interval: Duration::from_millis(50), ..fast_timing() };
    AppOptions { cloud: CloudOptions { providers: vec![provider], timing }, ..AppOptions::default() }
}

fn without_latency() -> SimSettings {
    SimSettings { latency_min_ms: 0, latency_max_ms: 5, ..SimSettings::default() }
}

fn volume(project: &str, reconcile: &str) -> Value {
    json!({ "project_id": project, "kind": "storage.volume", "name": "data", "reconcile": reconcile,
            "spec": { "size_gib": 20 } })
}

fn instance(project: &str, reconcile: &str) -> Value {
    json!({ "project_id": project, "kind": "compute.instance", "name": "web", "reconcile": reconcile,
            "spec": { "size": "small", "image": "debian-12" } })
}

async fn make(owner: &Session<'_>, body: Value) -> Value {
    let submitted = owner.post("/v1/resources", body).await.accepted();
    wait_until_succeeded(owner, &submitted).await
}

async fn get(owner: &Session<'_>, resource: &Value) -> Value {
    owner.get(&format!("/v1/resources/{}", id_of(resource))).await.ok()
}

/// Waits until the resource satisfies `wanted`; returns the resource.
async fn wait_until(owner: &Session<'_>, resource: &Value, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    eventually(what, async || Some(get(owner, resource).await).filter(|resource| wanted(resource))).await
}

fn conditions(resource: &Value) -> Vec<&str> {
    resource["status"]["conditions"].as_array().unwrap().iter().map(|one| one["type"].as_str().unwrap()).collect()
}

/// The types and changes of the events about a resource, in order.
async fn recorded_events(owner: &Session<'_>, resource: &Value) -> Vec<(String, Value)> {
    let path = format!("/v1/events?limit=100&project_id={}", owner.project);
    let listed = owner.get(&path).await.ok();
    let about = |event: &&Value| event["subject"] == resource["id"];
    let events = listed["data"].as_array().unwrap().iter().filter(about);
    events.map(|event| (event["type"].as_str().unwrap().to_owned(), event["data"]["changes"].clone())).collect()
}

async fn recorded_event(owner: &Session<'_>, resource: &Value, event_type: &str) -> Value {
    eventually(event_type, async || {
        recorded_events(owner, resource)
            .await
            .into_iter()
            .rev()
            .find(|(name, _)| name == event_type)
            .map(|(_, changes)| changes)
    })
    .await
}

/// The references of existing objects.
async fn objects(app: &TestApp) -> Vec<String> {
    let sql = "SELECT reference FROM sim_objects WHERE gone_at IS NULL ORDER BY 1";
    sqlx::query_scalar(sql).fetch_all(&app.db).await.unwrap()
}
