//! Resources for tests, at a simulated provider that is quick, or that does not get on at all.

use std::time::Duration;

use cloudapi::{
    base::id::{OperationId, ProjectId, ResourceId},
    resources::{
        cloud::CloudOptions,
        config::{DriverSettings, ImportProjects, ProviderSettings},
        drivers::sim::SimSettings,
        kind::Kind,
        pace::Pace,
    },
};
use serde_json::{Value, json};

use super::{Identity, Session, TestApp, eventually};

/// A provider that takes between so many milliseconds, and from whose account every project may import.
pub fn sim(name: &str, latency_min_ms: u64, latency_max_ms: u64) -> ProviderSettings {
    let settings = SimSettings { latency_min_ms, latency_max_ms, ..SimSettings::default() };
    ProviderSettings { name: name.into(), import_projects: ImportProjects::All, driver: DriverSettings::Sim(settings) }
}

/// As the product has it, but soon.
pub fn soon() -> Pace {
    Pace {
        look_again: Duration::from_millis(10),
        first_pause: Duration::from_millis(10),
        longest_pause: Duration::from_millis(100),
        expiry: Duration::from_millis(200),
        ..Pace::default()
    }
}

/// A provider that does at once what it is asked for.
pub fn quick() -> CloudOptions {
    CloudOptions { providers: vec![sim("sim", 0, 5)], pace: soon() }
}

/// A provider that does what it is asked for when the test is long over: what is begun stays under way.
pub fn stuck() -> CloudOptions {
    CloudOptions { providers: vec![sim("sim", 3_600_000, 3_600_000)], pace: soon() }
}

/// The body of a new network, in the user's project.
pub fn network_in(project: &str) -> Value {
    json!({ "project_id": project, "kind": "network.network", "name": "net", "spec": { "cidr": "10.0.0.0/16" } })
}

/// The id of a member of an answer.
pub fn id_of(thing: &Value) -> String {
    thing["id"].as_str().unwrap_or_else(|| panic!("no id in {thing}")).to_owned()
}

/// Waits until the operation that `submitted` names is over; gives it.
pub async fn over(who: &impl Identity, submitted: &Value) -> Value {
    let path = format!("/v1/operations/{}?wait=20", id_of(&submitted["operation"]));
    let operation = who.get(&path).await.ok();
    assert!(!operation["finished_at"].is_null(), "in vain waited for {operation}");
    operation
}

/// Waits until it has succeeded; gives the resource as it then is.
pub async fn done(who: &impl Identity, submitted: &Value) -> Value {
    let operation = over(who, submitted).await;
    assert_eq!(operation["status"], "succeeded", "{operation}");
    who.get(&format!("/v1/resources/{}", operation["resource_id"].as_str().unwrap())).await.ok()
}

/// Waits until it has succeeded, at a provider that is stuck and gets on this once; gives the resource as it then is.
pub async fn hurried(who: &impl Identity, submitted: &Value) -> Value {
    let path = format!("/v1/operations/{}", id_of(&submitted["operation"]));
    eventually("the operation is over", async || {
        sqlx::query("UPDATE sim_objects SET ready_at = now()").execute(&who.app().db).await.unwrap();
        (!who.get(&path).await.ok()["finished_at"].is_null()).then_some(())
    })
    .await;
    done(who, submitted).await
}

/// A network of the user's that is there; gives its id.
pub async fn quiet_network(owner: &Session<'_>) -> String {
    quiet(owner, Kind::Network, json!({ "cidr": "10.0.0.0/16" })).await
}

/// A volume of the user's that is there; gives its id.
pub async fn quiet_volume(owner: &Session<'_>) -> String {
    quiet(owner, Kind::Volume, json!({ "size_gib": 20 })).await
}

/// As one is when its creation is long over, for tests that need many: written past the server, with its object.
async fn quiet(owner: &Session<'_>, kind: Kind, spec: Value) -> String {
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

/// An operation on a resource that is under way, with which nobody gets on until tomorrow; gives its id.
pub async fn quiet_operation(app: &TestApp, resource: &str) -> String {
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
