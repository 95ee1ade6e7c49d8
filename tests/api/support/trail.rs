//! The audit trail in the database.

use std::collections::HashMap;

use cloudapi::{
    audit::{
        chain::{self, GENESIS},
        model::{DEPLOYMENT, IndexedColumns},
    },
    base::id::{AuditId, ProjectId},
};
use serde_json::{Value, json};
use sqlx::PgPool;

use super::eventually;

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
    action: String,
    actor_id: Option<String>,
    target_id: Option<String>,
}

/// How many entries are staged but not sealed.
pub async fn staged(db: &PgPool) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM audit_staged").fetch_one(db).await.unwrap()
}

/// Waits until all staged entries are sealed. Returns all entries except checkpoints, ordered by ID. Checks every link
/// of every chain, and every indexed column.
pub async fn sealed(db: &PgPool) -> Vec<Value> {
    eventually("everything is sealed", async || (staged(db).await == 0).then_some(())).await;
    let rows: Vec<Row> = sqlx::query_as("SELECT * FROM audit_entries ORDER BY id").fetch_all(db).await.unwrap();
    let mut ends = HashMap::new();
    let mut entries = Vec::new();
    for row in rows {
        let (seq, hash) = ends.entry(row.project_id).or_insert((0, GENESIS));
        assert_eq!((row.seq, row.prev_hash), (*seq + 1, *hash), "a gap or a fork");
        assert_eq!(row.payload_hash, chain::payload_hash(&row.salt, &row.payload));
        assert_eq!(row.hash, chain::entry_hash(&row.prev_hash, row.project_id, row.seq, &row.payload_hash));
        (*seq, *hash) = (row.seq, row.hash);
        let entry: Value = serde_json::from_slice(&row.payload).unwrap();
        assert_eq!(entry.to_string().as_bytes(), row.payload, "the stored entry is not canonical");
        let columns = IndexedColumns { action: row.action, actor_id: row.actor_id, target_id: row.target_id };
        assert_eq!(IndexedColumns::from_entry(entry.as_object().unwrap()), columns);
        let project = (row.project_id != DEPLOYMENT).then(|| row.project_id.to_string());
        assert_eq!((&entry["id"], &entry["seq"]), (&json!(row.id), &json!(row.seq)));
        assert_eq!(entry["project_id"], json!(project));
        if columns.action != "audit.checkpoint" {
            entries.push(entry);
        }
    }
    entries
}

/// The entries added since the trail had `known` entries.
pub async fn sealed_since(db: &PgPool, known: usize) -> Vec<Value> {
    sealed(db).await.split_off(known)
}
