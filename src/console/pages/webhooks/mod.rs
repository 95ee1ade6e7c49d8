//! Webhooks of a project, and what was sent to them.

pub mod create;
pub mod delete;
pub mod delivery;
pub mod edit;
mod fields;
mod issued;
pub mod list;
pub mod one;
pub mod rotate;

use std::time::Duration;

use url::Url;

use crate::{
    api::webhooks::model::{DeliveryStatus, DeliveryView, DisabledReason, WebhookView},
    base::id::{ProjectId, WebhookId},
    console::{
        browser::Visit,
        client::Reply,
        components::status::{Badge, Tone},
        view::Failure,
    },
};

/// Pages of deliveries are refreshed automatically while the next attempt is due within this time.
const SOON: Duration = Duration::from_secs(60);

/// Path of the list.
fn list_path(project: ProjectId) -> String {
    format!("/console/projects/{project}/webhooks")
}

/// Path of a webhook.
fn path(project: ProjectId, webhook: WebhookId) -> String {
    format!("/console/projects/{project}/webhooks/{webhook}")
}

/// Gets a webhook of this project.
async fn get(visit: &Visit, project: ProjectId, webhook: WebhookId) -> Result<Reply<WebhookView>, Failure> {
    visit.get_in(project, format!("/v1/webhooks/{webhook}"), |found: &WebhookView| found.project_id).await
}

/// Name of a webhook: the host and the port of its URL.
fn name(webhook: &WebhookView) -> String {
    let url = Url::parse(&webhook.url).ok();
    let host = url.as_ref().and_then(|url| {
        let host = url.host_str()?;
        Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
    });
    host.unwrap_or_else(|| webhook.url.clone())
}

impl From<&WebhookView> for Badge {
    fn from(webhook: &WebhookView) -> Self {
        match (webhook.enabled, webhook.disabled_reason, webhook.failing_since) {
            (true, _, None) => Self::new(Tone::Good, "Enabled"),
            (true, _, Some(_)) => Self::new(Tone::Warn, "Failing"),
            (false, Some(DisabledReason::Gone | DisabledReason::Failing), _) => Self::new(Tone::Bad, "Disabled"),
            (false, None, _) => Self::new(Tone::Neutral, "Disabled"),
        }
    }
}

impl From<DeliveryStatus> for Badge {
    fn from(status: DeliveryStatus) -> Self {
        match status {
            DeliveryStatus::Pending => Self::new(Tone::Warn, "Pending"),
            DeliveryStatus::Delivered => Self::new(Tone::Good, "Delivered"),
            DeliveryStatus::Failed => Self::new(Tone::Bad, "Failed"),
        }
    }
}

/// Whether the next attempt of a delivery is so soon that the page should show it.
fn is_due_soon(visit: &Visit, delivery: &DeliveryView) -> bool {
    let next = delivery.next_attempt_at;
    delivery.status == DeliveryStatus::Pending && next.is_some_and(|next| visit.now.until(next) <= SOON)
}
