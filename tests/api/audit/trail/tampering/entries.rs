//! Entries that were modified, deleted, inserted or swapped.

use cloudapi::{audit::chain, base::id::AuditId};
use serde_json::Value;

use super::{Trail, forge_payload, sealed};
use crate::support::TestApp;

#[tokio::test(flavor = "multi_thread")]
async fn modified_payload_is_detected() {
    let app = TestApp::shared().await;
    let trail = Trail::of(&app, 5).await;
    let row = trail.row(3).await;
    sqlx::query("UPDATE audit_entries SET payload = $2 WHERE id = $1")
        .bind(row.id)
        .bind(forge_payload(&row.payload))
        .execute(&app.db)
        .await
        .unwrap();
    trail.verify(&[]).await.expect_broken(None, "is stored with columns that differ from its content");
}

#[tokio::test(flavor = "multi_thread")]
async fn modified_payload_with_matching_payload_hash_is_detected() {
    let app = TestApp::shared().await;
    let trail = Trail::of(&app, 5).await;
    let row = trail.row(3).await;
    let payload = forge_payload(&row.payload);
    sqlx::query("UPDATE audit_entries SET payload = $2, payload_hash = $3 WHERE id = $1")
        .bind(row.id)
        .bind(&payload)
        .bind(chain::payload_hash(&row.salt, &payload))
        .execute(&app.db)
        .await
        .unwrap();
    trail.verify(&[]).await.expect_broken(3, "has a hash that does not match its content");
}

#[tokio::test(flavor = "multi_thread")]
async fn modified_entry_with_all_its_hashes_recomputed_is_detected() {
    let app = TestApp::shared().await;
    let trail = Trail::of(&app, 5).await;
    let row = trail.row(3).await;
    let (payload, prev_hash) = (forge_payload(&row.payload), row.prev_hash);
    trail.forge(row, payload, prev_hash).await;
    trail.verify(&[]).await.expect_broken(4, "does not follow entry 3");
}

#[tokio::test(flavor = "multi_thread")]
async fn modified_last_entry_with_all_its_hashes_recomputed_is_detected() {
    let app = TestApp::shared().await;
    let trail = Trail::of(&app, 5).await;
    let row = trail.row(6).await;
    let (payload, prev_hash) = (forge_payload(&row.payload), row.prev_hash);
    trail.forge(row, payload, prev_hash).await;
    trail.verify(&[]).await.expect_broken(None, "does not sign the hash of entry 6");
}

