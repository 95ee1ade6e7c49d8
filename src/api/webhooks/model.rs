//! Webhooks and deliveries, in the database and in the API.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::types::Json;

use super::delivery::sign::WebhookSecret;
use crate::{
    api::events::model::EventType,
    audit::model::Audited,
    base::{
        etag::{EntityTag, Versioned},
        id::{DeliveryId, EventId, ProjectId, WebhookId},
        input::{
            page::ListQuery,
            patch::{Patch, Replace},
            schema::{input, patch},
            text::NO_CONTROL_CHARACTERS,
        },
        runtime::clock::Timestamp,
    },
};

/// Maximum number of webhooks per project.
pub const MAX_WEBHOOKS: i64 = 20;
/// Default overlap of a rotation, during which both secrets sign: one day, in seconds.
pub const DEFAULT_OVERLAP_SECONDS: u32 = 24 * 3600;

/// New webhook.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewWebhook {
    /// ID of the project whose events are sent. Required with a session.
    pub project_id: Option<ProjectId>,
    /// Destination: an https URL whose host is on the public Internet, without user name, password or fragment.
    #[schemars(length(max = 2048), extend("format" = "uri"), example = "https://receiver.example/hooks")]
    pub url: String,
    /// Event types to send. All types if omitted or empty.
    #[schemars(length(max = 64), extend("uniqueItems" = true))]
    pub event_types: Option<Vec<EventType>>,
    /// Description; empty by default.
    #[schemars(length(max = 500), regex(pattern = NO_CONTROL_CHARACTERS), example = "Notifies the billing service")]
    pub description: Option<String>,
    /// Whether events are sent; default true.
    pub enabled: Option<bool>,
}

/// Changes to a webhook. Omitted members are unchanged.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WebhookPatch {
    /// Destination URL.
    #[schemars(length(max = 2048), extend("format" = "uri"), example = "https://receiver.example/hooks")]
    pub url: Replace<String>,
    /// Event types to send. All types if empty or null.
    #[schemars(length(max = 64), extend("uniqueItems" = true))]
    pub event_types: Patch<Vec<EventType>>,
    /// Description; null to remove it.
    #[schemars(length(max = 500), regex(pattern = NO_CONTROL_CHARACTERS), example = "Notifies the billing service")]
    pub description: Patch<String>,
    /// Whether events are sent. When a webhook is enabled again, its pending deliveries of the last 24 hours are sent.
    pub enabled: Replace<bool>,
}

/// Rotation of a webhook's secret.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretRotation {
    /// Overlap in seconds during which deliveries are signed with both secrets; default one day. With 0, the previous
    /// secret becomes invalid immediately.
    #[schemars(range(max = 604_800))]
    pub overlap_seconds: Option<u32>,
}

/// Filter for webhooks.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct WebhookFilter {
    /// Project ID. Required with a session, which can see several projects.
    pub project_id: Option<String>,
}

/// Filter for deliveries.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct DeliveryFilter {
    /// Status of the delivery.
    pub status: Option<DeliveryStatus>,
}

patch!(WebhookPatch);
input!(NewWebhook, SecretRotation, ListQuery<WebhookFilter>, ListQuery<DeliveryFilter>);

/// Reason why the server disabled a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
#[schemars(inline)]
pub enum DisabledReason {
    /// The receiver responded with 410 Gone.
    Gone,
    /// All attempts failed for five days.
    Failing,
}

/// Status of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
#[schemars(inline)]
pub enum DeliveryStatus {
    /// The delivery will be sent or retried.
    Pending,
    /// The receiver responded with 2xx.
    Delivered,
    /// The delivery failed for 24 hours, or cannot be sent. It is retried only on request.
    Failed,
}

impl DeliveryStatus {
    /// Name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }
}

/// Webhook as stored in the database.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct StoredWebhook {
    /// ID of the webhook.
    pub id: WebhookId,
    /// Project of the webhook.
    pub project_id: ProjectId,
    /// Destination URL.
    pub url: String,
    /// Event types to send; all if empty.
    pub event_types: Vec<String>,
    /// Description.
    pub description: String,
    /// Whether events are sent.
    pub enabled: bool,
    /// Reason why the server disabled the webhook.
    pub disabled_reason: Option<DisabledReason>,
    /// Signing secret, sealed.
    pub secret: Vec<u8>,
    /// Previous signing secret, sealed.
    pub previous_secret: Option<Vec<u8>>,
    /// Time until which deliveries are also signed with the previous secret.
    pub previous_expires_at: Option<Timestamp>,
    /// Creation time.
    pub created_at: Timestamp,
    /// Time since which all attempts have failed.
    pub failing_since: Option<Timestamp>,
}

/// Webhook, without its secret.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Webhook")]
pub struct WebhookView {
    /// ID of the webhook.
    pub id: WebhookId,
    /// ID of the project whose events are sent.
    pub project_id: ProjectId,
    /// Destination URL.
    pub url: String,
    /// Event types that are sent; empty for all.
    pub event_types: Vec<EventType>,
    /// Description.
    pub description: String,
    /// Whether events are sent.
    pub enabled: bool,
    /// Reason why the server disabled the webhook. Null if the webhook is enabled or was disabled by a client.
    pub disabled_reason: Option<DisabledReason>,
    /// Time since which all attempts have failed. Null if the last attempt succeeded.
    pub failing_since: Option<Timestamp>,
    /// Time at which the previous secret stops signing, after a rotation. Null if the secret was never rotated.
    pub previous_expires_at: Option<Timestamp>,
    /// Creation time.
    pub created_at: Timestamp,
}

