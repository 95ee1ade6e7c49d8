//! The audit trail, as it is written: each write is told of exactly once, in a chain that nobody forks.

use std::collections::HashMap;

use cloudapi::{
    audit::{
        chain::{self, GENESIS},
        model::DEPLOYMENT,
    },
    base::id::{AuditId, ProjectId},
};
use serde_json::{Value, json};

use crate::support::{Identity, TestApp, eventually};

/// A sealed entry as the database has it.
#[derive(sqlx::FromRow)]
struct Row {
    project_id: ProjectId,
    id: AuditId,
    seq: i64,
    payload: Vec<u8>,
    salt: [u8; 16],
    payload_hash: [u8; 32],
    prev_hash: [u8; 32],
    hash: [u8; 32],
}

/// Waits until all that was staged is sealed, and gives the whole trail in the order of ids, checkpoints left out. Each
/// chain has been checked, hash by hash.
async fn sealed(app: &TestApp) -> Vec<Value> {
    eventually("everything sealed", async || {
        let staged: i64 = sqlx::query_scalar("SELECT count(*) FROM audit_staged").fetch_one(&app.db).await.unwrap();
        (staged == 0).then_some(())
    })
    .await;
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT project_id, id, seq, payload, salt, payload_hash, prev_hash, hash FROM audit_entries ORDER BY id",
    )
    .fetch_all(&app.db)
    .await
    .unwrap();
    let mut ends = HashMap::new();
    let mut entries = Vec::new();
    for row in rows {
        let (seq, hash) = ends.entry(row.project_id).or_insert((0, GENESIS));
        assert_eq!((row.seq, row.prev_hash), (*seq + 1, *hash), "a gap or a fork");
        assert_eq!(row.payload_hash, chain::payload_hash(&row.salt, &row.payload));
        assert_eq!(row.hash, chain::entry_hash(&row.prev_hash, row.project_id, row.seq, &row.payload_hash));
        (*seq, *hash) = (row.seq, row.hash);
        let entry: Value = serde_json::from_slice(&row.payload).unwrap();
        assert_eq!(entry.to_string().as_bytes(), row.payload, "what is stored is not canonical");
        let project = (row.project_id != DEPLOYMENT).then(|| row.project_id.to_string());
        assert_eq!((&entry["id"], &entry["seq"]), (&json!(row.id), &json!(row.seq)));
        assert_eq!(entry["project_id"], json!(project));
        if entry["action"] != "audit.checkpoint" {
            entries.push(entry);
        }
    }
    entries
}

#[tokio::test]
async fn a_write_is_told_of_once_with_who_did_what() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let made = owner
        .request("POST", "/v1/keys")
        .header("user-agent", "ci/1")
        .json(&json!({ "project_id": owner.project }))
        .send()
        .await;
    let entries = sealed(&app).await;
    assert_eq!(entries.len(), 2, "{entries:#?}");
    let entry = &entries[1];
    assert_eq!(entry["action"], "key.created");
    assert_eq!(entry["request_id"], made.header("x-request-id").unwrap());
    assert_eq!(entry["user_agent"], "ci/1");
    assert_eq!(entry["source_ip"], "127.0.0.1");
    assert_eq!(entry["target"], json!({ "id": made["id"], "type": "key" }));
    let actor = json!({ "credential_id": owner.id, "id": owner.user_id, "type": "user" });
    assert_eq!(entry["actor"], actor);
}
