//! Drift, missing and duplicate objects, and calls that fail.

use std::{collections::BTreeMap, time::Duration};

use cloudapi::{
    base::id::{OperationId, ResourceId},
    resources::{
        drivers::{
            driver::{Driver, Order, Tags},
            sim::{Sim, SimSettings},
        },
        kinds::spec::{Spec, VolumeSpec},
    },
    server::scrape,
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    conditions, get, instance, make, objects, recorded_event, recorded_events, volume, wait_until,
    with_frequent_sweeps, without_latency,
};
use crate::support::{
    Identity, TestApp,
    cloud::{id_of, wait_until_ended, wait_until_succeeded},
    eventually,
    prometheus::Exposition,
};

/// Changes an object directly at the provider.
async fn change_externally(app: &TestApp, sql: &'static str, resource: &Value) {
    let reference = resource["status"]["provider_ref"].as_str().unwrap();
    let done = sqlx::query(sql).bind(reference).execute(&app.db).await.unwrap();
    assert_eq!(done.rows_affected(), 1);
}

const GROW_VOLUME: &str = r#"UPDATE sim_objects SET spec = '{"size_gib": 21}' WHERE reference = $1"#;
const SHRINK_VOLUME: &str = r#"UPDATE sim_objects SET spec = '{"size_gib": 19}' WHERE reference = $1"#;
const TURN_OFF: &str = "UPDATE sim_objects SET power = 'off' WHERE reference = $1";
const DELETE_OBJECT: &str = "DELETE FROM sim_objects WHERE reference = $1";

#[tokio::test]
async fn drift_is_reported_once_with_difference_and_resolved_by_update() {
    let app = TestApp::start_with(with_frequent_sweeps(without_latency())).await;
    let owner = app.owner().await;
    let made = make(&owner, volume(&owner.project, "observe")).await;
    change_externally(&app, GROW_VOLUME, &made).await;
    let drifted = wait_until(&owner, &made, "drift detected", |resource| conditions(resource) == ["drifted"]).await;
    let condition = &drifted["status"]["conditions"][0];
    assert_eq!(condition["difference"], json!({ "size_gib": [20, 21] }));
    assert_eq!(drifted["status"]["phase"], "active");
    assert_eq!(recorded_event(&owner, &made, "resource.drifted").await["difference"], json!({ "size_gib": [20, 21] }));
    // Drift is reported once and not remediated.
    let synced = owner.post_empty(&format!("/v1/resources/{}/sync", id_of(&made))).await.accepted();
    let seen = wait_until_succeeded(&owner, &synced).await;
    assert_eq!(seen["status"]["conditions"][0]["since"], condition["since"]);
    // An update to the actual value resolves the drift.
    let patch = json!({ "spec": { "size_gib": 21 } });
    let taken = owner.patch(&format!("/v1/resources/{}", id_of(&made)), patch).await.accepted();
    assert_eq!(conditions(&wait_until_succeeded(&owner, &taken).await), [""; 0]);
    recorded_event(&owner, &made, "resource.updated").await;
    let drifts =
        recorded_events(&owner, &made).await.into_iter().filter(|(name, _)| name == "resource.drifted").count();
    assert_eq!(drifts, 1);
}

#[tokio::test]
async fn drift_is_remediated_with_reconcile_enforce() {
    let app = TestApp::start_with(with_frequent_sweeps(without_latency())).await;
    let owner = app.owner().await;
    let disk = make(&owner, volume(&owner.project, "enforce")).await;
    let machine = make(&owner, instance(&owner.project, "enforce")).await;
    change_externally(&app, SHRINK_VOLUME, &disk).await;
    change_externally(&app, TURN_OFF, &machine).await;
    for (resource, difference) in
        [(&disk, json!({ "size_gib": [20, 19] })), (&machine, json!({ "power": ["on", "off"] }))]
    {
        assert_eq!(recorded_event(&owner, resource, "resource.drifted").await["difference"], difference);
        recorded_event(&owner, resource, "resource.remediated").await;
        let mended =
            wait_until(&owner, resource, "resource remediated", |now| now["status"]["phase"] == "active").await;
        assert_eq!(conditions(&mended), [""; 0]);
        assert_eq!(mended["status"]["provider_ref"], resource["status"]["provider_ref"]);
    }
    let as_asked: (Value, String) = sqlx::query_as(
        "SELECT (SELECT spec FROM sim_objects WHERE kind = 'storage.volume'),
                (SELECT power FROM sim_objects WHERE kind = 'compute.instance')",
    )
    .fetch_one(&app.db)
    .await
    .unwrap();
    assert_eq!(as_asked, (json!({ "size_gib": 20 }), "on".to_owned()));
}

