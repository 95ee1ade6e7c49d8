//! Chains that were truncated, rebuilt or forged, and redactions and anchors that were tampered with.

use std::time::Duration;

use cloudapi::{
    audit::chain::{
        self, GENESIS, Salt,
        checkpoint::{Signer, Statement},
        line::SignedText,
    },
    base::{hex, server_key::ServerKey},
};
use serde_json::json;

use super::{Trail, data, forge_payload, sealed};
use crate::support::{Identity, TestApp, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn truncated_chain_is_detected() {
    let app = TestApp::start().await;
    let trail = Trail::of(&app, 5).await;
    let checkpoint_file = trail.checkpoint_file().await;
    trail.tamper("DELETE FROM audit_entries WHERE project_id = $1 AND seq > 4").await;
    trail.verify(&[]).await.expect_broken(None, "the chain was truncated or extended");
    sealed(&app).await;
    // A careful truncation is consistent. Only a kept checkpoint reveals it.
    trail
        .tamper(
            "DELETE FROM audit_entries WHERE project_id = $1 AND seq > 4;
             UPDATE audit_chains c SET seq = e.seq, hash = e.hash FROM audit_entries e
             WHERE c.project_id = $1 AND e.project_id = $1 AND e.seq = 4",
        )
        .await;
    let export = trail.export().await;
    trail.operator.verify(&export, &[]).expect_intact();
    trail
        .operator
        .verify(&export, &["--checkpoint", &checkpoint_file])
        .expect_broken(None, "the chain was truncated, or the export is older");
    // Continuing the truncated chain does not hide it.
    sealed(&app).await;
    trail.owner.key().await;
    sealed(&app).await;
    trail
        .verify(&["--checkpoint", &checkpoint_file])
        .await
        .expect_broken(6, "does not have the hash that a checkpoint");
}

#[tokio::test(flavor = "multi_thread")]
async fn rebuilt_chain_is_detected_by_a_kept_checkpoint() {
    let app = TestApp::shared().await;
    let trail = Trail::of(&app, 5).await;
    let checkpoint_file = trail.checkpoint_file().await;
    trail.rebuild(2).await;
    trail.verify(&[]).await.expect_intact();
    trail
        .verify(&["--checkpoint", &checkpoint_file])
        .await
        .expect_broken(6, "does not have the hash that a checkpoint");
}

#[tokio::test(flavor = "multi_thread")]
async fn rebuilt_chain_is_detected_by_a_checkpoint_inside_it() {
    let app = TestApp::start().await;
    let trail = Trail::of(&app, 5).await;
    app.clock.advance(Duration::from_secs(61));
    eventually("a checkpoint", async || {
        let path = format!("/v1/audit-logs/checkpoints?project_id={}", trail.project());
        (!data(&trail.owner.get(&path).await.ok()).is_empty()).then_some(())
    })
    .await;
    sealed(&app).await;
    trail.rebuild(2).await;
    // The checkpoint signs the original chain, and the rebuilt one cannot be signed without the key.
    trail.verify(&[]).await.expect_broken(7, "is a checkpoint of");
}

#[tokio::test(flavor = "multi_thread")]
async fn export_forged_with_another_key_is_detected() {
    let app = TestApp::shared().await;
    let trail = Trail::of(&app, 3).await;
    let checkpoint_file = trail.checkpoint_file().await;
    let mut prev_hash = GENESIS;
    let mut forged = String::new();
    let export = trail.export().await;
    let lines: Vec<&str> = export.lines().collect();
    let (_, entries) = lines.split_last().unwrap();
    for (seq, line) in (1..).zip(entries) {
        let (said, _) = line.split_once(",\"salt\":").unwrap();
        let payload = forge_payload(format!("{said}}}").as_bytes());
        let salt: Salt = [7; 16];
        let hash = chain::entry_hash(&prev_hash, trail.chain(), seq, &chain::payload_hash(&salt, &payload));
        let said = String::from_utf8(payload).unwrap();
        let said = said.strip_suffix('}').unwrap();
        let (salt, before, after) = (hex::encode(&salt), hex::encode(&prev_hash), hex::encode(&hash));
        forged += &format!("{said},\"salt\":\"{salt}\",\"prev_hash\":\"{before}\",\"hash\":\"{after}\"}}\n");
        prev_hash = hash;
    }
    let forger = Signer::new(&ServerKey::generate());
    let seq = i64::try_from(entries.len()).unwrap();
    let signed = forger.sign(Statement::Checkpoint, trail.chain(), seq, prev_hash, app.clock.now());
    forged += &(json!({ "checkpoint": 0 })
        .to_string()
        .replace('0', &serde_json::to_string(&SignedText::from_statement(&signed)).unwrap())
        + "\n");
    let intact = trail.operator.verify(&forged, &[]).expect_intact();
    assert_eq!(intact["key_from"], "export", "the report must say that the key is from the export");
    trail.operator.verify(&forged, &["--key", &trail.key()]).expect_broken(None, "is signed with the key");
    trail
        .operator
        .verify(&forged, &["--checkpoint", &checkpoint_file])
        .expect_broken(4, "does not have the hash that a checkpoint");
    // A forged signature with the deployment's public key.
    let own = hex::encode(&forger.public_key());
    trail.operator.verify(&forged.replace(&own, &trail.key()), &[]).expect_broken(None, "has an invalid signature");
}

#[tokio::test(flavor = "multi_thread")]
async fn unrecorded_redaction_is_detected() {
    let app = TestApp::shared().await;
    let trail = Trail::of(&app, 3).await;
    trail
        .tamper("UPDATE audit_entries SET payload = NULL, salt = NULL, action = NULL, actor_id = NULL, target_id = NULL, is_event = false WHERE project_id = $1 AND seq = 3")
        .await;
    trail.verify(&[]).await.expect_broken(3, "has no content, but no entry records its redaction");
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_record_of_a_redaction_is_detected() {
    let app = TestApp::start().await;
    let trail = Trail::of(&app, 3).await;
    let id = trail.row(2).await.id.to_string();
    let (done, _, errors) =
        trail.operator.run(&["audit", "redact", "--project", trail.project(), &id, "--reason", "x"]).await;
    assert!(done, "{errors}");
    trail.verify(&[]).await.expect_intact();
    sealed(&app).await;
    let seq = "SELECT seq FROM audit_entries WHERE project_id = $1 AND action = 'audit.redacted'";
    let seq: i64 = sqlx::query_scalar(seq).bind(trail.project_uuid()).fetch_one(&app.db).await.unwrap();
    trail.tamper("DELETE FROM audit_entries WHERE project_id = $1 AND action = 'audit.redacted'").await;
    trail.verify(&[]).await.expect_broken(seq + 1, "the entries between them are missing");
    sealed(&app).await;
    trail
        .tamper(
            "DELETE FROM audit_entries WHERE project_id = $1 AND action = 'audit.exported';
             UPDATE audit_chains c SET seq = e.seq, hash = e.hash FROM audit_entries e
             WHERE c.project_id = $1 AND e.project_id = $1 AND e.seq = (SELECT max(seq) FROM audit_entries WHERE project_id = $1)",
        )
        .await;
    trail.verify(&[]).await.expect_broken(2, "has no content, but no entry records its redaction");
}

#[tokio::test(flavor = "multi_thread")]
async fn modified_or_deleted_anchor_is_detected() {
    let app = TestApp::start().await;
    let trail = Trail::of(&app, 5).await;
    app.clock.advance(Duration::from_secs(62 * 24 * 3600));
    let session = app.another_session(&trail.owner).await;
    let trail = Trail { owner: session, ..trail };
    trail.owner.key().await;
    trail.owner.key().await;
    sealed(&app).await;
    let signer = std::sync::Arc::clone(&app.signer);
    cloudapi::audit::sealing::retention::Retention::new(signer, 1).apply(&app.db, app.clock.now()).await.unwrap();
    sealed(&app).await;
    let intact = trail.verify(&[]).await.expect_intact();
    let removed = intact["removed_up_to"].as_i64().unwrap();
    // Removes one more entry and changes the anchor accordingly.
    trail
        .tamper(
            "UPDATE audit_anchors a SET seq = e.seq, hash = e.hash FROM audit_entries e
             WHERE a.project_id = $1 AND e.project_id = $1 AND e.seq = (SELECT min(seq) FROM audit_entries WHERE project_id = $1);
             DELETE FROM audit_entries e USING audit_anchors a WHERE e.project_id = $1 AND a.project_id = $1 AND e.seq <= a.seq",
        )
        .await;
    trail.verify(&[]).await.expect_broken(None, "has an invalid signature");
    trail.tamper("DELETE FROM audit_anchors WHERE project_id = $1").await;
    trail.verify(&[]).await.expect_broken(removed + 2, "is the first line, but the");
}
