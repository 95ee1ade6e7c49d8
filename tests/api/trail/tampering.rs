//! Tampering by an attacker with full database access. Verification detects each change: most from the export alone;
//! a rebuilt or truncated chain with a checkpoint or key that was kept elsewhere.

use std::time::Duration;

use cloudapi::{
    audit::chain::{
        self, GENESIS, Hash, Salt,
        checkpoint::{Signer, Statement},
        line::SignedText,
    },
    base::{
        hex,
        id::{AuditId, ProjectId},
        server_key::ServerKey,
    },
};
use serde_json::{Value, json};

use super::{Trail, data, sealed};
use crate::support::{Identity, TestApp, eventually};

/// A row of the trail. Forged hashes are computed like the sealer does.
#[derive(sqlx::FromRow)]
struct Row {
    id: AuditId,
    seq: i64,
    payload: Vec<u8>,
    salt: Salt,
    prev_hash: Hash,
    hash: Hash,
}

impl Trail<'_> {
    fn chain(&self) -> ProjectId {
        self.project().parse().unwrap()
    }

    async fn row(&self, seq: i64) -> Row {
        sqlx::query_as(
            "SELECT id, seq, payload, salt, prev_hash, hash FROM audit_entries WHERE project_id = $1 AND seq = $2",
        )
        .bind(self.project_uuid())
        .bind(seq)
        .fetch_one(&self.app.db)
        .await
        .unwrap()
    }

    /// Recomputes the hashes of a row and stores it.
    async fn forge(&self, mut row: Row, payload: Vec<u8>, prev_hash: Hash) -> Row {
        let payload_hash = chain::payload_hash(&row.salt, &payload);
        (row.hash, row.prev_hash) = (chain::entry_hash(&prev_hash, self.chain(), row.seq, &payload_hash), prev_hash);
        sqlx::query(
            "UPDATE audit_entries SET payload = $3, payload_hash = $4, prev_hash = $5, hash = $6 WHERE project_id = $1 AND seq = $2",
        )
        .bind(self.project_uuid())
        .bind(row.seq)
        .bind(&payload)
        .bind(payload_hash)
        .bind(row.prev_hash)
        .bind(row.hash)
        .execute(&self.app.db)
        .await
        .unwrap();
        row.payload = payload;
        row
    }

    /// Modifies an entry and recomputes every hash from there on, so that the trail is consistent again.
    async fn rebuild(&self, from: i64) {
        let end: i64 = sqlx::query_scalar("SELECT seq FROM audit_chains WHERE project_id = $1")
            .bind(self.project_uuid())
            .fetch_one(&self.app.db)
            .await
            .unwrap();
        let mut prev_hash = self.row(from).await.prev_hash;
        for seq in from..=end {
            let row = self.row(seq).await;
            let payload = if seq == from { forge_payload(&row.payload) } else { row.payload.clone() };
            prev_hash = self.forge(row, payload, prev_hash).await.hash;
        }
        sqlx::query("UPDATE audit_chains SET hash = $2 WHERE project_id = $1")
            .bind(self.project_uuid())
            .bind(prev_hash)
            .execute(&self.app.db)
            .await
            .unwrap();
    }

    /// Keeps the last line of an export in a file.
    async fn checkpoint_file(&self) -> String {
        let export = self.export().await;
        sealed(self.app).await;
        self.operator.file("held.json", export.lines().last().unwrap())
    }
}

/// The same entry with another IP address.
fn forge_payload(payload: &[u8]) -> Vec<u8> {
    String::from_utf8(payload.to_vec()).unwrap().replace("127.0.0.1", "203.0.113.9").into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn modified_payload_is_detected() {
    let app = TestApp::start().await;
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
    let app = TestApp::start().await;
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
    let app = TestApp::start().await;
    let trail = Trail::of(&app, 5).await;
    let row = trail.row(3).await;
    let (payload, prev_hash) = (forge_payload(&row.payload), row.prev_hash);
    trail.forge(row, payload, prev_hash).await;
    trail.verify(&[]).await.expect_broken(4, "does not follow entry 3");
}

#[tokio::test(flavor = "multi_thread")]
async fn modified_last_entry_with_all_its_hashes_recomputed_is_detected() {
    let app = TestApp::start().await;
    let trail = Trail::of(&app, 5).await;
    let row = trail.row(6).await;
    let (payload, prev_hash) = (forge_payload(&row.payload), row.prev_hash);
    trail.forge(row, payload, prev_hash).await;
    trail.verify(&[]).await.expect_broken(None, "does not sign the hash of entry 6");
}

#[tokio::test(flavor = "multi_thread")]
async fn modified_salt_is_detected() {
    let app = TestApp::start().await;
    let trail = Trail::of(&app, 2).await;
    trail
        .tamper("UPDATE audit_entries SET salt = decode(repeat('00', 16), 'hex') WHERE project_id = $1 AND seq = 2")
        .await;
    trail.verify(&[]).await.expect_broken(None, "is stored with columns that differ from its content");
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_entry_is_detected() {
    let app = TestApp::start().await;
    let trail = Trail::of(&app, 5).await;
    trail.tamper("DELETE FROM audit_entries WHERE project_id = $1 AND seq = 3").await;
    trail.verify(&[]).await.expect_broken(4, "follows entry 2: the entries between them are missing");
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_first_entries_are_detected() {
    let app = TestApp::start().await;
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
    let app = TestApp::start().await;
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
    let app = TestApp::start().await;
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
    let app = TestApp::start().await;
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
    let app = TestApp::start().await;
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
    let app = TestApp::start().await;
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

#[tokio::test(flavor = "multi_thread")]
async fn entry_of_another_project_is_detected() {
    let app = TestApp::start().await;
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
