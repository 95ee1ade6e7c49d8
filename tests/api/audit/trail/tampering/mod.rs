//! Tampering by an attacker with full database access. Verification detects each change: most from the export alone;
//! a rebuilt or truncated chain with a checkpoint or key that was kept elsewhere.

mod chains;
mod entries;

use cloudapi::{
    audit::chain::{self, Hash, Salt},
    base::id::{AuditId, ProjectId},
};

use super::{Trail, data, sealed};

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
        self.sealed().await;
        self.operator.file("held.json", export.lines().last().unwrap())
    }
}

/// The same entry with another IP address.
fn forge_payload(payload: &[u8]) -> Vec<u8> {
    String::from_utf8(payload.to_vec()).unwrap().replace("127.0.0.1", "203.0.113.9").into_bytes()
}
