//! Import of existing objects, and drift.

use cloudapi::{resources::drivers::config::ImportProjects, server::state::AppOptions};
use serde_json::{Value, json};

use super::{RESOURCES, conflict, faults, instance, made, path, pipeline, volume};

use crate::support::{
    Bearer, Identity, Session, TestApp,
    cloud::{fast_provider, id_of, wait_until_ended, wait_until_succeeded},
};

/// Creates an object at the provider outside of CloudAPI.
async fn object(app: &TestApp, reference: &str, size_gib: u32) {
    sqlx::query(
        "INSERT INTO sim_objects (provider, reference, kind, name, spec, ready_at)
         VALUES ('sim', $1, 'storage.volume', 'old', jsonb_build_object('size_gib', $2), now())",
    )
    .bind(reference)
    .bind(i32::try_from(size_gib).unwrap())
    .execute(&app.db)
    .await
    .unwrap();
}

fn import(reference: &str) -> Value {
    json!({ "kind": "storage.volume", "provider": "sim", "provider_ref": reference, "name": "old" })
}

const IMPORT: &str = "/v1/resources/import";

#[tokio::test]
async fn existing_object_is_imported_unchanged() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = pipeline(&owner).await;
    object(&app, "vol-1", 33).await;
    let submitted = key.post(IMPORT, import("vol-1")).await.accepted();
    let resource = &submitted["resource"];
    assert_eq!((&resource["status"]["provider_ref"], &resource["spec"]), (&json!("vol-1"), &json!({})));
    assert_eq!((&resource["status"]["phase"], &submitted["operation"]["type"]), (&json!("pending"), &json!("import")));
    let there = wait_until_succeeded(&key, &submitted).await;
    assert_eq!((&there["spec"], &there["status"]["phase"]), (&json!({ "size_gib": 33 }), &json!("active")));
    // An object can be imported only once. The resource can be changed and deleted like any other.
    let id = id_of(&there);
    assert!(conflict(key.post(IMPORT, import("vol-1")).await, "resource_in_use").contains(&id));
    let stranger = app.owner().await;
    let foreign = conflict(pipeline(&stranger).await.post(IMPORT, import("vol-1")).await, "resource_in_use");
    assert!(!foreign.contains(&id), "{foreign}");
    let larger = key.patch(&path(&id), json!({ "spec": { "size_gib": 40 } })).await.accepted();
    wait_until_succeeded(&key, &larger).await;
    let gone = key.delete(&path(&id)).await.accepted();
    wait_until_succeeded(&key, &gone).await;
    assert_eq!(key.get(&format!("{RESOURCES}?phase=deleted")).await.ok()["data"][0]["id"], id);
}

/// The same providers, from which only these projects may import.
fn providers(import_projects: ImportProjects) -> AppOptions {
    let mut cloud = fast_provider();
    for provider in &mut cloud.providers {
        provider.import_projects = import_projects.clone();
    }
    AppOptions { cloud, ..AppOptions::default() }
}

#[tokio::test]
async fn only_projects_listed_by_the_operator_can_import() {
    let app = TestApp::start_with(AppOptions::default()).await;
    let (owner, stranger) = (app.owner().await, app.owner().await);
    object(&app, "vol-1", 33).await;
    // By default no project may import, with any credential, whether or not the object exists.
    let body = |owner: &Session<'_>, reference: &str| {
        let mut body = import(reference);
        body["project_id"] = json!(owner.project);
        body
    };
    for reference in ["vol-1", "vol-404"] {
        let problem = owner.post(IMPORT, body(&owner, reference)).await.problem(403, "import_not_allowed");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("operator") && detail.contains(&owner.project), "{detail}");
        pipeline(&owner).await.post(IMPORT, import(reference)).await.problem(403, "import_not_allowed");
        let dry = format!("{IMPORT}?dry_run=true");
        owner.post(&dry, body(&owner, reference)).await.problem(403, "import_not_allowed");
    }
    // Only the listed project may import, also if the object is already a resource.
    let listed = ImportProjects::Listed(vec![owner.project.parse().unwrap()]);
    let beside = app.start_peer(providers(listed)).await;
    let there = |secret: &str| Bearer { app: &beside, secret: secret.to_owned() };
    there(&owner.secret).post(IMPORT, body(&owner, "vol-1")).await.accepted();
    for reference in ["vol-1", "vol-404"] {
        let refused = there(&stranger.secret).post(IMPORT, body(&stranger, reference)).await;
        refused.problem(403, "import_not_allowed");
    }
}

#[tokio::test]
async fn import_of_a_nonexistent_object_fails_and_missing_members_are_rejected() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = pipeline(&owner).await;
    let submitted = key.post(IMPORT, import("vol-404")).await.accepted();
    let ended = wait_until_ended(&key, &submitted).await;
    assert_eq!(ended["status"], "failed", "{ended}");
    assert!(ended["error"]["detail"].is_string());
    let failed = key.get(&path(&id_of(&submitted["resource"]))).await.ok();
    assert_eq!(
        (&failed["status"]["phase"], &failed["status"]["conditions"][0]["type"]),
        (&json!("failed"), &json!("failed"))
    );
    // The failed resource can be deleted.
    let gone = key.delete(&path(&id_of(&failed))).await.accepted();
    assert_eq!(wait_until_ended(&key, &gone).await["status"], "succeeded");
    let errors = faults(key.post(IMPORT, json!({ "kind": "storage.volume", "name": "n" })).await, "validation_failed");
    assert_eq!(errors.len(), 2, "{errors:?}");
}

#[tokio::test]
async fn sync_reports_drift_and_remediates_it_with_reconcile_enforce() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = pipeline(&owner).await;
    let id = made(&key, volume(20)).await;
    let sync = async || {
        let submitted = key.post_empty(&format!("{}/sync", path(&id))).await.accepted();
        wait_until_succeeded(&key, &submitted).await
    };
    assert_eq!(sync().await["status"]["conditions"], json!([]));
    sqlx::query("UPDATE sim_objects SET spec = '{\"size_gib\":30}'").execute(&app.db).await.unwrap();
    let found = sync().await;
    let drifted = &found["status"]["conditions"][0];
    assert_eq!((&drifted["type"], &drifted["difference"]), (&json!("drifted"), &json!({ "size_gib": [20, 30] })));
    assert_eq!(found["spec"], json!({ "size_gib": 20 }));
    let machine = made(&key, instance(None, &[])).await;
    key.patch(&path(&machine), json!({ "reconcile": "enforce" })).await.accepted();
    sqlx::query("UPDATE sim_objects SET power = 'off' WHERE kind = 'compute.instance'").execute(&app.db).await.unwrap();
    let submitted = key.post_empty(&format!("{}/sync", path(&machine))).await.accepted();
    let mended = wait_until_succeeded(&key, &submitted).await;
    assert_eq!((&mended["status"]["power"], &mended["status"]["conditions"]), (&json!("on"), &json!([])));
}
