//! SQL of the delivery queue, for the worker. All times are from the database's clock, which all servers share.

use std::time::Duration;

use sqlx::{PgConnection, types::Json};

use super::backoff::DeliveryPolicy;
use crate::{
    api::webhooks::model::{Attempt, DisabledReason},
    base::{
        id::{AuditId, DeliveryId, ProjectId, WebhookId},
        runtime::clock::Timestamp,
    },
    db::{self, delete_batch},
    metrics::queue_depth::Depth,
};

/// Number of deliveries up to which [`depth`] counts.
const MAX_COUNTED: i64 = 10_000;

/// Webhook that may have due deliveries.
#[derive(Clone, Copy, Debug, sqlx::FromRow)]
pub struct DueWebhook {
    /// ID of the webhook.
    pub webhook_id: WebhookId,
    /// Whether its deliveries are sent. False if it was deleted.
    pub enabled: bool,
    /// Whether its last attempt failed.
    pub failing: bool,
}

/// Finds webhooks that may have due deliveries, those that have waited longest first, without those in `busy`. Reads up
/// to `limit` timers, regardless of the numbers of webhooks and deliveries.
pub async fn due_webhooks(db: &mut PgConnection, busy: &[WebhookId], limit: i64) -> sqlx::Result<Vec<DueWebhook>> {
    sqlx::query_as(
        "SELECT t.webhook_id, coalesce(w.enabled, false) AS enabled, coalesce(w.failing, false) AS failing
         FROM (SELECT webhook_id, min(due_at) AS due_at
               FROM (SELECT webhook_id, due_at FROM webhook_timers
                     WHERE due_at <= now() AND webhook_id <> ALL ($1) ORDER BY due_at LIMIT $2) first
               GROUP BY webhook_id) t
         LEFT JOIN LATERAL (SELECT enabled, failing_since IS NOT NULL AS failing
                            FROM webhooks WHERE id = t.webhook_id OFFSET 0) w ON true
         ORDER BY t.due_at",
    )
    .bind(busy)
    .bind(limit)
    .fetch_all(db)
    .await
}

/// Claimed delivery, with everything that is needed to send it.
#[derive(Debug, sqlx::FromRow)]
pub struct ClaimedDelivery {
    /// ID of the delivery.
    pub id: DeliveryId,
    /// Number of this attempt. Only the claim with the latest attempt number may record its result.
    pub attempt: i32,
    /// Number of recorded attempts that failed because of the receiver.
    pub failures: i32,
    /// ID of the webhook.
    pub webhook_id: WebhookId,
    /// ID of the project.
    pub project_id: ProjectId,
    /// ID of the event.
    pub event_id: AuditId,
    /// Destination URL.
    pub url: String,
    /// Signing secret, sealed.
    pub secret: Vec<u8>,
    /// Previous signing secret, sealed.
    pub previous_secret: Option<Vec<u8>>,
    /// Time until which deliveries are also signed with the previous secret.
    pub previous_expires_at: Option<Timestamp>,
    /// Sealed entry of the event; none if it was redacted or removed.
    pub payload: Option<Vec<u8>>,
}

/// Claims due deliveries, up to the given number per webhook, for the duration of a lease. A delivery whose result is
/// not recorded by then is due again. Skips deliveries that another server is claiming. Of a webhook that is disabled,
/// claims nothing, and fails deliveries that have waited for the retry period.
pub async fn claim(
    db: &mut PgConnection,
    limits: &[(WebhookId, usize)],
    policy: &DeliveryPolicy,
) -> sqlx::Result<Vec<ClaimedDelivery>> {
    let webhooks: Vec<_> = limits.iter().map(|limit| limit.0).collect();
    let counts: Vec<_> = limits.iter().map(|limit| i64::try_from(limit.1).unwrap_or(i64::MAX)).collect();
    sqlx::query_as(
        "SELECT id, attempt, failures, webhook_id, project_id, event_id, url, secret, previous_secret,
                previous_expires_at, payload
         FROM claim_webhook_deliveries($1, $2, make_interval(secs => $3), make_interval(secs => $4))",
    )
    .bind(webhooks)
    .bind(counts)
    .bind(policy.lease.as_secs_f64())
    .bind(policy.retry_window.as_secs_f64())
    .fetch_all(db)
    .await
}

/// Next state of a delivery after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// The delivery succeeded.
    Delivered,
    /// The delivery is retried after this delay, if that is within the retry period.
    Retry(Duration),
    /// The delivery cannot succeed.
    Fail,
}

/// State of a delivery and its webhook after an attempt.
#[derive(Debug, sqlx::FromRow)]
pub struct RecordedAttempt {
    /// Whether the delivery will be retried.
    pub pending: bool,
    /// Whether the webhook has failed long and often enough to be disabled.
    pub hopeless: bool,
}

