//! Full disks: PostgreSQL's disk, and the disk of the usage journal.

use cloudapi::{api::usage::counting::meter::MeterOptions, server::state::AppOptions};
use serde_json::json;

use super::admin;
use crate::support::{Identity, TestApp, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn readyz_reports_full_postgresql_disk_until_a_write_succeeds() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let db = admin(&app).await;
    sqlx::raw_sql(
        "CREATE FUNCTION disk_full() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$;
         CREATE TRIGGER disk_full BEFORE INSERT ON projects FOR EACH ROW EXECUTE FUNCTION disk_full();",
    )
    .execute(&db)
    .await
    .unwrap();
    let reply = user.post("/v1/projects", json!({ "name": "does not fit" })).await;
    assert!(reply["detail"].as_str().unwrap().contains("disk is full"), "{}", reply["detail"]);
    assert!(reply.header("retry-after").is_some());
    reply.problem(503, "database_unavailable");
    let ready = app.anonymous().get("/readyz").await;
    assert_eq!(ready.status, 503);
    let writes = ready["checks"]["writes"].as_str().unwrap();
    let host = app.db.connect_options().get_socket().unwrap().display().to_string();
    assert!(writes.starts_with("disk full: PostgreSQL at ") && writes.contains(&host), "{writes}");
    assert_eq!(ready["checks"]["database"], "ok");
    // Reads still work.
    user.get("/v1/projects").await.ok();
    sqlx::raw_sql("DROP TRIGGER disk_full ON projects").execute(&db).await.unwrap();
    user.post("/v1/projects", json!({ "name": "fits" })).await.created();
    let ready = app.anonymous().get("/readyz").await.ok();
    assert_eq!(ready["checks"]["writes"], "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn readyz_reports_usage_journal_that_cannot_be_created_until_it_can() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("usage");
    let meter = MeterOptions { folder: Some(folder.clone()), slots: 64, ..MeterOptions::default() };
    let app = TestApp::start_with(AppOptions { meter, ..AppOptions::default() }).await;
    let ready = app.anonymous().get("/readyz").await.ok();
    assert_eq!(ready["checks"]["journal"], "ok");
    let owner = app.owner().await;
    // Like a full disk: no file can be created there, even by root.
    std::fs::rename(&folder, place.path().join("elsewhere")).unwrap();
    let journal = eventually("journal folder reported", async || {
        // The journal is small, and each new credential takes a slot.
        owner.key_with(json!({ "scopes": ["projects:read"] })).await.get("/v1/projects").await.ok();
        let ready = app.anonymous().get("/readyz").await.ok();
        let journal = ready["checks"]["journal"].as_str().unwrap().to_owned();
        (journal != "ok").then_some(journal)
    })
    .await;
    assert!(journal.contains(&folder.display().to_string()), "{journal}");
    // Requests are still served.
    owner.get(&format!("/v1/keys?project_id={}", owner.project)).await.ok();
    std::fs::rename(place.path().join("elsewhere"), &folder).unwrap();
    eventually("journal created again", async || {
        let ready = app.anonymous().get("/readyz").await.ok();
        (ready["checks"]["journal"] == "ok").then_some(())
    })
    .await;
}
