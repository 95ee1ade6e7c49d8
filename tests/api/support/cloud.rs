//! Resources for tests, at a simulated provider that is fast or makes no progress.

use std::time::Duration;

use cloudapi::{
    base::id::{OperationId, ProjectId, ResourceId},
    resources::{
        cloud::CloudOptions,
        drivers::{
            config::{DriverSettings, ImportProjects, ProviderSettings},
            sim::SimSettings,
        },
        engine::timing::EngineTiming,
        kinds::Kind,
    },
};
use serde_json::{Value, json};

use super::{Identity, Session, TestApp, eventually};

/// A provider with this latency, from whose account every project may import.
pub fn sim(name: &str, latency_min_ms: u64, latency_max_ms: u64) -> ProviderSettings {
    let settings = SimSettings { latency_min_ms, latency_max_ms, ..SimSettings::default() };
    ProviderSettings { name: name.into(), import_projects: ImportProjects::All, driver: DriverSettings::Sim(settings) }
}

/// The default timing with shorter intervals.
pub fn fast_timing() -> EngineTiming {
    EngineTiming {
        reread_interval: Duration::from_millis(10),
        initial_backoff: Duration::from_millis(10),
        max_backoff: Duration::from_millis(100),
        expiry_interval: Duration::from_millis(200),
        ..EngineTiming::default()
    }
}

/// A provider that executes calls immediately.
pub fn fast_provider() -> CloudOptions {
    CloudOptions { providers: vec![sim("sim", 0, 5)], timing: fast_timing() }
}

/// A provider that finishes calls long after the test: operations stay in progress.
pub fn stalled_provider() -> CloudOptions {
    CloudOptions { providers: vec![sim("sim", 3_600_000, 3_600_000)], timing: fast_timing() }
}

/// The request body for a new network in this project.
pub fn network_in(project: &str) -> Value {
    json!({ "project_id": project, "kind": "network.network", "name": "net", "spec": { "cidr": "10.0.0.0/16" } })
}

/// The ID of an object in a response.
pub fn id_of(object: &Value) -> String {
    object["id"].as_str().unwrap_or_else(|| panic!("no ID in {object}")).to_owned()
}

/// Waits until the operation in `accepted` has ended. Returns it.
pub async fn wait_until_ended(who: &impl Identity, accepted: &Value) -> Value {
    let path = format!("/v1/operations/{}?wait=20", id_of(&accepted["operation"]));
    let operation = who.get(&path).await.ok();
    assert!(!operation["finished_at"].is_null(), "timed out waiting for {operation}");
    operation
}

/// Waits until the operation in `accepted` has succeeded. Returns its resource.
pub async fn wait_until_succeeded(who: &impl Identity, accepted: &Value) -> Value {
    let operation = wait_until_ended(who, accepted).await;
    assert_eq!(operation["status"], "succeeded", "{operation}");
    who.get(&format!("/v1/resources/{}", operation["resource_id"].as_str().unwrap())).await.ok()
}

/// The same at a stuck provider, which finishes its calls this time.
pub async fn finish_and_wait(who: &impl Identity, accepted: &Value) -> Value {
    let path = format!("/v1/operations/{}", id_of(&accepted["operation"]));
    eventually("the operation has ended", async || {
        sqlx::query("UPDATE sim_objects SET ready_at = now()").execute(&who.app().db).await.unwrap();
        (!who.get(&path).await.ok()["finished_at"].is_null()).then_some(())
    })
    .await;
    wait_until_succeeded(who, accepted).await
}

/// Inserts an active network of the user's project. Returns its ID.
pub async fn insert_network(owner: &Session<'_>) -> String {
    insert_resource(owner, Kind::Network, json!({ "cidr": "10.0.0.0/16" })).await
}

/// Inserts an active volume of the user's project. Returns its ID.
pub async fn insert_volume(owner: &Session<'_>) -> String {
    insert_resource(owner, Kind::Volume, json!({ "size_gib": 20 })).await
}

/// For tests that need many resources: inserted directly into the database, together with the provider's object.
async fn insert_resource(owner: &Session<'_>, kind: Kind, spec: Value) -> String {
    let id = ResourceId::new();
    sqlx::query(
        "WITH object AS (
             INSERT INTO sim_objects (provider, reference, kind, deployment, resource_id, name, spec, ready_at)
             SELECT 'sim', 'quiet-' || $1, $3, id, $1, 'quiet', $4, now() FROM deployment),
         counted AS (
             INSERT INTO resource_counts AS c VALUES ($2, $3, 1) ON CONFLICT (project_id, kind) DO UPDATE SET count = c.count + 1)
         INSERT INTO resources (id, project_id, kind, provider, name, labels, spec, observed_generation, phase, provider_ref,
                                protection, reconcile, created_at)
         VALUES ($1, $2, $3, 'sim', 'quiet', '{}', $4, 1, 'active', 'quiet-' || $1, false, 'observe', now())",
    )
    .bind(id)
    .bind(owner.project.parse::<ProjectId>().unwrap())
    .bind(kind)
    .bind(spec)
    .execute(&owner.app.db)
    .await
    .unwrap();
    id.to_string()
}

/// Inserts a running operation on a resource, which no server continues before tomorrow. Returns its ID.
pub async fn insert_operation(app: &TestApp, resource: &str) -> String {
    let (id, resource) = (OperationId::new(), resource.parse::<ResourceId>());
    sqlx::query(
        "INSERT INTO operations (id, project_id, resource_id, type, status, step, before, created_at, started_at, deadline, due_at)
         SELECT $1, project_id, id, 'sync', 'running', 'reading', '{\"phase\":\"active\"}', now(), now(), now() + interval '2 days',
                now() + interval '1 day' FROM resources WHERE id = $2",
    )
    .bind(id)
    .bind(resource.unwrap())
    .execute(&app.db)
    .await
    .unwrap();
    id.to_string()
}
