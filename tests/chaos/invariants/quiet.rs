//! Once clients have stopped, no transaction and no lock of an interrupted request remains.

use futures_util::future::LocalBoxFuture;

use super::{Invariant, RunEnd, Verdict};
use crate::servers::cluster::eventually;

/// Active connections of servers. Their own work, such as flushing usage, ends within a moment; leftovers stay.
const BUSY: &str = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'cloudapi%' AND state <> 'idle'";
const LOCKS: &str = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'";

pub struct Quiet;

impl Invariant for Quiet {
    fn check<'a>(&'a self, end: &'a RunEnd<'a>) -> LocalBoxFuture<'a, Verdict> {
        Box::pin(async {
            let count =
                async |sql: &'static str| sqlx::query_scalar::<_, i64>(sql).fetch_one(&end.cluster.db).await.unwrap();
            for sql in [BUSY, LOCKS] {
                eventually(&format!("zero rows from: {sql}"), async || (count(sql).await == 0).then_some(())).await;
            }
            Verdict::default()
        })
    }
}
