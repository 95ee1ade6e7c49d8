//! Claims of deliveries by the statement that sends them.

use cloudapi::{base::id::WebhookId, server::state::AppOptions};
use serde_json::json;

use super::{allow_loopback, deliveries, fast_policy, webhook};
use crate::support::{TestApp, eventually, worker_faults};

/// Options of a server that claims no deliveries.
fn without_delivery_worker() -> AppOptions {
    AppOptions { workers: worker_faults::only(|worker| worker != "webhook_delivery"), ..allow_loopback(fast_policy()) }
}

#[tokio::test]
async fn event_that_is_sealed_while_its_delivery_is_claimed_is_not_taken_for_gone() {
    let app = TestApp::start_with(without_delivery_worker()).await;
    let owner = app.owner().await;
    let hook = webhook(&owner, "http://127.0.0.1:9/", json!({ "event_types": ["key.created"] })).await;
    let hook_id: WebhookId = hook["id"].as_str().unwrap().parse().unwrap();
    let mut holder = app.db.acquire().await.unwrap();
    sqlx::query("SELECT pg_advisory_lock(1)").execute(&mut *holder).await.unwrap();
    // The statement begins before the event and claims after it.
    let claim = async {
        let sql = "WITH waited AS MATERIALIZED (SELECT pg_advisory_xact_lock_shared(1) IS NOT NULL AS is_over)
                   SELECT c.payload FROM waited
                   CROSS JOIN LATERAL claim_webhook_deliveries(CASE WHEN is_over THEN ARRAY[$1] END, ARRAY[8::bigint], '1 minute',
                                                               '1 day') c";
        sqlx::query_scalar::<_, Option<Vec<u8>>>(sql).bind(hook_id).fetch_all(&app.db).await.unwrap()
    };
    let event = async {
        let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
        eventually("the claim waits", async || {
            (sqlx::query_scalar::<_, i64>(waiting).fetch_one(&app.db).await.unwrap() == 1).then_some(())
        })
        .await;
        owner.key().await;
        eventually("the delivery", async || (!deliveries(&owner, &hook, "key.created").await.is_empty()).then_some(()))
            .await;
        // As in a transaction that began before the claim.
        let due = "UPDATE webhook_deliveries SET next_attempt_at = now() - interval '1 minute'";
        sqlx::query(due).execute(&app.db).await.unwrap();
        sqlx::query("SELECT pg_advisory_unlock(1)").execute(&mut *holder).await.unwrap();
    };
    let (claimed, ()) = tokio::join!(claim, event);
    assert!(matches!(claimed.as_slice(), [Some(_)]), "{claimed:?}");
}
