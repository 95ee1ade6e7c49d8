//! SQL for webhooks, and for deliveries as clients see them.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::BoxFuture;
use sqlx::PgConnection;

use super::{
    delivery::backoff::DeliveryPolicy,
    model::{DeliveryStatus, MAX_WEBHOOKS, StoredDelivery, StoredWebhook},
};
use crate::{
    api::events::model::EventType,
    audit::chain::link::LinkedEntry,
    base::{
        action::Action,
        error::{Code, Error},
        id::{self, DeliveryId, ProjectId, WebhookId},
        identity::tenant::Tenant,
        input::page::{Page, PageRequest},
        runtime::clock::Timestamp,
    },
    db::{Call, ProjectItem, lists::scan::Scan},
};

/// Columns of [`StoredWebhook`], by name: the columns of `*` change when a migration runs while an older server is
/// running.
macro_rules! webhook_columns {
    () => {
        "id, project_id, url, event_types, description, enabled, disabled_reason, secret, previous_secret, \
         previous_expires_at, created_at, failing_since"
    };
}

/// Columns of [`StoredDelivery`].
macro_rules! delivery_columns {
    () => {
        "id, webhook_id, event_id, event_type, status, attempts, next_attempt_at, created_at"
    };
}

impl ProjectItem for id::Webhook {
    // A deleted webhook is still found in its project, so that its DELETE can be repeated.
    const PROJECT_OF: &'static str = "SELECT project_id FROM webhooks WHERE id = $1
         UNION ALL SELECT project_id FROM deletions WHERE kind = 'webhook' AND id = $1";
}

/// Queues the events among sealed entries for each webhook that selects them. The sealer calls this in the transaction
/// that makes the events visible.
pub fn enqueue<'a>(db: &'a mut PgConnection, entries: &'a [LinkedEntry]) -> BoxFuture<'a, sqlx::Result<()>> {
    Box::pin(enqueue_events(db, entries))
}

async fn enqueue_events(db: &mut PgConnection, entries: &[LinkedEntry]) -> sqlx::Result<()> {
    let projects: BTreeSet<_> = entries.iter().filter(|entry| entry.is_event).map(|entry| entry.project_id).collect();
    if projects.is_empty() {
        return Ok(());
    }
    // The webhooks of a few projects are looked up, instead of all webhooks being joined.
    let rows: Vec<(ProjectId, WebhookId, Vec<String>)> = sqlx::query_as(
        "SELECT p.project_id, w.id, w.event_types FROM unnest($1::uuid[]) AS p (project_id)
         CROSS JOIN LATERAL (SELECT id, event_types FROM webhooks WHERE project_id = p.project_id AND enabled OFFSET 0) w",
    )
    .bind(projects.into_iter().collect::<Vec<_>>())
    .fetch_all(&mut *db)
    .await?;
    let mut webhooks: BTreeMap<ProjectId, Vec<(WebhookId, Vec<String>)>> = BTreeMap::new();
    for (project, id, types) in rows {
        webhooks.entry(project).or_default().push((id, types));
    }
    // IDs increase in the order of creation, so a list of deliveries is in the order of events.
    let (mut ids, mut to, mut projects, mut events, mut types) = (vec![], vec![], vec![], vec![], vec![]);
    for entry in entries.iter().filter(|entry| entry.is_event) {
        for (webhook, selected) in webhooks.get(&entry.project_id).into_iter().flatten() {
            if is_selected(entry, *webhook, selected) {
                ids.push(DeliveryId::new());
                to.push(*webhook);
                projects.push(entry.project_id);
                events.push(entry.id);
                types.push(entry.columns.action.as_str());
            }
        }
    }
    if ids.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO webhook_deliveries (id, webhook_id, project_id, event_id, event_type)
         SELECT n.id, n.webhook_id, n.project_id, n.event_id, n.event_type
         FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[])
              AS n (id, webhook_id, project_id, event_id, event_type)",
    )
    .bind(ids)
    .bind(to)
    .bind(projects)
    .bind(events)
    .bind(types)
    .execute(db)
    .await
    .map(drop)
}

/// Whether a webhook with these event types receives an event. A test event is sent only to its own webhook.
fn is_selected(event: &LinkedEntry, webhook: WebhookId, types: &[String]) -> bool {
    match event.action {
        Some(Action::WebhookTested) => event.columns.target_id.as_deref() == Some(webhook.to_string().as_str()),
        _ => types.is_empty() || types.contains(&event.columns.action),
    }
}

