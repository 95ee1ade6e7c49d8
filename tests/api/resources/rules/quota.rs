//! Resource quotas of projects.

use serde_json::{Value, json};

use super::{RESOURCES, conflict, made, network, path, pipeline, volume};
use crate::support::{
    Identity, TestApp,
    binary::Deployment,
    cloud::{id_of, wait_until_ended, wait_until_succeeded},
    cluster,
    trail::sealed,
};
use cloudapi::base::id::ProjectId;

async fn allow(app: &TestApp, project: &str, kind: &str, maximum: i32) {
    let project: ProjectId = project.parse().unwrap();
    sqlx::query("INSERT INTO resource_quotas (project_id, kind, maximum) VALUES ($1, $2, $3)")
        .bind(project)
        .bind(kind)
        .bind(maximum)
        .execute(&app.db)
        .await
        .unwrap();
}

#[tokio::test]
async fn resource_counts_toward_its_quota_from_create_request_until_deleted() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = pipeline(&owner).await;
    allow(&app, &owner.project, "storage.volume", 1).await;
    allow(&app, &owner.project, "compute.instance", 0).await;
    let first = key.post(RESOURCES, volume(1)).await.accepted();
    let detail = conflict(key.post(RESOURCES, volume(1)).await, "limit_reached");
    assert!(detail.contains("quota of 1 for storage.volume") && detail.contains("ask the operator"), "{detail}");
    // Other kinds have separate quotas.
    made(&key, network()).await;
    conflict(key.post(RESOURCES, super::instance(None, &[])).await, "limit_reached");
    let id = id_of(&wait_until_succeeded(&key, &first).await);
    conflict(key.post(RESOURCES, volume(1)).await, "limit_reached");
    let gone = key.delete(&path(&id)).await.accepted();
    wait_until_ended(&key, &gone).await;
    made(&key, volume(1)).await;
}

#[tokio::test]
async fn only_one_of_two_concurrent_creates_within_the_quota_succeeds() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = pipeline(&owner).await;
    allow(&app, &owner.project, "storage.volume", 3).await;
    for _ in 0..2 {
        key.post(RESOURCES, volume(1)).await.accepted();
    }
    let (one, other) = tokio::join!(key.post(RESOURCES, volume(1)), key.post(RESOURCES, volume(1)));
    let (got, refused) = if one.status == 202 { (one, other) } else { (other, one) };
    got.accepted();
    conflict(refused, "limit_reached");
}

#[tokio::test]
async fn operator_sets_resource_quotas_and_changes_are_audited() {
    let database = cluster::empty_database().await;
    let deployment = Deployment::new();
    let run = |arguments: &[&str]| deployment.run_on(&database, arguments);
    let made = run(&["admin", "bootstrap", "--email", "ada@example.com", "--project", "Core", "--json"]).1;
    let made: Value = serde_json::from_str(&made).unwrap();
    let project = made["project"]["id"].as_str().unwrap();
    let set = |arguments: &[&str]| {
        let (done, printed, error) = run(&[&["admin", "project", project, "--json"], arguments].concat());
        assert!(done, "{error}");
        serde_json::from_str::<Value>(&printed).unwrap()["resources"].clone()
    };
    let places = |instances: i32| json!({ "compute.instance": instances, "network.network": 100, "storage.volume": 7 });
    assert_eq!(set(&["--resources", "compute.instance=20", "--resources", "storage.volume=7"]), places(20));
    assert_eq!(set(&["--resources", "compute.instance=20"]), places(20));
    assert_eq!(set(&["--resources", "compute.instance=0"]), places(0));
    assert!(run(&["admin", "project", project]).1.contains("at most 100 of network.network, 7 of storage.volume"));
    for wrong in ["20", "machine=20", "compute.instance=-1", "compute.instance=many"] {
        let (done, _, error) = run(&["admin", "project", project, "--resources", wrong]);
        let says_why = error.contains("must be") || error.contains("unknown kind of resource");
        assert!(!done && says_why, "{wrong}: {error}");
    }
    let app = TestApp::start_at(&database).await;
    let recorded = sealed(&app.db).await;
    let recorded: Vec<&Value> =
        recorded.iter().filter(|entry| entry["action"] == "project.resource_quota_changed").collect();
    let changes: Vec<&Value> = recorded.iter().map(|entry| &entry["changes"]).collect();
    assert_eq!(changes[0], &json!({ "compute.instance": [100, 20], "storage.volume": [100, 7] }));
    assert_eq!((changes[1], changes.len()), (&json!({ "compute.instance": [20, 0] }), 2));
    assert!(recorded.iter().all(|entry| entry["actor"]["type"] == "operator" && entry["project_id"] == project));
}
