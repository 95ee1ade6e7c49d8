//! Events of resources. Each event is validated against its published schema.

use std::collections::BTreeSet;

use cloudapi::base::action::Action;
use serde_json::json;

use super::{RESOURCES, instance, made, path, pipeline, start, volume};
use crate::{
    events::listed,
    support::{
        Identity, TestApp,
        cloud::{fast_provider, finish_and_wait, id_of, stalled_provider, wait_until_ended, wait_until_succeeded},
        eventually,
        trail::sealed,
    },
};

#[tokio::test]
async fn lifecycle_events_of_a_resource_are_in_order() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = pipeline(&owner).await;
    let reader = owner.key().await;
    let id = made(&key, volume(20)).await;
    let submitted = key.patch(&path(&id), json!({ "spec": { "size_gib": 40 } })).await.accepted();
    wait_until_succeeded(&key, &submitted).await;
    let gone = key.delete(&path(&id)).await.accepted();
    wait_until_succeeded(&key, &gone).await;
    let received = eventually("the last event", async || {
        let received: Vec<_> =
            listed(&reader).await.into_iter().filter(|event| event["subject"] == id.as_str()).collect();
        (received.last()?["type"] == "resource.deleted").then_some(received)
    })
    .await;
    let types: Vec<&str> = received.iter().map(|event| event["type"].as_str().unwrap()).collect();
    let lived = ["created", "provisioned", "update_requested", "updated", "deletion_requested", "deleted"];
    assert_eq!(types, lived.map(|what| format!("resource.{what}")));
    let changes = |at: usize| &received[at]["data"]["changes"];
    assert_eq!((&changes(0)["id"], &changes(0)["spec"]), (&json!(id), &json!({ "size_gib": 20 })));
    assert_eq!(changes(2)["spec"], json!([{ "size_gib": 20 }, { "size_gib": 40 }]));
    assert_eq!(changes(2)["operation_id"], submitted["operation"]["id"]);
    assert_eq!(changes(3)["observed_generation"], json!([1, 2]));
    // Events of the operation have the trace ID of its request.
    let trace = |at: usize| received[at]["traceparent"].as_str().unwrap()[3..35].to_owned();
    assert_eq!((trace(0), trace(2)), (trace(1), trace(3)));
    assert!(trace(0) != trace(2));
}

#[tokio::test]
async fn every_resource_event_type_occurs_and_matches_its_schema() {
    let app = start(fast_provider()).await;
    let owner = app.owner().await;
    let key = pipeline(&owner).await;
    let reader = owner.key().await;
    let machine = made(&key, instance(None, &[])).await;
    let stopped = key.post(&format!("{}/actions", path(&machine)), json!({ "action": "stop" })).await.accepted();
    wait_until_succeeded(&key, &stopped).await;
    // Failed, imported.
    let import = json!({ "kind": "storage.volume", "provider": "sim", "provider_ref": "vol-404", "name": "n" });
    let failed = key.post(&format!("{RESOURCES}/import"), import).await.accepted();
    assert_eq!(wait_until_ended(&key, &failed).await["status"], "failed");
    sqlx::query(
        "INSERT INTO sim_objects (provider, reference, kind, name, spec, ready_at)
         VALUES ('sim', 'vol-1', 'storage.volume', 'old', '{\"size_gib\":9}', now())",
    )
    .execute(&app.db)
    .await
    .unwrap();
    let import = json!({ "kind": "storage.volume", "provider": "sim", "provider_ref": "vol-1", "name": "n" });
    let imported = key.post(&format!("{RESOURCES}/import"), import).await.accepted();
    let imported = id_of(&wait_until_succeeded(&key, &imported).await);
    // Drifted, remediated.
    sqlx::query("UPDATE sim_objects SET spec = '{\"size_gib\":8}' WHERE reference = 'vol-1'")
        .execute(&app.db)
        .await
        .unwrap();
    let sync = key.post_empty(&format!("{}/sync", path(&imported))).await.accepted();
    wait_until_succeeded(&key, &sync).await;
    sqlx::query("UPDATE sim_objects SET spec = '{\"size_gib\":9}' WHERE reference = 'vol-1'")
        .execute(&app.db)
        .await
        .unwrap();
    let sync = key.post_empty(&format!("{}/sync", path(&imported))).await.accepted();
    wait_until_succeeded(&key, &sync).await;
    // Expired, deleted.
    key.patch(&path(&machine), json!({ "ttl_seconds": 60 })).await.accepted();
    app.clock.advance(std::time::Duration::from_secs(61));
    eventually("the resource to be deleted", async || {
        (key.get(&path(&machine)).await["status"]["phase"] == "deleted").then_some(())
    })
    .await;
    // Updated, deletion requested.
    let larger = key.patch(&path(&imported), json!({ "spec": { "size_gib": 10 } })).await.accepted();
    wait_until_succeeded(&key, &larger).await;
    let gone = key.delete(&path(&imported)).await.accepted();
    wait_until_succeeded(&key, &gone).await;
    sealed(&app.db).await;
    let mut received: BTreeSet<String> =
        listed(&reader).await.iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect();
    received.extend(canceled().await);
    // The operator's event is tested with the quotas.
    let wanted = Action::events()
        .map(Action::as_str)
        .filter(|action| action.starts_with("resource.") || action.starts_with("operation."));
    let missing: Vec<&str> = wanted.filter(|action| !received.contains(*action)).collect();
    assert!(missing.is_empty(), "no event of {missing:?}");
}

/// Types of the events of a canceled operation.
async fn canceled() -> Vec<String> {
    let app = start(stalled_provider()).await;
    let owner = app.owner().await;
    let key = pipeline(&owner).await;
    let submitted = key.post(RESOURCES, instance(None, &[])).await.accepted();
    let id = id_of(&finish_and_wait(&key, &submitted).await);
    let change = key.patch(&path(&id), json!({ "spec": { "size": "large" } })).await.accepted();
    let operation = format!("/v1/operations/{}", id_of(&change["operation"]));
    key.post_empty(&format!("{operation}/cancel")).await.accepted();
    eventually("the operation to be canceled", async || {
        sqlx::query("UPDATE sim_objects SET ready_at = now()").execute(&app.db).await.unwrap();
        (key.get(&operation).await["status"] == "canceled").then_some(())
    })
    .await;
    sealed(&app.db).await;
    listed(&owner.key().await).await.iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect()
}