#[tokio::test(flavor = "multi_thread")]
async fn modified_salt_is_detected() {
    let app = TestApp::shared().await;
    let trail = Trail::of(&app, 2).await;
    trail
        .tamper("UPDATE audit_entries SET salt = decode(repeat('00', 16), 'hex') WHERE project_id = $1 AND seq = 2")
        .await;
    trail.verify(&[]).await.expect_broken(None, "is stored with columns that differ from its content");
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_entry_is_detected() {
    let app = TestApp::shared().await;
    let trail = Trail::of(&app, 5).await;
    trail.tamper("DELETE FROM audit_entries WHERE project_id = $1 AND seq = 3").await;
    trail.verify(&[]).await.expect_broken(4, "follows entry 2: the entries between them are missing");
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_first_entries_are_detected() {
    let app = TestApp::shared().await;
    let trail = Trail::of(&app, 5).await;
    trail.tamper("DELETE FROM audit_entries WHERE project_id = $1 AND seq < 3").await;
    trail.verify(&[]).await.expect_broken(3, "is the first line, but the 2 entries before it are missing");
}

#[tokio::test(flavor = "multi_thread")]
async fn deletion_of_all_entries_is_detected() {
    let app = TestApp::start().await;
    let trail = Trail::of(&app, 5).await;
    trail.tamper("DELETE FROM audit_entries WHERE project_id = $1").await;
    trail.verify(&[]).await.expect_broken(None, "the chain was truncated or extended");
    let checkpoint_file = trail.checkpoint_file().await;
    trail.tamper("DELETE FROM audit_chains WHERE project_id = $1").await;
    trail
        .verify(&["--checkpoint", &checkpoint_file])
        .await
        .expect_broken(None, "the chain was truncated, or the export is older");
}

#[tokio::test(flavor = "multi_thread")]
async fn inserted_entry_is_detected() {
    let app = TestApp::start().await;
    let trail = Trail::of(&app, 2).await;
    // Sealed separately, so that an ID before it is free.
    trail.owner.key().await;
    sealed(&app).await;
    let (before, after) = (trail.row(3).await, trail.row(4).await);
    let id = AuditId::from_u128(before.id.as_u128() + 1);
    assert!(id < after.id);
    let said = String::from_utf8(forge_payload(&before.payload)).unwrap();
    let payload = said.replace(&before.id.to_string(), &id.to_string()).replace("\"seq\":3", "\"seq\":4").into_bytes();
    let payload_hash = chain::payload_hash(&before.salt, &payload);
    sqlx::query(
        "INSERT INTO audit_entries (project_id, id, seq, payload, salt, payload_hash, prev_hash, hash, action, actor_id, target_id, is_event)
         SELECT project_id, $3, 4, $4, salt, $5, hash, $6, action, actor_id, target_id, is_event
         FROM audit_entries WHERE project_id = $1 AND id = $2",
    )
    .bind(trail.project_uuid())
    .bind(before.id)
    .bind(id)
    .bind(&payload)
    .bind(payload_hash)
    .bind(chain::entry_hash(&before.hash, trail.chain(), 4, &payload_hash))
    .execute(&app.db)
    .await
    .unwrap();
    trail.verify(&[]).await.expect_broken(4, "follows entry 4: it was inserted");
}

#[tokio::test(flavor = "multi_thread")]
async fn swapped_entries_are_detected() {
    let app = TestApp::start().await;
    let trail = Trail::of(&app, 5).await;
    let (one, other) = (trail.row(3).await.id, trail.row(4).await.id);
    for (from, to) in [(one, AuditId::LAST), (other, one), (AuditId::LAST, other)] {
        sqlx::query("UPDATE audit_entries SET id = $2 WHERE id = $1")
            .bind(from)
            .bind(to)
            .execute(&app.db)
            .await
            .unwrap();
    }
    trail.verify(&[]).await.expect_broken(None, "is stored with columns that differ from its content");
}

#[tokio::test(flavor = "multi_thread")]
async fn swapped_lines_of_an_export_are_detected() {
    let app = TestApp::shared().await;
    let trail = Trail::of(&app, 5).await;
    let export = trail.export().await;
    let mut lines: Vec<&str> = export.lines().collect();
    lines.swap(2, 3);
    trail
        .operator
        .verify(&(lines.join("\n") + "\n"), &[])
        .expect_broken(4, "follows entry 2: the entries between them are missing");
}

#[tokio::test(flavor = "multi_thread")]
async fn modified_id_or_seq_is_detected() {
    let app = TestApp::start().await;
    let trail = Trail::of(&app, 5).await;
    let id = trail.row(6).await.id;
    let other = AuditId::from_u128(id.as_u128() + 1);
    sqlx::query("UPDATE audit_entries SET id = $2 WHERE id = $1").bind(id).bind(other).execute(&app.db).await.unwrap();
    trail.verify(&[]).await.expect_broken(None, "is stored with columns that differ from its content");
    sqlx::query("UPDATE audit_entries SET id = $1, seq = 1000000 WHERE id = $2")
        .bind(id)
        .bind(other)
        .execute(&app.db)
        .await
        .unwrap();
    trail.verify(&[]).await.expect_broken(None, "but the last entry is 5");
}

#[tokio::test(flavor = "multi_thread")]
async fn modified_search_columns_are_detected() {
    let app = TestApp::shared().await;
    let trail = Trail::of(&app, 3).await;
    for (change, undo) in [
        (
            "UPDATE audit_entries SET action = 'key.revoked' WHERE project_id = $1 AND seq = 2",
            "UPDATE audit_entries SET action = 'key.created' WHERE project_id = $1 AND seq = 2",
        ),
        (
            "UPDATE audit_entries SET is_event = false WHERE project_id = $1 AND seq = 2",
            "UPDATE audit_entries SET is_event = true WHERE project_id = $1 AND seq = 2",
        ),
        (
            "UPDATE audit_entries SET actor_id = target_id, target_id = actor_id WHERE project_id = $1 AND seq = 2",
            "UPDATE audit_entries SET actor_id = target_id, target_id = actor_id WHERE project_id = $1 AND seq = 2",
        ),
    ] {
        trail.tamper(change).await;
        trail.verify(&[]).await.expect_broken(None, "is stored with columns that differ from its content");
        trail.tamper(undo).await;
        trail.verify(&[]).await.expect_intact();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn entry_of_another_project_is_detected() {
    let app = TestApp::shared().await;
    let trail = Trail::of(&app, 3).await;
    let other = Trail::of(&app, 3).await;
    let (ours, theirs) = (trail.export().await, other.export().await);
    let lines: Vec<&str> = ours
        .lines()
        .zip(theirs.lines())
        .enumerate()
        .map(|(at, (our, their))| if at == 2 { their } else { our })
        .collect();
    let verdict = trail.operator.verify(&(lines.join("\n") + "\n"), &[]);
    assert_eq!(verdict.code, 1, "{verdict:?}");
    assert_eq!(verdict.said["broken"]["line"], Value::from(3));
}