/// Records the result of an attempt, unless a later attempt was claimed in the meantime. The result counts for or
/// against the webhook if `by_receiver` is set.
pub async fn record_attempt(
    db: &mut PgConnection,
    delivery: &ClaimedDelivery,
    attempt: &Attempt,
    disposition: Disposition,
    by_receiver: bool,
    policy: &DeliveryPolicy,
) -> sqlx::Result<Option<RecordedAttempt>> {
    let (status, pause) = match disposition {
        Disposition::Delivered => ("delivered", None),
        Disposition::Retry(pause) => ("pending", Some(pause.as_secs_f64())),
        Disposition::Fail => ("failed", None),
    };
    let recorded: Option<RecordedAttempt> = sqlx::query_as(
        "WITH verdict AS (
             SELECT id, CASE WHEN $3 = 'pending' AND now() + make_interval(secs => $4) > queued_at + make_interval(secs => $5)
                             THEN 'failed' ELSE $3 END AS status
             FROM webhook_deliveries WHERE id = $1 AND attempt = $2 AND status = 'pending'
               -- Skips attempts already recorded by a call whose response was lost.
               AND coalesce((attempts -> -1 ->> 'number')::int, 0) < $2
             FOR UPDATE),
         noted AS (
             UPDATE webhook_deliveries d
             SET status = v.status,
                 next_attempt_at = CASE WHEN v.status = 'pending' THEN now() + make_interval(secs => $4) END,
                 attempts = CASE WHEN jsonb_array_length(attempts) >= 50 THEN attempts - 0 ELSE attempts END || $6
             FROM verdict v WHERE d.id = v.id RETURNING d.webhook_id, d.status)
         SELECT noted.status = 'pending' AS pending,
                $9 AND $3 = 'pending' AND w.failures + 1 >= $7 AND w.failing_since <= now() - make_interval(secs => $8) AS hopeless
         FROM noted JOIN webhooks w ON w.id = noted.webhook_id",
    )
    .bind(delivery.id)
    .bind(delivery.attempt)
    .bind(status)
    .bind(pause)
    .bind(policy.retry_window.as_secs_f64())
    .bind(Json(attempt))
    .bind(policy.disable_failures)
    .bind(policy.disable_after.as_secs_f64())
    .bind(by_receiver)
    .fetch_optional(&mut *db)
    .await?;
    if recorded.is_some() && by_receiver {
        // Separate statement: many attempts share the webhook's row, so it is locked only briefly, and not at all while
        // deliveries succeed.
        let sql = match disposition {
            Disposition::Delivered => {
                "UPDATE webhooks SET failing_since = NULL, failures = 0 WHERE id = $1 AND failing_since IS NOT NULL"
            }
            _ => {
                "UPDATE webhooks SET failing_since = coalesce(failing_since, now()), failures = failures + 1 WHERE id = $1"
            }
        };
        sqlx::query(sql).bind(delivery.webhook_id).execute(db).await?;
    }
    Ok(recorded)
}

/// Disables a webhook. Returns whether it was enabled.
pub async fn disable(db: &mut PgConnection, webhook: WebhookId, reason: DisabledReason) -> sqlx::Result<bool> {
    sqlx::query("UPDATE webhooks SET enabled = false, disabled_reason = $2 WHERE id = $1 AND enabled")
        .bind(webhook)
        .bind(reason)
        .execute(db)
        .await
        .map(|done| done.rows_affected() == 1)
}

/// Measures the depth of the queue. Counts up to [`MAX_COUNTED`] deliveries, of enabled webhooks.
pub async fn depth(db: &mut PgConnection) -> sqlx::Result<Depth> {
    let (waiting, due, oldest): (i64, i64, f64) = sqlx::query_as(
        "WITH pending (webhook_id) AS MATERIALIZED (
             SELECT w.id FROM (SELECT DISTINCT webhook_id FROM (SELECT webhook_id FROM webhook_timers
                                                                ORDER BY webhook_id LIMIT $1) first) t
             CROSS JOIN LATERAL (SELECT id FROM webhooks WHERE id = t.webhook_id AND enabled OFFSET 0) w
         ), oldest (at) AS (
             SELECT min(first.next_attempt_at) FROM pending p
             CROSS JOIN LATERAL (SELECT next_attempt_at FROM webhook_deliveries
                                 WHERE webhook_id = p.webhook_id AND next_attempt_at IS NOT NULL
                                 ORDER BY next_attempt_at LIMIT 1) first
         )
         SELECT count(*), count(*) FILTER (WHERE next_attempt_at <= now()),
                coalesce(extract(epoch FROM now() - least((SELECT at FROM oldest), now())), 0)::float8
         FROM (SELECT d.next_attempt_at FROM pending p
               CROSS JOIN LATERAL (SELECT next_attempt_at FROM webhook_deliveries
                                   WHERE webhook_id = p.webhook_id AND next_attempt_at IS NOT NULL
                                   ORDER BY next_attempt_at LIMIT $1) d
               LIMIT $1) counted",
    )
    .bind(MAX_COUNTED)
    .fetch_one(db)
    .await?;
    let number = |count: i64| u64::try_from(count).unwrap_or(0);
    let oldest_due = Duration::try_from_secs_f64(oldest).unwrap_or_default();
    Ok(Depth { open: number(waiting), due: number(due), oldest_due })
}

/// Removes deliveries that are too old. Returns the number of rows; call until it is 0.
pub async fn delete_old(db: &mut PgConnection, policy: &DeliveryPolicy) -> sqlx::Result<u64> {
    let until = db::database_now(db).await?.minus(policy.retention);
    let deleted = sqlx::query(delete_batch!("webhook_deliveries", "created_at")).bind(until).execute(db).await?;
    Ok(deleted.rows_affected())
}
