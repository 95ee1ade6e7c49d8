//! The audit trail contains every write that had an effect exactly once, in chains without a gap or a fork, even if
//! servers are killed while they write or seal.

use futures_util::future::LocalBoxFuture;
use sqlx::PgPool;

use super::{Invariant, RunEnd, Verdict};
use crate::servers::cluster::eventually;

/// Violations of the guarantee, each with a query that counts it.
const VIOLATIONS: [(&str, &str); 7] = [
    (
        "entries that do not link to the previous entry of their chain",
        "SELECT count(*) FROM (
             SELECT seq, prev_hash, row_number() OVER w AS place,
                    coalesce(lag(hash) OVER w, decode(repeat('00', 32), 'hex')) AS before
             FROM audit_entries WINDOW w AS (PARTITION BY project_id ORDER BY id)) e
         WHERE seq <> place OR prev_hash <> before",
    ),
    (
        "entries with a wrong hash",
        "SELECT count(*) FROM audit_entries
         WHERE payload_hash <> sha256(salt || payload)
            OR hash <> sha256(prev_hash || uuid_send(project_id) || int8send(seq) || payload_hash)",
    ),
    (
        // Everyone continues after this ID, in every project.
        "entries after the sealer's last ID",
        "SELECT count(*) FROM audit_entries WHERE id > (SELECT last_id FROM audit_sealer)",
    ),
    (
        "chains whose head is not their last entry",
        "SELECT count(*) FROM audit_chains c
         WHERE NOT EXISTS (SELECT FROM audit_entries e WHERE e.project_id = c.project_id AND e.seq = c.seq AND e.hash = c.hash)
            OR EXISTS (SELECT FROM audit_entries e WHERE e.project_id = c.project_id AND e.seq > c.seq)",
    ),
    (
        // The operator created the first project.
        "resources whose creation is not recorded once",
        "SELECT count(*) FROM (
             SELECT 'proj_' AS prefix, 'project.created' AS action, id FROM projects WHERE name <> 'Chaos'
             UNION ALL SELECT 'key_', 'key.created', id FROM keys
             UNION ALL SELECT 'tok_', 'token.created', id FROM tokens
             UNION ALL SELECT 'wh_', 'webhook.created', id FROM webhooks
             UNION ALL SELECT 'res_', 'resource.created', id FROM resources) things
         FULL JOIN (SELECT action, target_id, count(*) AS entries FROM audit_entries
                    WHERE action IN ('project.created', 'key.created', 'token.created', 'webhook.created',
                                     'resource.created') GROUP BY 1, 2) told
           ON told.action = things.action AND told.target_id = prefix || ltrim(replace(id::text, '-', ''), '0')
         WHERE things.id IS NULL OR told.entries IS DISTINCT FROM 1",
    ),
    (
        "resources whose deletion is not recorded once",
        "SELECT count(*) FROM (SELECT id FROM resources WHERE phase = 'deleted') gone
         FULL JOIN (SELECT target_id, count(*) AS entries FROM audit_entries WHERE action = 'resource.deleted' GROUP BY 1) told
           ON told.target_id = 'res_' || ltrim(replace(id::text, '-', ''), '0')
         WHERE gone.id IS NULL OR told.entries IS DISTINCT FROM 1",
    ),
    (
        "projects whose changes are not recorded once each",
        "SELECT count(*) FROM projects p
         WHERE p.version - 1 <> (SELECT count(*) FROM audit_entries e
                                 WHERE e.project_id = p.id AND e.action = 'project.updated')",
    ),
];

pub struct Recorded;

impl Invariant for Recorded {
    fn check<'a>(&'a self, end: &'a RunEnd<'a>) -> LocalBoxFuture<'a, Verdict> {
        Box::pin(async {
            let db: &PgPool = &end.cluster.db;
            let count = async |sql: &'static str| sqlx::query_scalar::<_, i64>(sql).fetch_one(db).await.unwrap();
            let staged = async || count("SELECT count(*) FROM audit_staged").await;
            eventually("everything is sealed", async || (staged().await == 0).then_some(())).await;
            let mut verdict = Verdict::default();
            for (what, sql) in VIOLATIONS {
                let broken = count(sql).await;
                verdict.require(broken == 0, || format!("{broken} {what}"));
            }
            verdict.record("entries sealed", count("SELECT count(*) FROM audit_entries").await);
            verdict
        })
    }
}
