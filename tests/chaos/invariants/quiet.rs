//! Once nobody asks, nothing is left of what was interrupted: no transaction, no lock.

use futures_util::future::LocalBoxFuture;

use super::{End, Invariant, Verdict};
use crate::world::eventually;

/// What a server's connections hold or do. The servers' own work, such as writing down what was counted, is
/// over in a moment; what was left behind stays.
const BUSY: &str = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'cloudapi%' AND state <> 'idle'";
const LOCKS: &str = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'";

pub struct Quiet;

impl Invariant for Quiet {
    fn check<'a>(&'a self, end: &'a End<'a>) -> LocalBoxFuture<'a, Verdict> {
        Box::pin(async {
            let count =
                async |sql: &'static str| sqlx::query_scalar::<_, i64>(sql).fetch_one(&end.world.db).await.unwrap();
            for sql in [BUSY, LOCKS] {
                eventually(&format!("nothing is left by: {sql}"), async || (count(sql).await == 0).then_some(())).await;
            }
            Verdict::default()
        })
    }
}
