//! Webhooks for tests about other things.

use cloudapi::base::id::{DeliveryId, WebhookId};
use serde_json::json;

use super::{Identity, Session};

/// Creates an enabled webhook of the user's project that no event in tests matches. Deletes all others, because their
/// number is limited. Returns its ID.
pub async fn create_idle_webhook(owner: &Session<'_>) -> String {
    sqlx::query("DELETE FROM webhooks").execute(&owner.app.db).await.unwrap();
    let body = json!({
        "project_id": owner.project, "url": "https://receiver.invalid/", "event_types": ["project.archived"],
    });
    owner.post("/v1/webhooks", body).await.created()["id"].as_str().unwrap().to_owned()
}

/// Inserts an old, finished delivery to a webhook. Returns its ID.
pub async fn insert_delivery(owner: &Session<'_>, webhook: &str) -> String {
    let webhook: WebhookId = webhook.parse().unwrap();
    let id = DeliveryId::new();
    sqlx::query(
        "INSERT INTO webhook_deliveries (id, webhook_id, project_id, event_id, event_type, status, next_attempt_at)
         SELECT $1, id, project_id, id, 'key.created', 'delivered', NULL FROM webhooks WHERE id = $2",
    )
    .bind(id)
    .bind(webhook)
    .execute(&owner.app.db)
    .await
    .unwrap();
    id.to_string()
}
