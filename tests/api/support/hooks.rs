//! Webhooks for tests that are about something else.

use cloudapi::base::id::{DeliveryId, WebhookId};
use serde_json::json;

use super::{Identity, Session};

/// A webhook of the user's project that is enabled, though nothing happens that it would be sent; gives its id. Any other
/// is gone, because a project may have a few only.
pub async fn quiet_webhook(owner: &Session<'_>) -> String {
    sqlx::query("DELETE FROM webhooks").execute(&owner.app.db).await.unwrap();
    let body = json!({
        "project_id": owner.project, "url": "https://receiver.invalid/", "event_types": ["project.archived"],
    });
    owner.post("/v1/webhooks", body).await.created()["id"].as_str().unwrap().to_owned()
}

/// A delivery to a webhook, done long ago; gives its id.
pub async fn old_delivery(owner: &Session<'_>, webhook: &str) -> String {
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