/// Columns of a new webhook.
#[derive(Debug)]
pub struct WebhookRow {
    /// ID of the webhook.
    pub id: WebhookId,
    /// Destination URL.
    pub url: String,
    /// Event types to send; all if empty.
    pub event_types: Vec<EventType>,
    /// Description.
    pub description: String,
    /// Whether events are sent.
    pub enabled: bool,
    /// Signing secret, sealed.
    pub secret: Vec<u8>,
    /// Creation time.
    pub created_at: Timestamp,
}

fn texts(types: &[EventType]) -> Vec<&'static str> {
    types.iter().map(|EventType(action)| action.as_str()).collect()
}

/// The call that creates a webhook in the tenant's project, and the resulting webhook. The call fails if the project has
/// as many webhooks as it may have.
pub fn create(tenant: Tenant, webhook: WebhookRow) -> (Call, StoredWebhook) {
    let stored = StoredWebhook {
        id: webhook.id,
        project_id: tenant.project_id(),
        url: webhook.url,
        event_types: texts(&webhook.event_types).into_iter().map(str::to_owned).collect(),
        description: webhook.description,
        enabled: webhook.enabled,
        disabled_reason: None,
        secret: webhook.secret,
        previous_secret: None,
        previous_expires_at: None,
        created_at: webhook.created_at,
        failing_since: None,
    };
    let call = Call::new("create_webhook", create_error)
        .bind(stored.id)
        .bind(stored.project_id)
        .bind(&stored.url)
        .bind(&stored.event_types)
        .bind(&stored.description)
        .bind(stored.enabled)
        .bind(&stored.secret)
        .bind(stored.created_at)
        .bind(MAX_WEBHOOKS);
    (call, stored)
}

fn create_error(reason: &str) -> Option<Error> {
    (reason == "too_many").then(|| {
        let detail = format!("The project has {MAX_WEBHOOKS} webhooks, the maximum; delete one first");
        Error::new(Code::LimitReached, detail)
    })
}

/// Reads one of the tenant's webhooks.
pub async fn get(db: &mut PgConnection, tenant: Tenant, id: WebhookId) -> sqlx::Result<Option<StoredWebhook>> {
    sqlx::query_as(concat!("SELECT ", webhook_columns!(), " FROM webhooks WHERE project_id = $1 AND id = $2"))
        .bind(tenant.project_id())
        .bind(id)
        .fetch_optional(db)
        .await
}

/// Reads one of the tenant's webhooks and locks its row until the transaction ends.
pub async fn lock(db: &mut PgConnection, tenant: Tenant, id: WebhookId) -> sqlx::Result<Option<StoredWebhook>> {
    sqlx::query_as(concat!(
        "SELECT ",
        webhook_columns!(),
        " FROM webhooks WHERE project_id = $1 AND id = $2 FOR NO KEY UPDATE"
    ))
    .bind(tenant.project_id())
    .bind(id)
    .fetch_optional(db)
    .await
}

/// Lists the tenant's webhooks.
pub async fn list(
    db: &mut PgConnection,
    tenant: Tenant,
    page: &PageRequest<id::Webhook>,
) -> sqlx::Result<Page<StoredWebhook, id::Webhook>> {
    let key = &[("project_id", "$3")];
    let scan = Scan { table: "webhooks", columns: webhook_columns!(), key, ..Scan::DEFAULT };
    scan.page(db, page, |query| query.bind(tenant.project_id())).await
}

/// Changes to a webhook.
#[derive(Debug)]
pub struct WebhookChange {
    /// Destination URL.
    pub url: Option<String>,
    /// Event types to send; all if empty.
    pub event_types: Option<Vec<EventType>>,
    /// Description.
    pub description: Option<String>,
    /// Whether events are sent.
    pub enabled: Option<bool>,
}

/// Applies `change` to one of the tenant's webhooks. Enabling it or changing its URL resets the failure record.
pub async fn update(
    db: &mut PgConnection,
    tenant: Tenant,
    id: WebhookId,
    change: WebhookChange,
) -> sqlx::Result<StoredWebhook> {
    sqlx::query_as(concat!(
        "UPDATE webhooks SET url = coalesce($3, url), event_types = coalesce($4, event_types),
                description = coalesce($5, description), enabled = coalesce($6, enabled),
                disabled_reason = CASE WHEN $6 IS NULL THEN disabled_reason END,
                failing_since = CASE WHEN NOT coalesce($6, false) AND coalesce($3, url) = url THEN failing_since END,
                failures = CASE WHEN NOT coalesce($6, false) AND coalesce($3, url) = url THEN failures ELSE 0 END
         WHERE project_id = $1 AND id = $2 RETURNING ",
        webhook_columns!()
    ))
    .bind(tenant.project_id())
    .bind(id)
    .bind(change.url)
    .bind(change.event_types.as_deref().map(texts))
    .bind(change.description)
    .bind(change.enabled)
    .fetch_one(db)
    .await
}

