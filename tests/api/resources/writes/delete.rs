//! Deleting resources.

use std::time::Duration;

use cloudapi::resources::store::queue;
use serde_json::json;

use super::{RESOURCES, conflict, instance, made, network, path, pipeline, start, volume};
use crate::support::{
    Identity, TestApp,
    cloud::{finish_and_wait, id_of, insert_network, stalled_provider, wait_until_ended, wait_until_succeeded},
};

#[tokio::test]
async fn deleted_resource_is_gone_at_its_provider_and_still_readable() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = pipeline(&owner).await;
    let id = made(&key, volume(20)).await;
    key.request("DELETE", &path(&id)).header("if-match", "\"0\"").send().await.problem(412, "precondition_failed");
    let reply = key.delete(&path(&id)).await;
    assert!(reply.header("location").unwrap().starts_with("/v1/operations/op_"));
    let submitted = reply.accepted();
    assert_eq!(submitted["resource"]["status"]["phase"], "deleting");
    let gone = wait_until_succeeded(&key, &submitted).await;
    assert_eq!(gone["status"]["phase"], "deleted");
    assert!(gone["deleted_at"].is_string());
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM sim_objects WHERE gone_at IS NULL OR gone_at > now()")
        .fetch_one(&app.db)
        .await
        .unwrap();
    assert_eq!(left, 0);
    assert_eq!(key.get(RESOURCES).await.ok()["data"], json!([]));
    assert_eq!(key.get(&format!("{RESOURCES}?phase=deleted")).await.ok()["data"][0]["id"], id);
    // A repeated DELETE returns the same operation; other writes fail.
    let again = key.delete(&path(&id)).await.accepted();
    assert_eq!(
        (&again["operation"]["id"], &again["operation"]["status"]),
        (&submitted["operation"]["id"], &json!("succeeded"))
    );
    assert!(conflict(key.patch(&path(&id), json!({ "name": "n" })).await, "invalid_state").contains("is deleted"));
    assert!(
        conflict(key.patch(&path(&id), json!({ "protection": true })).await, "invalid_state").contains("is deleted")
    );
    conflict(key.post_empty(&format!("{}/sync", path(&id))).await, "invalid_state");
}

#[tokio::test]
async fn repeated_delete_in_progress_returns_the_same_operation() {
    let app = start(stalled_provider()).await;
    let owner = app.owner().await;
    let key = pipeline(&owner).await;
    let submitted = key.post(RESOURCES, volume(20)).await.accepted();
    let id = id_of(&finish_and_wait(&key, &submitted).await);
    let first = key.delete(&path(&id)).await.accepted();
    let again = key.delete(&path(&id)).await.accepted();
    assert_eq!(again["operation"]["id"], first["operation"]["id"]);
    assert!(conflict(key.patch(&path(&id), json!({ "name": "n" })).await, "resource_locked").contains("(delete)"));
}

#[tokio::test]
async fn protected_or_referenced_resource_cannot_be_deleted() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = pipeline(&owner).await;
    let network = made(&key, network()).await;
    let volume = made(&key, volume(20)).await;
    let mut first = instance(Some(&network), &[&volume]);
    first["protection"] = json!(true);
    let (first, second) = (made(&key, first).await, made(&key, instance(Some(&network), &[])).await);
    let detail = conflict(key.delete(&path(&network)).await, "resource_in_use");
    assert!(detail.contains(&first) && detail.contains(&second), "{detail}");
    assert!(conflict(key.delete(&path(&volume)).await, "resource_in_use").contains(&first));
    assert!(conflict(key.delete(&path(&first)).await, "protected").contains("'protection' false"));
    key.patch(&path(&first), json!({ "protection": false })).await.accepted();
    for id in [&first, &second, &volume, &network] {
        let submitted = key.delete(&path(id)).await.accepted();
        wait_until_succeeded(&key, &submitted).await;
    }
}

#[tokio::test]
async fn project_with_resources_cannot_be_deleted_and_the_error_lists_them() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let id = insert_network(&owner).await;
    let project = format!("/v1/projects/{}", owner.project);
    owner.post_empty(&format!("{project}/archive")).await.ok();
    assert!(conflict(owner.delete(&project).await, "project_not_empty").contains(&id));
    let submitted = owner.delete(&path(&id)).await.accepted();
    assert_eq!(wait_until_ended(&owner, &submitted).await["status"], "succeeded");
    owner.delete(&project).await.ok();
}

#[tokio::test]
async fn old_operations_are_pruned_before_old_deleted_resources() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = pipeline(&owner).await;
    let labeled =
        json!({ "kind": "storage.volume", "name": "data", "labels": { "env": "ci" }, "spec": { "size_gib": 1 } });
    let (gone, kept) = (made(&key, labeled).await, made(&key, volume(1)).await);
    wait_until_ended(&key, &key.delete(&path(&gone)).await.accepted()).await;
    let until = app.clock.now().plus(Duration::from_secs(60));
    let prune = async || queue::prune(&mut app.db.acquire().await.unwrap(), until).await.unwrap();
    assert_eq!(prune().await, 3);
    assert_eq!(key.get("/v1/operations").await.ok()["data"], json!([]));
    key.get(&path(&gone)).await.ok();
    assert_eq!(prune().await, 1);
    key.get(&path(&gone)).await.problem(404, "not_found");
    assert_eq!(prune().await, 0);
    key.get(&path(&kept)).await.ok();
    assert_eq!(sqlx::query("SELECT FROM resource_labels").fetch_all(&app.db).await.unwrap().len(), 0);
}
