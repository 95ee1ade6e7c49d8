//! Retention: removal of old entries.

use std::{sync::Arc, time::Duration};

use cloudapi::audit::sealing::retention::Retention;
use serde_json::json;

use super::{Trail, actions, sealed};
use crate::support::TestApp;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn retention(app: &TestApp, months: u32) -> Retention {
    Retention::new(Arc::clone(&app.signer), months)
}

#[tokio::test(flavor = "multi_thread")]
async fn old_months_are_removed_behind_a_signed_anchor_and_the_rest_verifies() {
    let app = TestApp::start().await;
    let trail = Trail::of(&app, 5).await;
    let first = trail.entries("").await[0].clone();
    let id = first["id"].as_str().unwrap();
    trail.operator.run(&["audit", "redact", "--project", trail.project(), id, "--reason", "x"]).await;
    app.clock.advance(62 * DAY);
    let session = app.another_session(&trail.owner).await;
    let kept = session.key_with(json!({ "name": "kept" })).await;
    sealed(&app).await;
    let trail = Trail { owner: session, ..trail };
    let before = trail.export().await;

    retention(&app, 1).apply(&app.db, app.clock.now()).await.unwrap();
    sealed(&app).await;
    let entries = trail.entries("").await;
    // Advancing the clock made a checkpoint due, which may come first.
    let first = entries.iter().find(|entry| entry["action"] != "audit.checkpoint").unwrap();
    assert_eq!(first["target"]["id"], kept.id);
    let trimmed = entries.iter().find(|entry| entry["action"] == "audit.retention_applied").unwrap();
    let last_removed = entries[0]["seq"].as_i64().unwrap() - 1;
    assert_eq!(trimmed["changes"], json!({ "from_seq": 1, "to_seq": last_removed }));
    assert_eq!(trimmed["actor"], json!({ "type": "system", "id": null, "credential_id": null }));

    let export = trail.export().await;
    assert!(export.starts_with("{\"anchor\":{"), "{export}");
    let checkpoint_file = trail.operator.file("held.json", before.lines().last().unwrap());
    let intact =
        trail.operator.verify(&export, &["--key", &trail.key(), "--checkpoint", &checkpoint_file]).expect_intact();
    assert_eq!((&intact["removed_up_to"], &intact["checkpoints_found"]), (&json!(last_removed), &json!(1)));
    // A checkpoint of removed entries is counted as removed, not as missing.
    let earlier = trail.app.signer.sign(
        cloudapi::audit::chain::checkpoint::Statement::Checkpoint,
        trail.project().parse().unwrap(),
        1,
        [7; 32],
        app.clock.now(),
    );
    let earlier = serde_json::to_string(&cloudapi::audit::chain::line::SignedText::from_statement(&earlier)).unwrap();
    let checkpoint_file = trail.operator.file("held.json", &earlier);
    let intact = trail.operator.verify(&export, &["--checkpoint", &checkpoint_file]).expect_intact();
    assert_eq!(intact["checkpoints_removed"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_servers_remove_old_entries_once() {
    let app = TestApp::start().await;
    let trail = Trail::of(&app, 5).await;
    app.clock.advance(62 * DAY);
    let now = app.clock.now();
    let trim = async || retention(&app, 1).apply(&app.db, now).await.unwrap();
    tokio::join!(trim(), trim(), trim(), trim());
    trim().await;
    sealed(&app).await;
    let session = app.another_session(&trail.owner).await;
    let trail = Trail { owner: session, ..trail };
    let entries = trail.entries("&action=audit.retention_applied").await;
    assert_eq!(entries.iter().map(|entry| &entry["changes"]["from_seq"]).collect::<Vec<_>>(), [&json!(1)]);
    trail.verify(&[]).await.expect_intact();

    // An inactive chain does not get an entry every month.
    let others = "SELECT count(*) FROM audit_entries WHERE action = 'audit.retention_applied'";
    let count = async || sqlx::query_scalar::<_, i64>(others).fetch_one(&app.db).await.unwrap();
    let stranger = app.owner().await;
    sealed(&app).await;
    for _ in 0..3 {
        app.clock.advance(62 * DAY);
        retention(&app, 1).apply(&app.db, app.clock.now()).await.unwrap();
        sealed(&app).await;
    }
    drop(stranger);
    assert!(count().await <= 3, "{}", count().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn recent_entries_are_kept_and_a_wrong_clock_removes_nothing() {
    let app = TestApp::start().await;
    let trail = Trail::of(&app, 2).await;
    retention(&app, 1).apply(&app.db, app.clock.now()).await.unwrap();
    app.clock.advance(62 * DAY);
    retention(&app, 3).apply(&app.db, app.clock.now()).await.unwrap();
    let wrong = retention(&app, 1);
    wrong.system_clock.set_forward(DAY);
    let mut wrong = wrong;
    wrong.apply(&app.db, app.clock.now()).await.unwrap();
    let session = app.another_session(&trail.owner).await;
    let trail = Trail { owner: session, ..trail };
    let entries = trail.entries("").await;
    assert_eq!(actions(&entries)[..3], ["project.created", "key.created", "key.created"]);
    assert!(!trail.export().await.contains("anchor"));
}