#[tokio::test]
async fn deleted_object_is_reported_missing_and_recreated_with_reconcile_enforce() {
    let app = TestApp::start_with(with_frequent_sweeps(without_latency())).await;
    let owner = app.owner().await;
    let observed = make(&owner, volume(&owner.project, "observe")).await;
    let enforced = make(&owner, volume(&owner.project, "enforce")).await;
    change_externally(&app, DELETE_OBJECT, &observed).await;
    change_externally(&app, DELETE_OBJECT, &enforced).await;
    let missing =
        wait_until(&owner, &observed, "object reported missing", |resource| resource["status"]["phase"] == "failed")
            .await;
    assert_eq!(conditions(&missing), ["missing"]);
    assert_eq!(
        recorded_event(&owner, &observed, "resource.drifted").await["difference"],
        json!({ "exists": [true, false] })
    );
    recorded_event(&owner, &enforced, "resource.remediated").await;
    let again =
        wait_until(&owner, &enforced, "object recreated", |resource| resource["status"]["phase"] == "active").await;
    assert_ne!(again["status"]["provider_ref"], enforced["status"]["provider_ref"]);
    assert_eq!(objects(&app).await, [again["status"]["provider_ref"].as_str().unwrap()]);
    // A resource whose object is missing can still be deleted.
    let deleted = owner.delete(&format!("/v1/resources/{}", id_of(&observed))).await.accepted();
    assert_eq!(wait_until_ended(&owner, &deleted).await["status"], "succeeded");
}

/// Creates a volume at the provider with a resource's tag, as a delayed server would.
async fn insert_extra_object(app: &TestApp, resource: ResourceId) -> String {
    let deployment: Uuid = sqlx::query_scalar("SELECT id FROM deployment").fetch_one(&app.db).await.unwrap();
    let order = Order {
        tags: Tags { deployment, resource },
        operation: OperationId::new(),
        name: "data".into(),
        labels: BTreeMap::new(),
        spec: Spec::Volume(VolumeSpec { size_gib: 20 }),
    };
    let sim = Sim::new("sim".into(), without_latency(), app.db.clone().into());
    sim.create(&order).await.unwrap().reference
}

#[tokio::test]
async fn duplicate_object_is_deleted_and_object_of_unknown_resource_is_kept() {
    let app = TestApp::start_with(with_frequent_sweeps(without_latency())).await;
    let owner = app.owner().await;
    let made = make(&owner, volume(&owner.project, "observe")).await;
    let deleted = make(&owner, volume(&owner.project, "observe")).await;
    let submitted = owner.delete(&format!("/v1/resources/{}", id_of(&deleted))).await.accepted();
    wait_until_ended(&owner, &submitted).await;
    let id = |resource: &Value| id_of(resource).parse::<ResourceId>().unwrap();
    insert_extra_object(&app, id(&made)).await;
    insert_extra_object(&app, id(&deleted)).await;
    // A database restored from a backup may not have every resource of the provider's objects.
    let unknown = insert_extra_object(&app, ResourceId::new()).await;
    let mut kept = vec![made["status"]["provider_ref"].as_str().unwrap().to_owned(), unknown];
    kept.sort();
    eventually("duplicates deleted", async || (objects(&app).await == kept).then_some(())).await;
    assert_eq!(get(&owner, &made).await["status"]["phase"], "active");
    assert!(Exposition::parse(&scrape::render(&app)).get("cloudapi_objects_cleared_total", &[]) >= 2.0);
}

#[tokio::test]
async fn resources_converge_without_duplicates_when_every_third_provider_call_fails() {
    let app =
        TestApp::start_with(with_frequent_sweeps(SimSettings { failures_per_mille: 333, ..without_latency() })).await;
    let owner = app.owner().await;
    let mut submitted = Vec::new();
    for _ in 0..8 {
        submitted.push(owner.post("/v1/resources", volume(&owner.project, "observe")).await.accepted());
    }
    let mut made = Vec::new();
    for one in &submitted {
        made.push(wait_until_succeeded(&owner, one).await);
    }
    let mut recorded: Vec<&str> = made.iter().map(|one| one["status"]["provider_ref"].as_str().unwrap()).collect();
    recorded.sort_unstable();
    assert_eq!(objects(&app).await, recorded);
    for one in &made {
        let deleted = owner.delete(&format!("/v1/resources/{}", id_of(one))).await.accepted();
        assert_eq!(wait_until_ended(&owner, &deleted).await["status"], "succeeded");
    }
    assert_eq!(objects(&app).await, [""; 0]);
}

#[tokio::test]
async fn failed_sweep_is_retried_before_the_next_interval() {
    let mut options = with_frequent_sweeps(SimSettings { failures_per_mille: 300, ..without_latency() });
    options.cloud.timing.sweep_interval = Duration::from_secs(60);
    let app = TestApp::start_with(options).await;
    let sql = "SELECT count(*) FILTER (WHERE swept_at IS NULL) = 0 AND count(*) > 0 FROM provider_sweeps";
    eventually("every kind swept", async || {
        sqlx::query_scalar(sql).fetch_one(&app.db).await.unwrap_or(false).then_some(())
    })
    .await;
}
