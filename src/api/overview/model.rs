//! Shapes of responses.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    api::{
        keys::overview::KeysOverview,
        webhooks::model::{DisabledReason, StoredWebhook},
    },
    base::{
        etag::{EntityTag, Versioned},
        id::{ProjectId, ResourceId, WebhookId},
        identity::tenant::ProjectStatus,
        runtime::clock::{Day, Timestamp},
    },
    resources::{
        api::model::{ConditionType, StoredResource},
        engine::lifecycle::Phase,
        kinds::Kind,
    },
};

/// Summary of a project. A part that the caller may not read is null.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Overview {
    /// Project ID.
    pub project_id: ProjectId,
    /// Name of the project.
    pub name: String,
    /// Status of the project.
    pub status: ProjectStatus,
    /// Usage of the current month. null without `usage:read`.
    pub usage: Option<UsageOverview>,
    /// Keys. null without `keys:read`.
    pub keys: Option<KeysOverview>,
    /// Webhooks. null without `webhooks:read`.
    pub webhooks: Option<WebhooksOverview>,
    /// The newest 10 resources with a condition, such as `drifted` or `failed`, of the kinds that the caller may read.
    #[schemars(length(max = 10))]
    pub resources: Vec<ResourceSummary>,
}

impl Versioned for Overview {
    fn etag(&self) -> EntityTag {
        let mut overview = serde_json::to_value(self).unwrap_or_default();
        // Later for each response.
        if let Some(Value::Object(usage)) = overview.get_mut("usage") {
            usage.remove("as_of");
        }
        EntityTag::of(&overview, &["usage"])
    }
}

/// Usage of the current month.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct UsageOverview {
    /// First day of the month.
    pub period_start: Day,
    /// Last day of the month, inclusive.
    pub period_end: Day,
    /// Time up to which the numbers are complete.
    pub as_of: Timestamp,
    /// Counted requests.
    #[schemars(range(min = 0))]
    pub requests: i64,
    /// Requests beyond the included volume.
    #[schemars(range(min = 0))]
    pub overage: i64,
    /// Included requests. null for unlimited.
    #[schemars(range(min = 0))]
    pub included: Option<i64>,
    /// Requests after which keys and tokens are rejected. null for no limit.
    #[schemars(range(min = 0))]
    pub hard_limit: Option<i64>,
    /// Requests of each day up to today.
    #[schemars(length(max = 31))]
    pub days: Vec<DayUsage>,
}

/// Requests of one day.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct DayUsage {
    /// Day.
    pub day: Day,
    /// Counted requests.
    #[schemars(range(min = 0))]
    pub requests: i64,
}

/// Summary of a project's webhooks.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct WebhooksOverview {
    /// Number of enabled webhooks.
    #[schemars(range(min = 0))]
    pub enabled: i64,
    /// Webhooks that are disabled, or whose attempts fail.
    pub attention: Vec<WebhookSummary>,
}

/// A webhook that needs attention.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct WebhookSummary {
    /// Webhook ID.
    pub id: WebhookId,
    /// Destination URL.
    pub url: String,
    /// Whether events are sent.
    pub enabled: bool,
    /// Reason why the server disabled the webhook. null if it is enabled or was disabled by a client.
    pub disabled_reason: Option<DisabledReason>,
    /// Time since which all attempts have failed. null if the last attempt succeeded.
    pub failing_since: Option<Timestamp>,
}

impl WebhooksOverview {
    /// Summary of these webhooks.
    pub fn new(webhooks: Vec<StoredWebhook>) -> Self {
        let enabled = webhooks.iter().map(|webhook| i64::from(webhook.enabled)).sum();
        let attention = webhooks
            .into_iter()
            .filter(|webhook| !webhook.enabled || webhook.failing_since.is_some())
            .map(|webhook| WebhookSummary {
                id: webhook.id,
                url: webhook.url,
                enabled: webhook.enabled,
                disabled_reason: webhook.disabled_reason,
                failing_since: webhook.failing_since,
            })
            .collect();
        Self { enabled, attention }
    }
}

/// A resource that needs attention.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct ResourceSummary {
    /// Resource ID.
    pub id: ResourceId,
    /// Kind of the resource.
    pub kind: Kind,
    /// Name of the resource.
    pub name: String,
    /// Phase of the resource.
    pub phase: Phase,
    /// Types of the conditions that hold.
    pub conditions: Vec<ConditionType>,
}

impl From<StoredResource> for ResourceSummary {
    fn from(resource: StoredResource) -> Self {
        Self {
            id: resource.id,
            kind: resource.kind,
            name: resource.name,
            phase: resource.phase,
            conditions: resource.conditions.0.iter().map(|condition| condition.kind).collect(),
        }
    }
}
