//! Claims due deliveries, sends them, and records the results, on every server. A claim is a lease: if the server dies,
//! another server claims the delivery after the lease expires. Deliveries are therefore sent at least once; receivers
//! recognize duplicates by `webhook-id`.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::body::Body;
use hyper::{HeaderMap, Request, header};
use tokio::sync::watch;
use tokio::{
    sync::Semaphore,
    task::{Id, JoinError, JoinSet},
    time::{sleep, timeout},
};
use url::Url;

use super::{
    backoff::{Lane, Lanes},
    queue::{self, ClaimedDelivery, Disposition},
    send::ReceiverResponse,
    sign,
};
use crate::{
    api::{
        events::model::Event,
        webhooks::{
            WebhookContext,
            metrics::DeliveryOutcome,
            model::{Attempt, DisabledReason, FailureCause},
        },
    },
    base::{
        action::Action,
        error::{Code, Error, Result},
        id::{AuditId, EventId, ProjectId, WebhookId},
        runtime::{clock::Timestamp, request::RequestContext, trace::TraceContext},
    },
    db::{Pool, jobs::JobQueue, pulse::Work},
    tx::Change,
};

/// Deadline for a call to the database.
const QUERY_TIMEOUT: Duration = Duration::from_secs(15);
/// Maximum number of timers that are read per poll.
const MAX_TIMERS: i64 = 1000;
/// Maximum number of concurrent writes of results, so that connections remain for requests.
const MAX_DB_PERMITS: usize = 3;
/// Delay before a result is recorded again.
const RECORD_RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// User agent of deliveries.
const USER_AGENT: &str = concat!("CloudAPI/", env!("CARGO_PKG_VERSION"), " (webhooks)");

/// Result of one delivery, for the lanes.
pub struct FinishedDelivery {
    delivered: bool,
    by_receiver: bool,
    duration: Duration,
}

/// The queue of deliveries.
pub struct DeliveryQueue {
    context: Arc<WebhookContext>,
    /// Webhook and lane of each task in flight.
    task_lanes: HashMap<Id, (WebhookId, Lane)>,
    lanes: Lanes,
    db_permits: Arc<Semaphore>,
    /// Last sealed entry. A sealed event may have queued deliveries.
    sealed: watch::Receiver<AuditId>,
}

impl DeliveryQueue {
    /// Creates the queue of one server.
    pub fn new(context: Arc<WebhookContext>) -> Self {
        Self {
            task_lanes: HashMap::new(),
            lanes: Lanes::default(),
            db_permits: Arc::new(Semaphore::new(MAX_DB_PERMITS)),
            sealed: context.sealing.last_sealed.subscribe(),
            context,
        }
    }
}

impl JobQueue for DeliveryQueue {
    const NAME: &'static str = "webhook deliveries";
    type Finished = FinishedDelivery;

    fn pool(&self) -> &Pool {
        &self.context.db
    }

    fn is_ready(&self) -> bool {
        self.context.lifecycle.has_started()
    }

    async fn wait(&mut self) {
        let WebhookContext { store, outbox, .. } = &*self.context;
        let others = async {
            sleep(outbox.policy.poll).await;
            store.db.pulse().due(Work::Deliveries).await;
        };
        tokio::select! {
            () = outbox.wake.notified() => {}
            // The channel is open as long as the application exists.
            _ = self.sealed.changed() => {}
            () = others => {}
        }
    }

    /// Claims due deliveries within the free capacity and starts to send them. Returns whether more may be due.
    async fn claim(&mut self, tasks: &mut JoinSet<FinishedDelivery>) -> Result<bool> {
        let mut db = self.context.db.acquire_for_write().await?;
        let busy = self.lanes.busy();
        let due = queue::due_webhooks(&mut db, &busy, MAX_TIMERS).await?;
        if due.is_empty() {
            return Ok(!busy.is_empty());
        }
        let (mut chosen, mut lanes) = (Vec::new(), HashMap::new());
        let mut free = [self.lanes.free(Lane::Healthy), self.lanes.free(Lane::Failing)];
        for webhook in due {
            if !webhook.enabled {
                chosen.push((webhook.webhook_id, 0));
                continue;
            }
            let (lane, slots) = self.lanes.available(webhook.webhook_id, webhook.failing);
            let [healthy, failing_lane] = &mut free;
            let free = if lane == Lane::Healthy { healthy } else { failing_lane };
            let slots = slots.min(*free);
            *free -= slots;
            if slots > 0 {
                chosen.push((webhook.webhook_id, slots));
                lanes.insert(webhook.webhook_id, lane);
            }
        }
        if chosen.is_empty() {
            return Ok(true);
        }
        let claimed = queue::claim(&mut db, &chosen, &self.context.outbox.policy).await?;
        drop(db);
        self.context.outbox.metrics.add_attempts(claimed.len());
        for delivery in claimed {
            let lane_of_task = (delivery.webhook_id, lanes.get(&delivery.webhook_id).copied().unwrap_or(Lane::Failing));
            self.lanes.begin(lane_of_task.0, lane_of_task.1);
            let task = tasks.spawn(deliver(self.context.clone(), delivery, Arc::clone(&self.db_permits)));
            self.task_lanes.insert(task.id(), lane_of_task);
        }
        Ok(true)
    }

