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
use tokio::{
    sync::Semaphore,
    task::{Id, JoinError, JoinSet},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{
    figures::Outcome,
    model::{Attempt, DisabledReason, FailureCause},
    pace::{Lane, Lanes},
    queue::{self, Next, Taken},
    send::Answer,
    sign,
};
use crate::{
    base::{
        action::Action,
        clock::Timestamp,
        error::{Code, Error, Result},
        heartbeat::Heartbeat,
        id::{EventId, ProjectId, WebhookId},
        request::RequestContext,
        trace::TraceContext,
    },
    events::model::Event,
    state::App,
    tx::Change,
};

/// Time for deliveries in flight to finish when the server stops. An interrupted delivery is sent again by the next
/// server that claims it.
const DRAIN_TIME: Duration = Duration::from_secs(5);
/// Deadline for a call to the database.
const LONGEST: Duration = Duration::from_secs(15);
/// Maximum number of webhooks per poll.
const TURNS: i64 = 1000;
/// Maximum number of concurrent writes of results, so that connections remain for requests.
const NOTING: usize = 3;
/// Delay before a result is recorded again.
const NOTE_PAUSE: Duration = Duration::from_secs(1);
/// User agent of deliveries.
const USER_AGENT: &str = concat!("CloudAPI/", env!("CARGO_PKG_VERSION"), " (webhooks)");

/// Result of one delivery, for the lanes.
struct Ended {
    delivered: bool,
    by_receiver: bool,
    took: Duration,
}

/// Runs until it is stopped, then lets deliveries in flight finish, unless `now` is canceled.
pub async fn run(app: App, heartbeat: Heartbeat, now: CancellationToken) {
    let stop = heartbeat.stop();
    let mut worker = Worker {
        noting: Arc::new(Semaphore::new(NOTING)),
        sending: JoinSet::new(),
        places: HashMap::new(),
        lanes: Lanes::default(),
        is_well: true,
        app,
    };
    let mut sealed = worker.app.sealing.last.subscribe();
    while !stop.is_cancelled() {
        heartbeat.progress();
        // Before that, the tables may not exist.
        let more = worker.app.lifecycle.is_open() && worker.take_or_log().await;
        // If more deliveries are due than there was capacity for, each finished one frees capacity.
        tokio::select! {
            () = stop.cancelled() => {}
            () = worker.app.outbox.wake.notified() => {}
            // A sealed event may have queued deliveries. The channel is open as long as the application exists.
            _ = sealed.changed() => {}
            () = tokio::time::sleep(worker.app.outbox.pace.poll) => {}
            Some(ended) = worker.sending.join_next_with_id(), if more => worker.ended(ended),
        }
        while let Some(ended) = worker.sending.try_join_next_with_id() {
            worker.ended(ended);
        }
    }
    let drained = async { while worker.sending.join_next().await.is_some() {} };
    if !matches!(timeout(DRAIN_TIME, now.run_until_cancelled(drained)).await, Ok(Some(()))) {
        tracing::info!("webhook deliveries interrupted by shutdown; they are retried");
    }
}

struct Worker {
    app: App,
    sending: JoinSet<Ended>,
    /// Webhook and lane of each task in flight.
    places: HashMap<Id, (WebhookId, Lane)>,
    lanes: Lanes,
    noting: Arc<Semaphore>,
    is_well: bool,
}

impl Worker {
    async fn take_or_log(&mut self) -> bool {
        let late = |_| Err(Error::new(Code::Timeout, "The database did not respond in time; retrying"));
        match timeout(LONGEST, self.take()).await.unwrap_or_else(late) {
            Ok(more) => {
                if !std::mem::replace(&mut self.is_well, true) {
                    tracing::info!("webhook worker resumed");
                }
                more
            }
            Err(error) => {
                self.app.db.note(&error);
                if std::mem::replace(&mut self.is_well, false) {
                    tracing::warn!(%error, "webhook worker failed; deliveries wait in the database and are retried");
                }
                false
            }
        }
    }

    /// Claims due deliveries within the free capacity and starts to send them. Returns whether more may be due.
    async fn take(&mut self) -> Result<bool> {
        let mut db = self.app.db.acquire_for_write().await?;
        let turns = queue::turns(&mut db, TURNS).await?;
        if turns.is_empty() {
            return Ok(false);
        }
        let (mut chosen, mut lanes) = (Vec::new(), HashMap::new());
        let mut free = [self.lanes.free(Lane::Sound), self.lanes.free(Lane::Troubled)];
        for turn in turns {
            let (lane, room) = self.lanes.room(turn.webhook_id, turn.failing);
            let [sound, troubled] = &mut free;
            let free = if lane == Lane::Sound { sound } else { troubled };
            let room = room.min(*free);
            *free -= room;
            if room > 0 {
                chosen.push((turn.webhook_id, room));
                lanes.insert(turn.webhook_id, lane);
            }
        }
        if chosen.is_empty() {
            return Ok(true);
        }
        let taken = queue::take(&mut db, &chosen, self.app.outbox.pace.lease).await?;
        drop(db);
        self.app.outbox.figures.add_taken(taken.len());
        for taken in taken {
            let place = (taken.webhook_id, lanes.get(&taken.webhook_id).copied().unwrap_or(Lane::Troubled));
            self.lanes.begin(place.0, place.1);
            let task = self.sending.spawn(deliver(self.app.clone(), taken, Arc::clone(&self.noting)));
            self.places.insert(task.id(), place);
        }
        Ok(true)
    }

    fn ended(&mut self, ended: std::result::Result<(Id, Ended), JoinError>) {
        let (id, Ended { delivered, by_receiver, took }) = ended.unwrap_or_else(|error| {
            tracing::error!(%error, "webhook delivery task aborted, which is a bug; the delivery is retried");
            (error.id(), Ended { delivered: false, by_receiver: false, took: Duration::ZERO })
        });
        match self.places.remove(&id) {
            Some((webhook, lane)) if by_receiver => self.lanes.end(webhook, lane, delivered, took),
            Some((webhook, lane)) => self.lanes.release(webhook, lane),
            None => {}
        }
    }
}

/// Result of an attempt.
struct Verdict {
    status_code: Option<u16>,
    error: Option<&'static str>,
    next: Next,
    /// Whether the result was decided by the receiver.
    by_receiver: bool,
}

impl Verdict {
    fn ours(error: &'static str, next: Next) -> Self {
        Self { status_code: None, error: Some(error), next, by_receiver: false }
    }
}

async fn deliver(app: App, taken: Taken, noting: Arc<Semaphore>) -> Ended {
    let (began, at) = (Instant::now(), app.clock.now());
    let verdict = attempt(&app, &taken, at).await;
    let took = began.elapsed();
    let attempt = Attempt {
        number: taken.attempt,
        at,
        status_code: verdict.status_code,
        error: verdict.error.map(Into::into),
        cause: verdict.error.map(|_| if verdict.by_receiver { FailureCause::Receiver } else { FailureCause::Server }),
        duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
    };
    tracing::debug!(
        webhook_id = %taken.webhook_id,
        delivery_id = %taken.id,
        attempt = taken.attempt,
        status = verdict.status_code,
        error = verdict.error,
        duration_ms = attempt.duration_ms,
        "webhook delivery attempted"
    );
    // Retries only within the lease. A delivery whose result is not recorded is sent again.
    while let Err(error) = note_in_time(&app, &taken, &attempt, &verdict, &noting).await {
        app.db.note(&error);
        if began.elapsed() + NOTE_PAUSE >= app.outbox.pace.lease {
            tracing::warn!(%error, delivery_id = %taken.id, "webhook delivery result not recorded; retrying");
            break;
        }
        tokio::time::sleep(NOTE_PAUSE).await;
    }
    Ended { delivered: verdict.next == Next::Done, by_receiver: verdict.by_receiver, took }
}

async fn note_in_time(
    app: &App,
    taken: &Taken,
    attempt: &Attempt,
    verdict: &Verdict,
    noting: &Semaphore,
) -> Result<()> {
    let late = |_| Err(Error::new(Code::Timeout, "The database did not respond in time; retrying"));
    let noted = async {
        // The semaphore is never closed.
        let _permit = noting.acquire().await;
        note(app, taken, attempt, verdict).await
    };
    // The timeout includes the wait for a permit.
    timeout(LONGEST, noted).await.unwrap_or_else(late)
}

async fn attempt(app: &App, taken: &Taken, at: Timestamp) -> Verdict {
    let outbox = &app.outbox;
    let event = taken.payload.as_deref().and_then(|payload| Event::of(payload, &app.public_url).ok());
    let Some(event) = event else { return Verdict::ours("event_gone", Next::Never) };
    let body = event.to_json();
    // Failures of this server do not lengthen the receiver's backoff.
    let later = |retry_after| Next::Retry(outbox.pace.pause(taken.failures + 1, retry_after));
    let Some(newest) = outbox.seals.open(taken.webhook_id, &taken.secret) else {
        tracing::error!(
            webhook_id = %taken.webhook_id,
            "webhook secret was sealed with another server key, so deliveries fail; rotate the secret"
        );
        return Verdict::ours("secret_unreadable", Next::Retry(outbox.pace.own_pause(taken.attempt)));
    };
    let previous = taken.previous_secret.as_deref().filter(|_| taken.previous_expires_at.is_some_and(|end| end > at));
    let previous = previous.and_then(|sealed| outbox.seals.open(taken.webhook_id, sealed));
    let secrets: Vec<_> = [Some(newest), previous].into_iter().flatten().collect();

    let id = EventId::from_u128(taken.event_id.as_u128()).to_string();
    let timestamp = at.unix_seconds();
    let signatures = sign::signatures(&secrets, &id, timestamp, body.as_bytes());
    // The URL was validated with the same parser when it was set.
    let (Ok(url), Some(headers)) = (Url::parse(&taken.url), headers(&id, timestamp, &signatures, trace(&event))) else {
        return Verdict::ours("bad_url", Next::Never);
    };
    let mut request = Request::post("/").body(Body::from(body)).unwrap_or_default();
    *request.headers_mut() = headers;
    *request.method_mut() = hyper::Method::POST;
    match outbox.sender.send(&url, request, outbox.pace.exchange).await {
        Ok(Answer { status, .. }) if (200..300).contains(&status) => {
            Verdict { status_code: Some(status), error: None, next: Next::Done, by_receiver: true }
        }
        Ok(Answer { status, retry_after }) => {
            // Redirects are not followed, because they may lead to an address that is not permitted.
            let error = if (300..400).contains(&status) { "redirect" } else { "unsuccessful_status" };
            let retry_after = retry_after.filter(|_| matches!(status, 429 | 503));
            Verdict { status_code: Some(status), error: Some(error), next: later(retry_after), by_receiver: true }
        }
        Err(fault) if fault.is_ours() => {
            tracing::warn!(
                webhook_id = %taken.webhook_id,
                error = fault.as_str(),
                "webhook delivery failed because of this server; retrying soon"
            );
            Verdict::ours(fault.as_str(), Next::Retry(outbox.pace.own_pause(taken.attempt)))
        }
        Err(fault) => Verdict { status_code: None, error: Some(fault.as_str()), next: later(None), by_receiver: true },
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
    event.traceparent.as_deref().and_then(TraceContext::following).unwrap_or_else(TraceContext::begin)
}

async fn note(app: &App, taken: &Taken, attempt: &Attempt, verdict: &Verdict) -> Result<()> {
    let outbox = &app.outbox;
    let mut db = app.db.acquire_for_write().await?;
    let noted = queue::note(&mut db, taken, attempt, verdict.next, verdict.by_receiver, &outbox.pace).await?;
    drop(db);
    outbox.figures.add(match (&noted, verdict.next) {
        (None, _) => Outcome::Overtaken,
        (Some(_), Next::Done) => Outcome::Delivered,
        (Some(noted), _) if noted.pending => Outcome::Retried,
        (Some(_), _) => Outcome::Failed,
    });
    let reason = match (noted, verdict.status_code) {
        (Some(_), Some(410)) => DisabledReason::Gone,
        (Some(noted), _) if noted.hopeless => DisabledReason::Failing,
        _ => return Ok(()),
    };
    disable(app, taken.webhook_id, taken.project_id, reason).await
}

async fn disable(app: &App, webhook: WebhookId, project: ProjectId, reason: DisabledReason) -> Result<()> {
    let mut tx = app.writes.begin(&Arc::new(RequestContext::system())).await?;
    if queue::disable(tx.db(), webhook, reason).await? {
        let change = Change::new(Action::WebhookDisabled, webhook, Some(project))
            .with("enabled", [true, false])
            .with("disabled_reason", [None, Some(reason)]);
        tx.commit(change, ()).await?;
        app.outbox.figures.add_disabled();
        tracing::warn!(webhook_id = %webhook, project_id = %project, ?reason, "webhook disabled");
    }
    Ok(())
}
