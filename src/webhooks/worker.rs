//! Sends what is due: takes deliveries, sends them, notes what came of it. On every server; whoever takes a delivery has it
//! for the time of a lease, and should they die, the next one takes it. At least once, therefore: a receiver knows what it
//! has seen by `webhook-id`.

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

/// How long what is being sent may take when the server stops. What is cut off is sent again, by whoever takes it next.
const DRAIN_TIME: Duration = Duration::from_secs(5);
/// How long to wait for a database that does not answer.
const LONGEST: Duration = Duration::from_secs(15);
/// How many webhooks to look at in one turn.
const TURNS: i64 = 1000;
/// How many at a time note what came of an attempt: requests want connections too.
const NOTING: usize = 3;
/// How long to wait before it is noted once more.
const NOTE_PAUSE: Duration = Duration::from_secs(1);
/// Who says that it is us.
const USER_AGENT: &str = concat!("CloudAPI/", env!("CARGO_PKG_VERSION"), " (webhooks)");

/// What came of one delivery, for the lanes.
struct Ended {
    delivered: bool,
    by_receiver: bool,
    took: Duration,
}

/// Runs until it must stop, and lets what is being sent come to its end, unless that is to be `now`.
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
        // Before, there may be no tables.
        let more = worker.app.lifecycle.is_open() && worker.take_or_log().await;
        // Where more is due than there was room for, each end makes room.
        tokio::select! {
            () = stop.cancelled() => {}
            () = worker.app.outbox.wake.notified() => {}
            // What is sealed is queued. (The channel lives as long as the application does.)
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
        tracing::info!("deliveries were still under way; they are sent again");
    }
}

struct Worker {
    app: App,
    sending: JoinSet<Ended>,
    /// Which places those that send have taken.
    places: HashMap<Id, (WebhookId, Lane)>,
    lanes: Lanes,
    noting: Arc<Semaphore>,
    is_well: bool,
}

impl Worker {
    async fn take_or_log(&mut self) -> bool {
        let late = |_| Err(Error::new(Code::Timeout, "The database did not answer in time; it is tried again"));
        match timeout(LONGEST, self.take()).await.unwrap_or_else(late) {
            Ok(more) => {
                if !std::mem::replace(&mut self.is_well, true) {
                    tracing::info!("webhooks are being sent again");
                }
                more
            }
            Err(error) => {
                self.app.db.note(&error);
                if std::mem::replace(&mut self.is_well, false) {
                    tracing::warn!(%error, "webhooks cannot be sent; deliveries wait in the database, and this is tried again");
                }
                false
            }
        }
    }

    /// Takes what is due and there is room for, and begins to send it; gives whether there may be more.
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
            tracing::error!(%error, "a delivery ended in the middle, which is a bug; it is sent again");
            (error.id(), Ended { delivered: false, by_receiver: false, took: Duration::ZERO })
        });
        match self.places.remove(&id) {
            Some((webhook, lane)) if by_receiver => self.lanes.end(webhook, lane, delivered, took),
            Some((webhook, lane)) => self.lanes.release(webhook, lane),
            None => {}
        }
    }
}

/// What an attempt led to.
struct Verdict {
    status_code: Option<u16>,
    error: Option<&'static str>,
    next: Next,
    /// Whether the receiver had a say in it.
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
        "sent"
    );
    // For as long as the delivery is ours: what is not noted is sent again.
    while let Err(error) = note_in_time(&app, &taken, &attempt, &verdict, &noting).await {
        app.db.note(&error);
        if began.elapsed() + NOTE_PAUSE >= app.outbox.pace.lease {
            tracing::warn!(%error, delivery_id = %taken.id, "what came of a delivery could not be noted; it is sent again");
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
    let late = |_| Err(Error::new(Code::Timeout, "The database did not answer in time; it is tried again"));
    let noted = async {
        // The semaphore is never closed.
        let _permit = noting.acquire().await;
        note(app, taken, attempt, verdict).await
    };
    // The wait for a permit included.
    timeout(LONGEST, noted).await.unwrap_or_else(late)
}

async fn attempt(app: &App, taken: &Taken, at: Timestamp) -> Verdict {
    let outbox = &app.outbox;
    let event = taken.payload.as_deref().and_then(|payload| Event::of(payload, &app.public_url).ok());
    let Some(event) = event else { return Verdict::ours("event_gone", Next::Never) };
    let body = event.to_json();
    // What failed for a reason of this server's makes the pauses for the receiver no longer.
    let later = |retry_after| Next::Retry(outbox.pace.pause(taken.failures + 1, retry_after));
    let Some(newest) = outbox.seals.open(taken.webhook_id, &taken.secret) else {
        tracing::error!(
            webhook_id = %taken.webhook_id,
            "this webhook's secret was sealed under another server key, so nothing can be sent to it; rotate its secret"
        );
        return Verdict::ours("secret_unreadable", Next::Retry(outbox.pace.own_pause(taken.attempt)));
    };
    let previous = taken.previous_secret.as_deref().filter(|_| taken.previous_expires_at.is_some_and(|end| end > at));
    let previous = previous.and_then(|sealed| outbox.seals.open(taken.webhook_id, sealed));
    let secrets: Vec<_> = [Some(newest), previous].into_iter().flatten().collect();

    let id = EventId::from_u128(taken.event_id.as_u128()).to_string();
    let timestamp = at.unix_seconds();
    let signatures = sign::signatures(&secrets, &id, timestamp, body.as_bytes());
    // A URL was read when it was given, and is read here by the same reader.
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
            // Not followed: it may lead anywhere.
            let error = if (300..400).contains(&status) { "redirect" } else { "unsuccessful_status" };
            let retry_after = retry_after.filter(|_| matches!(status, 429 | 503));
            Verdict { status_code: Some(status), error: Some(error), next: later(retry_after), by_receiver: true }
        }
        Err(fault) if fault.is_ours() => {
            tracing::warn!(
                webhook_id = %taken.webhook_id,
                error = fault.as_str(),
                "webhook delivery failed for a reason on this server; retried soon"
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

/// A step after the request's that caused the event, or of a trace that begins here.
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
        tracing::warn!(webhook_id = %webhook, project_id = %project, ?reason, "a webhook was disabled");
    }
    Ok(())
}
