//! Remediation on request: `POST /v1/resources/{resource_id}/sync` with `remediate`.

use serde_json::{Value, json};

use super::{conflict, make, network, path, pipeline, start, volume};
use crate::support::{
    Identity, Key, TestApp,
    cloud::{fast_provider, id_of, wait_until_ended, wait_until_succeeded},
};

async fn remediate(key: &Key<'_>, resource: &Value) -> Value {
    key.post(&format!("{}/sync", path(&id_of(resource))), json!({ "remediate": true })).await.accepted()
}

async fn change_externally(app: &TestApp, sql: &'static str, resource: &Value) {
    let reference = resource["status"]["provider_ref"].as_str().unwrap();
    assert_eq!(sqlx::query(sql).bind(reference).execute(&app.db).await.unwrap().rows_affected(), 1);
}

#[tokio::test]
async fn drifted_and_missing_objects_are_remediated_once_on_request() {
    let app = start(fast_provider()).await;
    let owner = app.owner().await;
    let key = pipeline(&owner).await;
    let disk = make(&key, volume(20)).await;
    change_externally(&app, "UPDATE sim_objects SET spec = '{\"size_gib\": 19}' WHERE reference = $1", &disk).await;
    let accepted = remediate(&key, &disk).await;
    assert_eq!(accepted["operation"]["type"], "remediate");
    assert_eq!(accepted["resource"]["status"]["phase"], "updating");
    let after = wait_until_succeeded(&key, &accepted).await;
    assert_eq!((&after["status"]["phase"], &after["status"]["conditions"]), (&json!("active"), &json!([])));
    // The reaction to the next drift is unchanged.
    assert_eq!((&after["reconcile"], &after["generation"]), (&json!("observe"), &json!(1)));
    let spec: Value = sqlx::query_scalar("SELECT spec FROM sim_objects").fetch_one(&app.db).await.unwrap();
    assert_eq!(spec, json!({ "size_gib": 20 }));

    let net = make(&key, network()).await;
    change_externally(&app, "DELETE FROM sim_objects WHERE reference = $1", &net).await;
    let synced = key.post(&format!("{}/sync", path(&id_of(&net))), json!({ "remediate": false })).await.accepted();
    let missing = wait_until_succeeded(&key, &synced).await;
    assert_eq!(missing["status"]["conditions"][0]["type"], "missing");
    let again = wait_until_succeeded(&key, &remediate(&key, &net).await).await;
    assert_eq!((&again["status"]["phase"], &again["status"]["conditions"]), (&json!("active"), &json!([])));
    assert_ne!(again["status"]["provider_ref"], net["status"]["provider_ref"]);
}

#[tokio::test]
async fn resource_that_never_existed_or_is_deleted_is_not_remediated() {
    let app = start(fast_provider()).await;
    let owner = app.owner().await;
    let key = pipeline(&owner).await;
    let made = make(&key, volume(20)).await;
    let deleted = key.delete(&path(&id_of(&made))).await.accepted();
    wait_until_succeeded(&key, &deleted).await;
    let sync = |id: String| format!("{}/sync", path(&id));
    let detail = conflict(key.post(&sync(id_of(&made)), json!({ "remediate": true })).await, "invalid_state");
    assert!(detail.contains("create another resource"), "{detail}");
    let import = json!({ "kind": "storage.volume", "provider": "sim", "provider_ref": "vol-404", "name": "n" });
    let failed = key.post("/v1/resources/import", import).await.accepted();
    assert_eq!(wait_until_ended(&key, &failed).await["status"], "failed");
    let detail =
        conflict(key.post(&sync(id_of(&failed["resource"])), json!({ "remediate": true })).await, "invalid_state");
    assert!(detail.contains("delete"), "{detail}");
}