    fn on_finished(&mut self, finished: std::result::Result<(Id, FinishedDelivery), JoinError>) {
        let (id, FinishedDelivery { delivered, by_receiver, duration }) = finished.unwrap_or_else(|error| {
            tracing::error!(%error, "webhook delivery task aborted, which is a bug; the delivery is retried");
            (error.id(), FinishedDelivery { delivered: false, by_receiver: false, duration: Duration::ZERO })
        });
        if !delivered {
            // It may be due before the next reading.
            self.context.db.pulse().request();
        }
        match self.task_lanes.remove(&id) {
            Some((webhook, lane)) if by_receiver => self.lanes.end(webhook, lane, delivered, duration),
            Some((webhook, lane)) => self.lanes.release(webhook, lane),
            None => {}
        }
    }
}

/// Result of an attempt.
struct AttemptOutcome {
    status_code: Option<u16>,
    error: Option<&'static str>,
    disposition: Disposition,
    /// Whether the result was decided by the receiver.
    by_receiver: bool,
}

impl AttemptOutcome {
    fn local_failure(error: &'static str, disposition: Disposition) -> Self {
        Self { status_code: None, error: Some(error), disposition, by_receiver: false }
    }
}

async fn deliver(
    context: Arc<WebhookContext>,
    delivery: ClaimedDelivery,
    db_permits: Arc<Semaphore>,
) -> FinishedDelivery {
    let (started, at) = (Instant::now(), context.clock.now());
    let outcome = attempt(&context, &delivery, at).await;
    let duration = started.elapsed();
    let attempt = Attempt {
        number: delivery.attempt,
        at,
        status_code: outcome.status_code,
        error: outcome.error.map(Into::into),
        cause: outcome.error.map(|_| if outcome.by_receiver { FailureCause::Receiver } else { FailureCause::Server }),
        duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
    };
    tracing::debug!(
        webhook_id = %delivery.webhook_id,
        delivery_id = %delivery.id,
        attempt = delivery.attempt,
        status = outcome.status_code,
        error = outcome.error,
        duration_ms = attempt.duration_ms,
        "webhook delivery attempted"
    );
    // Retries only within the lease. A delivery whose result is not recorded is sent again.
    while let Err(error) = record_with_timeout(&context, &delivery, &attempt, &outcome, &db_permits).await {
        context.db.handle_error(&error);
        if started.elapsed() + RECORD_RETRY_INTERVAL >= context.outbox.policy.lease {
            tracing::warn!(%error, delivery_id = %delivery.id, "webhook delivery result not recorded; retrying");
            break;
        }
        sleep(RECORD_RETRY_INTERVAL).await;
    }
    FinishedDelivery {
        delivered: outcome.disposition == Disposition::Delivered,
        by_receiver: outcome.by_receiver,
        duration,
    }
}

async fn record_with_timeout(
    context: &WebhookContext,
    delivery: &ClaimedDelivery,
    attempt: &Attempt,
    outcome: &AttemptOutcome,
    db_permits: &Semaphore,
) -> Result<()> {
    let timed_out = |_| Err(Error::new(Code::Timeout, "The database did not respond in time; retrying"));
    let recorded = async {
        // The semaphore is never closed.
        let _permit = db_permits.acquire().await;
        record(context, delivery, attempt, outcome).await
    };
    // The timeout includes the wait for a permit.
    timeout(QUERY_TIMEOUT, recorded).await.unwrap_or_else(timed_out)
}

