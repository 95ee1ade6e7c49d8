//! Dry runs.

use serde_json::{Value, json};

use super::{RESOURCES, conflict, faults, instance, made, network, path, pipeline, volume};
use crate::support::{Identity, Reply, TestApp, trail::sealed};

/// Row counts of every table that a write could change.
async fn rows(app: &TestApp) -> Vec<i64> {
    sealed(&app.db).await;
    sqlx::query_scalar(
        "SELECT count(*) FROM resources UNION ALL SELECT count(*) FROM operations
         UNION ALL SELECT count(*) FROM resource_references UNION ALL SELECT coalesce(sum(count), 0) FROM resource_counts
         UNION ALL SELECT count(*) FROM idempotency_records UNION ALL SELECT count(*) FROM audit_entries
         UNION ALL SELECT coalesce(sum(version), 0)::bigint FROM resources",
    )
    .fetch_all(&app.db)
    .await
    .unwrap()
}

#[tokio::test]
async fn dry_run_returns_a_plan_and_changes_nothing() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = pipeline(&owner).await;
    let (network_id, volume_id) = (made(&key, network()).await, made(&key, volume(20)).await);
    let instance_id = made(&key, instance(Some(&network_id), &[])).await;
    let before = rows(&app).await;
    let dry = async |method: &str, path: String, body: Value| -> Reply {
        let request = key.request(method, &format!("{path}?dry_run=true")).header("idempotency-key", "k");
        if body.is_null() { request.send().await } else { request.json(&body).send().await }
    };
    let plan = dry("POST", RESOURCES.into(), instance(Some(&network_id), &[&volume_id])).await;
    assert_eq!(plan.header("location"), None);
    let plan = plan.ok()["plan"].clone();
    assert_eq!(
        (&plan["type"], &plan["requires_provider"], &plan["changes"]),
        (&json!("create"), &json!(true), &json!({}))
    );
    assert_eq!((&plan["resource"]["kind"], &plan["resource"]["provider"]), (&json!("compute.instance"), &json!("sim")));
    let plan = dry("PATCH", path(&volume_id), json!({ "spec": { "size_gib": 40 } })).await.ok()["plan"].clone();
    assert_eq!(
        (&plan["type"], &plan["changes"]["spec"]),
        (&json!("update"), &json!([{ "size_gib": 20 }, { "size_gib": 40 }]))
    );
    let plan = dry("PATCH", path(&volume_id), json!({ "protection": true })).await.ok()["plan"].clone();
    assert_eq!((&plan["requires_provider"], &plan["changes"]["protection"]), (&json!(false), &json!([false, true])));
    let action = json!({ "action": "attach", "volume": volume_id });
    let plan = dry("POST", format!("{}/actions", path(&instance_id)), action).await.ok()["plan"].clone();
    assert_eq!((&plan["type"], &plan["resource"]["spec"]["volumes"]), (&json!("attach"), &json!([volume_id])));
    let plan = dry("DELETE", path(&volume_id), Value::Null).await.ok()["plan"].clone();
    assert_eq!((&plan["type"], &plan["resource"]["status"]["phase"]), (&json!("delete"), &json!("deleting")));
    assert_eq!(rows(&app).await, before);

    // The dry run's `Idempotency-Key` is still unused.
    let sent = key.request("POST", RESOURCES).header("idempotency-key", "k").json(&volume(1)).send().await;
    assert_eq!(sent.header("idempotent-replayed"), None);
    sent.accepted();
}

#[tokio::test]
async fn dry_run_fails_like_the_write() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = pipeline(&owner).await;
    let network_id = made(&key, network()).await;
    let instance_id = made(&key, instance(Some(&network_id), &[])).await;
    let before = rows(&app).await;
    let dry = |path: &str| format!("{path}?dry_run=true");
    faults(key.post(&dry(RESOURCES), volume(0)).await, "validation_failed");
    let huge = json!({ "kind": "compute.instance", "name": "n", "spec": { "size": "huge", "image": "debian-12" } });
    faults(key.post(&dry(RESOURCES), huge).await, "unsupported_capability");
    faults(key.post(&dry(RESOURCES), instance(Some("res_1"), &[])).await, "validation_failed");
    assert!(conflict(key.delete(&dry(&path(&network_id))).await, "resource_in_use").contains(&instance_id));
    let stale =
        key.request("PATCH", &dry(&path(&network_id))).header("if-match", "\"0\"").json(&json!({ "name": "n" }));
    stale.send().await.problem(412, "precondition_failed");
    key.post(&format!("{RESOURCES}?dry_run=yes"), volume(1)).await.problem(400, "invalid_parameter");
    let body = json!({ "kind": "storage.volume", "provider": "sim", "provider_ref": "vol-1", "name": "n" });
    key.post(&dry(&format!("{RESOURCES}/import")), body).await.ok();
    assert_eq!(rows(&app).await, before);
    // `false` is the default.
    key.post(&format!("{RESOURCES}?dry_run=false"), volume(1)).await.accepted();
}