/// Fails the deliveries of a webhook that waited too long while it was disabled. They are few: all others have failed
/// meanwhile.
pub async fn expire(db: &mut PgConnection, id: WebhookId, policy: &DeliveryPolicy) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE webhook_deliveries SET status = 'failed', next_attempt_at = NULL
         WHERE status = 'pending' AND id = ANY (ARRAY(
             SELECT id FROM webhook_deliveries
             WHERE webhook_id = $1 AND queued_at <= now() - make_interval(secs => $2) AND next_attempt_at IS NOT NULL
             ORDER BY queued_at LIMIT 1000))",
    )
    .bind(id)
    .bind(policy.retry_window.as_secs_f64())
    .execute(db)
    .await
    .map(drop)
}

/// Replaces the secret of one of the tenant's webhooks. The previous secret also signs until `previous_end`, if set.
pub async fn rotate(
    db: &mut PgConnection,
    tenant: Tenant,
    id: WebhookId,
    secret: &[u8],
    previous_end: Option<Timestamp>,
    now: Timestamp,
) -> sqlx::Result<StoredWebhook> {
    sqlx::query_as(concat!(
        "UPDATE webhooks SET secret = $3, previous_secret = CASE WHEN $4 IS NOT NULL THEN secret END,
                previous_expires_at = coalesce($4, $5)
         WHERE project_id = $1 AND id = $2 RETURNING ",
        webhook_columns!()
    ))
    .bind(tenant.project_id())
    .bind(id)
    .bind(secret)
    .bind(previous_end)
    .bind(now)
    .fetch_one(db)
    .await
}

/// Deletes one of the tenant's webhooks and returns it. Its deliveries are no longer accessible and are removed by the
/// worker `purge`.
pub async fn delete(db: &mut PgConnection, tenant: Tenant, id: WebhookId) -> sqlx::Result<Option<StoredWebhook>> {
    // Its deliveries are removed when the sealer can no longer be queueing an event for it.
    sqlx::query_as(concat!(
        "WITH deleted AS (DELETE FROM webhooks WHERE project_id = $1 AND id = $2 RETURNING ",
        webhook_columns!(),
        "), purge AS (
             INSERT INTO purges (kind, id, due_at) SELECT 'webhook', id, now() + interval '1 minute' FROM deleted)
         SELECT ",
        webhook_columns!(),
        " FROM deleted"
    ))
    .bind(tenant.project_id())
    .bind(id)
    .fetch_optional(db)
    .await
}

/// Reads a delivery to a webhook. The caller must have checked that the webhook belongs to the tenant.
pub async fn delivery(
    db: &mut PgConnection,
    webhook: &StoredWebhook,
    id: DeliveryId,
) -> sqlx::Result<Option<StoredDelivery>> {
    sqlx::query_as(concat!(
        "SELECT ",
        delivery_columns!(),
        " FROM webhook_deliveries WHERE webhook_id = $1 AND id = $2"
    ))
    .bind(webhook.id)
    .bind(id)
    .fetch_optional(db)
    .await
}

/// Lists the deliveries to a webhook. The caller must have checked that the webhook belongs to the tenant.
pub async fn deliveries(
    db: &mut PgConnection,
    webhook: &StoredWebhook,
    status: Option<DeliveryStatus>,
    page: &PageRequest<id::Delivery>,
) -> sqlx::Result<Page<StoredDelivery, id::Delivery>> {
    let key: &[_] = match status {
        Some(_) => &[("webhook_id", "$3"), ("status", "$4")],
        None => &[("webhook_id", "$3")],
    };
    let scan = Scan { table: "webhook_deliveries", columns: delivery_columns!(), key, ..Scan::DEFAULT };
    scan.page(db, page, |query| query.bind(webhook.id).bind(status.map(DeliveryStatus::as_str))).await
}

/// Queues a delivery to `webhook` again, due now, with a new retry period. A delivery in flight keeps its claim.
pub async fn redeliver(
    db: &mut PgConnection,
    webhook: &StoredWebhook,
    id: DeliveryId,
) -> sqlx::Result<Option<StoredDelivery>> {
    sqlx::query_as(
        concat!("UPDATE webhook_deliveries SET status = 'pending', queued_at = now(),
                next_attempt_at = CASE WHEN status = 'pending' AND attempt > coalesce((attempts -> -1 ->> 'number')::int, 0)
                                       THEN next_attempt_at ELSE now() END
         WHERE webhook_id = $1 AND id = $2 RETURNING ", delivery_columns!()),
    )
    .bind(webhook.id)
    .bind(id)
    .fetch_optional(db)
    .await
}
