//! What a webhook and a delivery are, to the server and to clients.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::types::Json;

use super::sign::WebhookSecret;
use crate::{
    audit::model::Audited,
    base::{
        clock::Timestamp,
        etag::{EntityTag, Versioned},
        id::{DeliveryId, EventId, ProjectId, WebhookId},
        page::ListQuery,
        patch::{Patch, Replace},
        schema::{input, patch},
        text::NO_CONTROL_CHARACTERS,
    },
    events::model::EventType,
};

/// How many webhooks a project may have.
pub const MAX_WEBHOOKS: i64 = 20;
/// How long an old secret goes on signing beside the new one when nothing else is said: a day, in seconds.
pub const DEFAULT_OVERLAP_SECONDS: u32 = 24 * 3600;

/// What a new webhook shall be.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewWebhook {
    /// The project whose events are sent; needed with a session.
    pub project_id: Option<ProjectId>,
    /// Where they are sent: an https URL whose host is on the public Internet, without user name, password or fragment.
    #[schemars(length(max = 2048), extend("format" = "uri"), example = "https://receiver.example/hooks")]
    pub url: String,
    /// The types of events that are sent; all when left out or empty.
    #[schemars(length(max = 64), extend("uniqueItems" = true))]
    pub event_types: Option<Vec<EventType>>,
    /// What it is for; empty when left out.
    #[schemars(length(max = 500), regex(pattern = NO_CONTROL_CHARACTERS), example = "tells the billing service")]
    pub description: Option<String>,
    /// Whether anything is sent; true when left out.
    pub enabled: Option<bool>,
}

/// What changes; what is left out stays as it is.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WebhookPatch {
    /// Where events are sent.
    #[schemars(length(max = 2048), extend("format" = "uri"), example = "https://receiver.example/hooks")]
    pub url: Replace<String>,
    /// The types of events that are sent; all when empty or null.
    #[schemars(length(max = 64), extend("uniqueItems" = true))]
    pub event_types: Patch<Vec<EventType>>,
    /// What it is for; null for nothing.
    #[schemars(length(max = 500), regex(pattern = NO_CONTROL_CHARACTERS), example = "tells the billing service")]
    pub description: Patch<String>,
    /// Whether anything is sent. Enabled again, it is sent what has waited for no more than 24 hours.
    pub enabled: Replace<bool>,
}

/// How to rotate a webhook's secret.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretRotation {
    /// How many seconds the old secret goes on signing beside the new one; a day when left out. 0 ends it at once.
    #[schemars(range(max = 604_800))]
    pub overlap_seconds: Option<u32>,
}

/// The filter of the list of webhooks.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct WebhookFilter {
    /// The project; needed with a session, whose user may see several.
    pub project_id: Option<String>,
}

/// The filter of the list of deliveries.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct DeliveryFilter {
    /// Only deliveries that stand so.
    pub status: Option<DeliveryStatus>,
}

patch!(WebhookPatch);
input!(NewWebhook, SecretRotation, ListQuery<WebhookFilter>, ListQuery<DeliveryFilter>);

/// Why the server has disabled a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
#[schemars(inline)]
pub enum DisabledReason {
    /// The receiver answered 410: it is gone.
    Gone,
    /// Every attempt has failed for five days.
    Failing,
}

/// How a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
#[schemars(inline)]
pub enum DeliveryStatus {
    /// It will be sent, or sent again.
    Pending,
    /// The receiver answered with 2xx.
    Delivered,
    /// It was tried for 24 hours and will not be tried again, unless it is asked for.
    Failed,
}

impl DeliveryStatus {
    /// The status as clients see it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }
}

/// A webhook as the database has it.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct StoredWebhook {
    /// The webhook.
    pub id: WebhookId,
    /// Its project.
    pub project_id: ProjectId,
    /// Where events are sent.
    pub url: String,
    /// Which; all when empty.
    pub event_types: Vec<String>,
    /// What it is for.
    pub description: String,
    /// Whether anything is sent.
    pub enabled: bool,
    /// Why the server has disabled it.
    pub disabled_reason: Option<DisabledReason>,
    /// What signs, sealed.
    pub secret: Vec<u8>,
    /// What signed before.
    pub previous_secret: Option<Vec<u8>>,
    /// Until when that signs, too.
    pub previous_expires_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Since when every attempt has failed.
    pub failing_since: Option<Timestamp>,
}