async fn attempt(context: &WebhookContext, delivery: &ClaimedDelivery, at: Timestamp) -> AttemptOutcome {
    let outbox = &context.outbox;
    let event = delivery.payload.as_deref().and_then(|payload| Event::from_payload(payload, &context.public_url).ok());
    let Some(event) = event else { return AttemptOutcome::local_failure("event_gone", Disposition::Fail) };
    let body = event.to_json();
    // Failures of this server do not lengthen the receiver's backoff.
    let retry = |retry_after| Disposition::Retry(outbox.policy.backoff(delivery.failures + 1, retry_after));
    let Some(newest) = outbox.cipher.open(delivery.webhook_id, &delivery.secret) else {
        tracing::error!(
            webhook_id = %delivery.webhook_id,
            "webhook secret was sealed with another server key, so deliveries fail; rotate the secret"
        );
        return AttemptOutcome::local_failure(
            "secret_unreadable",
            Disposition::Retry(outbox.policy.local_backoff(delivery.attempt)),
        );
    };
    let previous =
        delivery.previous_secret.as_deref().filter(|_| delivery.previous_expires_at.is_some_and(|end| end > at));
    let previous = previous.and_then(|sealed| outbox.cipher.open(delivery.webhook_id, sealed));
    let secrets: Vec<_> = [Some(newest), previous].into_iter().flatten().collect();

    let id = EventId::from_u128(delivery.event_id.as_u128()).to_string();
    let timestamp = at.unix_seconds();
    let signatures = sign::signatures(&secrets, &id, timestamp, body.as_bytes());
    // The URL was validated with the same parser when it was set.
    let (Ok(url), Some(headers)) = (Url::parse(&delivery.url), headers(&id, timestamp, &signatures, trace(&event)))
    else {
        return AttemptOutcome::local_failure("bad_url", Disposition::Fail);
    };
    let mut request = Request::post("/").body(Body::from(body)).unwrap_or_default();
    *request.headers_mut() = headers;
    *request.method_mut() = hyper::Method::POST;
    match outbox.sender.send(&url, request, outbox.policy.request_timeout).await {
        Ok(ReceiverResponse { status, .. }) if (200..300).contains(&status) => AttemptOutcome {
            status_code: Some(status),
            error: None,
            disposition: Disposition::Delivered,
            by_receiver: true,
        },
        Ok(ReceiverResponse { status, retry_after }) => {
            // Redirects are not followed, because they may lead to an address that is not permitted.
            let error = if (300..400).contains(&status) { "redirect" } else { "unsuccessful_status" };
            let retry_after = retry_after.filter(|_| matches!(status, 429 | 503));
            AttemptOutcome {
                status_code: Some(status),
                error: Some(error),
                disposition: retry(retry_after),
                by_receiver: true,
            }
        }
        Err(error) if error.is_local() => {
            tracing::warn!(
                webhook_id = %delivery.webhook_id,
                error = error.as_str(),
                "webhook delivery failed because of this server; retrying soon"
            );
            AttemptOutcome::local_failure(
                error.as_str(),
                Disposition::Retry(outbox.policy.local_backoff(delivery.attempt)),
            )
        }
        Err(error) => AttemptOutcome {
            status_code: None,
            error: Some(error.as_str()),
            disposition: retry(None),
            by_receiver: true,
        },
    }
}

fn headers(id: &str, timestamp: i64, signatures: &str, trace: TraceContext) -> Option<HeaderMap> {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    headers.insert(header::USER_AGENT, header::HeaderValue::from_static(USER_AGENT));
    headers.insert("webhook-id", id.parse().ok()?);
    headers.insert("webhook-timestamp", timestamp.into());
    headers.insert("webhook-signature", signatures.parse().ok()?);
    headers.insert("traceparent", trace.to_string().parse().ok()?);
    Some(headers)
}

/// Child span of the request that caused the event, or a new trace.
fn trace(event: &Event) -> TraceContext {
    event.traceparent.as_deref().and_then(TraceContext::child_of).unwrap_or_else(TraceContext::new_root)
}

async fn record(
    context: &WebhookContext,
    delivery: &ClaimedDelivery,
    attempt: &Attempt,
    outcome: &AttemptOutcome,
) -> Result<()> {
    let outbox = &context.outbox;
    let mut db = context.db.acquire_for_write().await?;
    let recorded =
        queue::record_attempt(&mut db, delivery, attempt, outcome.disposition, outcome.by_receiver, &outbox.policy)
            .await?;
    drop(db);
    outbox.metrics.add_outcome(match (&recorded, outcome.disposition) {
        (None, _) => DeliveryOutcome::Superseded,
        (Some(_), Disposition::Delivered) => DeliveryOutcome::Delivered,
        (Some(recorded), _) if recorded.pending => DeliveryOutcome::Retried,
        (Some(_), _) => DeliveryOutcome::Failed,
    });
    let reason = match (recorded, outcome.status_code) {
        (Some(_), Some(410)) => DisabledReason::Gone,
        (Some(recorded), _) if recorded.hopeless => DisabledReason::Failing,
        _ => return Ok(()),
    };
    disable(context, delivery.webhook_id, delivery.project_id, reason).await
}

async fn disable(
    context: &WebhookContext,
    webhook: WebhookId,
    project: ProjectId,
    reason: DisabledReason,
) -> Result<()> {
    let mut tx = context.writes.begin(&Arc::new(RequestContext::system())).await?;
    if queue::disable(tx.db(), webhook, reason).await? {
        let change = Change::new(Action::WebhookDisabled, webhook, Some(project))
            .with("enabled", [true, false])
            .with("disabled_reason", [None, Some(reason)]);
        tx.commit(change, ()).await?;
        context.outbox.metrics.add_disabled();
        tracing::warn!(webhook_id = %webhook, project_id = %project, ?reason, "webhook disabled");
    }
    Ok(())
}
