//! What was made elsewhere, and what something else does to resources.

use cloudapi::{resources::config::ImportProjects, state::AppOptions};
use serde_json::{Value, json};

use super::{RESOURCES, conflict, faults, instance, made, path, pipeline, volume};

use crate::support::{
    Bearer, Identity, Session, TestApp,
    cloud::{done, id_of, over, quick},
};

/// An object that nobody of ours has made.
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
async fn what_was_made_elsewhere_becomes_a_resource_as_it_is() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = pipeline(&owner).await;
    object(&app, "vol-1", 33).await;
    let submitted = key.post(IMPORT, import("vol-1")).await.accepted();
    let resource = &submitted["resource"];
    assert_eq!((&resource["status"]["provider_ref"], &resource["spec"]), (&json!("vol-1"), &json!({})));
    assert_eq!((&resource["status"]["phase"], &submitted["operation"]["type"]), (&json!("pending"), &json!("import")));
    let there = done(&key, &submitted).await;
    assert_eq!((&there["spec"], &there["status"]["phase"]), (&json!({ "size_gib": 33 }), &json!("active")));
    // It is one resource's, and then it is changed and deleted as any other.
    let id = id_of(&there);
    assert!(conflict(key.post(IMPORT, import("vol-1")).await, "resource_in_use").contains(&id));
    let stranger = app.owner().await;
    let foreign = conflict(pipeline(&stranger).await.post(IMPORT, import("vol-1")).await, "resource_in_use");
    assert!(!foreign.contains(&id), "{foreign}");
    let larger = key.patch(&path(&id), json!({ "spec": { "size_gib": 40 } })).await.accepted();
    done(&key, &larger).await;
    let gone = key.delete(&path(&id)).await.accepted();
    done(&key, &gone).await;
    assert_eq!(key.get(&format!("{RESOURCES}?phase=deleted")).await.ok()["data"][0]["id"], id);
}

/// Providers of the same account: one that every project may import from, and as the operator has it by default.
fn providers(import_projects: ImportProjects) -> AppOptions {
    let mut cloud = quick();
    for provider in &mut cloud.providers {
        provider.import_projects = import_projects.clone();
    }
    AppOptions { cloud, ..AppOptions::default() }
}

#[tokio::test]
async fn only_projects_that_the_operator_lists_may_import() {
    let app = TestApp::start_with(AppOptions::default()).await;
    let (owner, stranger) = (app.owner().await, app.owner().await);
    object(&app, "vol-1", 33).await;
    // By default nobody may, whatever the credential, whether or not there is such an object.
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
    // Only the listed project, also when the object is a resource already.
    let listed = ImportProjects::Listed(vec![owner.project.parse().unwrap()]);
    let beside = app.start_beside(providers(listed)).await;
    let there = |secret: &str| Bearer { app: &beside, secret: secret.to_owned() };
    there(&owner.secret).post(IMPORT, body(&owner, "vol-1")).await.accepted();
    for reference in ["vol-1", "vol-404"] {
        let refused = there(&stranger.secret).post(IMPORT, body(&stranger, reference)).await;
        refused.problem(403, "import_not_allowed");
    }
}

#[tokio::test]
async fn what_is_not_there_or_is_anothers_is_not_imported() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = pipeline(&owner).await;
    let submitted = key.post(IMPORT, import("vol-404")).await.accepted();
    let ended = over(&key, &submitted).await;
    assert_eq!(ended["status"], "failed", "{ended}");
    assert!(ended["error"]["detail"].is_string());
    let failed = key.get(&path(&id_of(&submitted["resource"]))).await.ok();
    assert_eq!(
        (&failed["status"]["phase"], &failed["status"]["conditions"][0]["type"]),
        (&json!("failed"), &json!("failed"))
    );
    // It can be taken away again.
    let gone = key.delete(&path(&id_of(&failed))).await.accepted();
    assert_eq!(over(&key, &gone).await["status"], "succeeded");
    let told = faults(key.post(IMPORT, json!({ "kind": "storage.volume", "name": "n" })).await, "validation_failed");
    assert_eq!(told.len(), 2, "{told:?}");
}

#[tokio::test]
async fn a_look_finds_what_something_else_has_done_and_mends_it_where_that_is_wanted() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = pipeline(&owner).await;
    let id = made(&key, volume(20)).await;
    let sync = async || {
        let submitted = key.post_empty(&format!("{}/sync", path(&id))).await.accepted();
        done(&key, &submitted).await
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
    let mended = done(&key, &submitted).await;
    assert_eq!((&mended["status"]["power"], &mended["status"]["conditions"]), (&json!("on"), &json!([])));
}