/// A webhook as it is shown, without its secret.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(rename = "Webhook")]
pub struct WebhookView {
    /// The webhook's id.
    pub id: WebhookId,
    /// The project whose events are sent.
    pub project_id: ProjectId,
    /// Where they are sent.
    pub url: String,
    /// The types of events that are sent; empty for all.
    pub event_types: Vec<EventType>,
    /// What it is for.
    pub description: String,
    /// Whether anything is sent.
    pub enabled: bool,
    /// Why the server has disabled it; null while it is enabled, and when a client disabled it.
    pub disabled_reason: Option<DisabledReason>,
    /// Since when every attempt has failed; null while it works.
    pub failing_since: Option<Timestamp>,
    /// After a rotation, when the secret before the newest stops signing; null before any.
    pub previous_expires_at: Option<Timestamp>,
    /// When it was made.
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

/// A webhook as it is given to its maker, once, with its secret.
#[derive(Debug, Serialize, JsonSchema)]
pub struct IssuedWebhook {
    /// What verifies that an event comes from here (Standard Webhooks). Shown this once.
    pub secret: WebhookSecret,
    /// Everything else about it.
    #[serde(flatten)]
    pub view: WebhookView,
}

impl Versioned for IssuedWebhook {
    fn etag(&self) -> EntityTag {
        self.view.etag()
    }
}

/// What deleting a webhook answers.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DeletedWebhook {
    /// The webhook's id.
    pub id: WebhookId,
    /// Always true.
    #[schemars(extend("const" = true))]
    pub deleted: bool,
}

/// What asking for a test answers.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TestedWebhook {
    /// The webhook's id.
    pub id: WebhookId,
    /// Always true: an event `webhook.tested` will be sent to this webhook alone.
    #[schemars(extend("const" = true))]
    pub queued: bool,
}

/// Which side caused an attempt to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum FailureCause {
    /// The receiver, its name or its network.
    Receiver,
    /// This server, its machine, its network or its settings.
    Server,
}

/// One attempt to deliver.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Attempt {
    /// Which one it was, from 1.
    pub number: i32,
    /// When it began.
    pub at: Timestamp,
    /// What the receiver answered; null when it did not answer.
    pub status_code: Option<u16>,
    /// What was wrong, in a word: `unsuccessful_status`, `redirect`, `timeout`, `connection_failed`, `tls_failed`,
    /// `name_not_found`, `address_not_allowed`, `bad_answer`, `name_lookup_failed`, `no_route`, `out_of_resources`,
    /// `no_authorities`, `secret_unreadable`, `event_gone`, `bad_url`. Null when it was delivered.
    pub error: Option<Cow<'static, str>>,
    /// Which side caused the failure. Only failures of the receiver can disable the webhook. Null when it was delivered.
    #[serde(default)]
    pub cause: Option<FailureCause>,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
}

/// A delivery as the database has it.
#[derive(Debug, sqlx::FromRow)]
pub struct StoredDelivery {
    /// The delivery.
    pub id: DeliveryId,
    /// Where to.
    pub webhook_id: WebhookId,
    /// Of what.
    pub event_id: EventId,
    /// What that is.
    pub event_type: String,
    /// How it stands.
    pub status: DeliveryStatus,
    /// What was tried.
    pub attempts: Json<Vec<Attempt>>,
    /// When it is tried next.
    pub next_attempt_at: Option<Timestamp>,
    /// When it was queued first.
    pub created_at: Timestamp,
}

/// One event on its way to one webhook.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(rename = "Delivery")]
pub struct DeliveryView {
    /// The delivery's id.
    pub id: DeliveryId,
    /// Where it goes.
    pub webhook_id: WebhookId,
    /// The event that is sent.
    pub event_id: EventId,
    /// The event's type.
    pub event_type: String,
    /// How it stands.
    pub status: DeliveryStatus,
    /// What was tried, oldest first: the last 50 attempts.
    pub attempts: Vec<Attempt>,
    /// When it is tried next, at the latest; null when it is done.
    pub next_attempt_at: Option<Timestamp>,
    /// When it was queued.
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