impl Audited for WebhookView {}

impl Versioned for WebhookView {
    fn etag(&self) -> EntityTag {
        EntityTag::of(self, &["failing_since"])
    }
}

impl From<StoredWebhook> for WebhookView {
    fn from(webhook: StoredWebhook) -> Self {
        Self {
            id: webhook.id,
            project_id: webhook.project_id,
            url: webhook.url,
            event_types: webhook.event_types.iter().filter_map(|text| text.parse().ok()).map(EventType).collect(),
            description: webhook.description,
            enabled: webhook.enabled,
            disabled_reason: webhook.disabled_reason,
            failing_since: webhook.failing_since,
            previous_expires_at: webhook.previous_expires_at,
            created_at: webhook.created_at,
        }
    }
}

/// New webhook or rotated secret. Contains the secret, which is not shown again.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct IssuedWebhook {
    /// Secret that verifies the signatures of deliveries (Standard Webhooks). Not shown again.
    pub secret: WebhookSecret,
    /// Webhook.
    #[serde(flatten)]
    pub view: WebhookView,
}

impl Versioned for IssuedWebhook {
    fn etag(&self) -> EntityTag {
        self.view.etag()
    }
}

/// Confirmation of a deleted webhook.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DeletedWebhook {
    /// ID of the webhook.
    pub id: WebhookId,
    /// Always true.
    #[schemars(extend("const" = true))]
    pub deleted: bool,
}

/// Confirmation of a test.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TestedWebhook {
    /// ID of the webhook.
    pub id: WebhookId,
    /// Always true. The event `webhook.tested` is sent to this webhook only.
    #[schemars(extend("const" = true))]
    pub queued: bool,
}

/// Side that caused a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum FailureCause {
    /// Receiver, its name or its network.
    Receiver,
    /// This server, its machine, its network or its settings.
    Server,
}

/// Attempt to deliver an event.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Attempt {
    /// Number of the attempt, from 1.
    pub number: i32,
    /// Start time.
    pub at: Timestamp,
    /// HTTP status of the receiver's response. Null if there was no response.
    pub status_code: Option<u16>,
    /// Error code: `unsuccessful_status`, `redirect`, `timeout`, `connection_failed`, `tls_failed`, `name_not_found`,
    /// `address_not_allowed`, `bad_answer`, `name_lookup_failed`, `no_route`, `out_of_resources`, `no_authorities`,
    /// `secret_unreadable`, `event_gone`, `bad_url`. Null if the attempt succeeded.
    pub error: Option<Cow<'static, str>>,
    /// Side that caused the failure. Only failures of the receiver can disable the webhook. Null if the attempt
    /// succeeded.
    #[serde(default)]
    pub cause: Option<FailureCause>,
    /// Duration in milliseconds.
    pub duration_ms: u64,
}

/// Delivery as stored in the database.
#[derive(Debug, sqlx::FromRow)]
pub struct StoredDelivery {
    /// ID of the delivery.
    pub id: DeliveryId,
    /// ID of the webhook.
    pub webhook_id: WebhookId,
    /// ID of the event.
    pub event_id: EventId,
    /// Type of the event.
    pub event_type: String,
    /// Status.
    pub status: DeliveryStatus,
    /// Recorded attempts.
    pub attempts: Json<Vec<Attempt>>,
    /// Time of the next attempt.
    pub next_attempt_at: Option<Timestamp>,
    /// Time at which the delivery was first queued.
    pub created_at: Timestamp,
}

/// Delivery of one event to one webhook.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Delivery")]
pub struct DeliveryView {
    /// ID of the delivery.
    pub id: DeliveryId,
    /// ID of the webhook.
    pub webhook_id: WebhookId,
    /// ID of the event.
    pub event_id: EventId,
    /// Type of the event.
    pub event_type: String,
    /// Status.
    pub status: DeliveryStatus,
    /// The last 50 attempts, oldest first.
    pub attempts: Vec<Attempt>,
    /// Time of the next attempt at the latest. Null if the delivery is not pending.
    pub next_attempt_at: Option<Timestamp>,
    /// Time at which the delivery was queued.
    pub created_at: Timestamp,
}

impl Versioned for DeliveryView {
    fn etag(&self) -> EntityTag {
        EntityTag::of(self, &[])
    }
}

impl From<StoredDelivery> for DeliveryView {
    fn from(delivery: StoredDelivery) -> Self {
        Self {
            id: delivery.id,
            webhook_id: delivery.webhook_id,
            event_id: delivery.event_id,
            event_type: delivery.event_type,
            status: delivery.status,
            attempts: delivery.attempts.0,
            next_attempt_at: delivery.next_attempt_at,
            created_at: delivery.created_at,
        }
    }
}
