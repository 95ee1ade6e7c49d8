//! One reader of the event stream. Reads missed events from the database, then follows the node's tail.

use std::{collections::VecDeque, convert::Infallible, pin::Pin, sync::Arc, time::Duration};

use axum::body::{Body, Bytes};
use futures_util::stream;
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::{Instant, Sleep, sleep, sleep_until, timeout},
};

use super::{
    hub::{Frame, ReaderSlot},
    repo, tail,
};
use crate::{
    api::events::EventContext,
    auth::watch::AccessWatch,
    base::{
        action::Action,
        error::{Code, Error, Result},
        id::{EventId, RequestId},
        identity::tenant::Tenant,
        input::page::{Order, PageRequest},
    },
    http::response::problem::Problem,
};

/// Reconnection delay for clients, in milliseconds.
const RETRY_MILLIS: u32 = 2_000;
/// Number of missed events per query.
const PAGE_LIMIT: u8 = 100;
/// Deadline for a database read.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum size of a chunk, in bytes. The reader's authorization is checked before each chunk.
const MAX_CHUNK_BYTES: usize = 16 * 1024;
/// Maximum difference between servers' clocks for which the resume position of an idle stream is correct.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(3600);

/// Stream of one reader.
#[derive(Debug)]
pub struct Reader {
    context: Arc<EventContext>,
    request: RequestId,
    tenant: Tenant,
    watch: AccessWatch,
    slot: ReaderSlot,
    action: Option<Action>,
    /// ID up to which events were sent or do not match the filter.
    last: EventId,
    /// Last ID that the client received, on this connection or an earlier one.
    last_sent: Option<EventId>,
    source: Source,
    backlog: VecDeque<Arc<Frame>>,
    /// Time of the last output.
    last_output: Instant,
    /// Timer of the next heartbeat. Output does not reset it, because setting timers costs more.
    heartbeat: Pin<Box<Sleep>>,
    /// Time since which the authorization cannot be checked, and the error.
    unverified: Option<(Instant, Error)>,
    has_started: bool,
    has_ended: bool,
}

type Receiver = broadcast::Receiver<Arc<Frame>>;

/// Source of events.
#[derive(Debug)]
enum Source {
    /// Database, up to the current end.
    History,
    /// Database, up to the ID at which the tail continues.
    Gap(Receiver, EventId),
    /// Tail.
    Tail(Receiver),
}

/// Parameters of a stream.
#[derive(Debug)]
pub struct StreamRequest {
    /// ID of the request that opened the stream.
    pub request: RequestId,
    /// Project.
    pub tenant: Tenant,
    /// Event type, or `None` for all types.
    pub action: Option<Action>,
    /// ID after which the stream begins, or `None` to begin with the next event.
    pub after: Option<EventId>,
}

impl Reader {
    /// Creates a reader that is authorized by `watch`.
    pub async fn new(
        context: Arc<EventContext>,
        options: StreamRequest,
        slot: ReaderSlot,
        watch: AccessWatch,
    ) -> Result<Self> {
        let (last, source) = match options.after {
            Some(after) => (after, Source::History),
            None => {
                let (receiver, now) = slot.subscribe(repo::last(&mut *context.db.acquire().await?).await?);
                (now, Source::Tail(receiver))
            }
        };
        let now = Instant::now();
        let heartbeat = Box::pin(sleep_until(now + context.hub.options.heartbeat));
        Ok(Self {
            context,
            request: options.request,
            tenant: options.tenant,
            watch,
            slot,
            action: options.action,
            last,
            last_sent: options.after,
            source,
            backlog: VecDeque::new(),
            last_output: now,
            heartbeat,
            unverified: None,
            has_started: false,
            has_ended: false,
        })
    }

    /// Response body.
    pub fn into_body(self) -> Body {
        Body::from_stream(stream::unfold(self, async |mut reader| {
            let chunk = reader.next().await?;
            Some((Ok::<_, Infallible>(chunk), reader))
        }))
    }

    async fn next(&mut self) -> Option<Bytes> {
        while !self.has_ended {
            match self.next_output().await {
                Ok(None) => {}
                Ok(Some(chunk)) => {
                    self.last_output = Instant::now();
                    return Some(chunk);
                }
                Err(error) => {
                    self.has_ended = true;
                    tracing::debug!(request_id = %self.request, code = %error.code(), "event stream ended");
                    return Some(self.error_event(&error));
                }
            }
        }
        None
    }

    /// Performs the next step. Returns the bytes to send, if any.
    async fn next_output(&mut self) -> Result<Option<Bytes>> {
        if !self.has_started {
            self.has_started = true;
            return Ok(Some(format!("retry: {RETRY_MILLIS}\n{}\n", self.id_line()).into()));
        }
        if !self.backlog.is_empty() {
            return self.send_backlog().await;
        }
        match &mut self.source {
            Source::Tail(receiver) => {
                tokio::select! {
                    biased;
                    () = self.slot.hub().closing.cancelled() => Err(closing()),
                    () = self.watch.invalidated() => self.recheck_access().await.map(|()| None),
                    received = receiver.recv() => {
                        let mut received = received.map_err(lagged)?;
                        loop {
                            let is_match = self.action.is_none_or(|action| action.as_str() == received.action);
                            if received.id > self.last && is_match {
                                self.backlog.push_back(received);
                            }
                            match receiver.try_recv() {
                                Ok(next) => received = next,
                                // The next `recv` returns the error, if there is one.
                                Err(_) => return Ok(None),
                            }
                        }
                    }
                    () = &mut self.heartbeat => self.on_heartbeat().await,
                }
            }
            Source::History | Source::Gap(..) => {
                let timed_out = |_| {
                    Err(Error::new(
                        Code::Timeout,
                        "The database did not respond in time; reconnect with the last id as Last-Event-ID",
                    ))
                };
                // Boxed, because most streams are at their tail for hours and need no memory for this.
                Box::pin(timeout(READ_TIMEOUT, self.catch_up())).await.unwrap_or_else(timed_out).map(|()| None)
            }
        }
    }

    /// Reads the next page of missed events.
    async fn catch_up(&mut self) -> Result<()> {
        let up_to = match &self.source {
            Source::Gap(_, up_to) => *up_to,
            _ => EventId::LAST,
        };
        let mut db = self.context.db.acquire().await?;
        let page = PageRequest { limit: PAGE_LIMIT, order: Order::Asc, after: self.last };
        let page = repo::list(&mut db, self.tenant, self.action, up_to, &page).await?;
        let last = page.next.or(page.items.last().map(|event| event.id));
        let url = &self.context.public_url;
        self.backlog.extend(page.items.into_iter().filter_map(|e| tail::frame(e.id, &e.payload, url)).map(Arc::new));
        self.last = last.unwrap_or(self.last);
        if page.next.is_none() {
            self.source = match std::mem::replace(&mut self.source, Source::History) {
                // The tail delivers events sealed from here on. Events sealed since the last page are the gap.
                Source::History => {
                    let (receiver, position) = self.slot.subscribe(repo::last(&mut db).await?);
                    Source::Gap(receiver, position)
                }
                Source::Gap(receiver, _) | Source::Tail(receiver) => Source::Tail(receiver),
            };
        }
        Ok(())
    }

    /// Sends queued events, if the reader is still authorized.
    async fn send_backlog(&mut self) -> Result<Option<Bytes>> {
        if self.slot.hub().closing.is_cancelled() {
            return Err(closing());
        }
        if !self.watch.is_valid() {
            self.verify_access().await?;
            if self.unverified.is_some() {
                sleep(self.slot.hub().options.check_interval).await;
                self.end_if_unverified()?;
                return Ok(None);
            }
        }
        let Some(first) = self.backlog.pop_front() else { return Ok(None) };
        let mut last_sent = first.id;
        let mut chunk = None;
        while let Some(next) = self.backlog.front() {
            let buffer = chunk.get_or_insert_with(|| first.bytes.to_vec());
            if buffer.len() + next.bytes.len() > MAX_CHUNK_BYTES {
                break;
            }
            buffer.extend_from_slice(&next.bytes);
            last_sent = next.id;
            self.backlog.pop_front();
        }
        self.last_sent = Some(last_sent);
        self.last = self.last.max(last_sent);
        // A single event is sent without copying its bytes.
        Ok(Some(chunk.map_or_else(|| first.bytes.clone(), Bytes::from)))
    }

    /// Rechecks the authorization and sends a heartbeat, if it is due.
    async fn on_heartbeat(&mut self) -> Result<Option<Bytes>> {
        let options = self.slot.hub().options;
        let due = self.last_output + options.heartbeat;
        if Instant::now() < due {
            self.heartbeat.as_mut().reset(due);
            return Ok(None);
        }
        // Retry, if there is no output now.
        self.heartbeat.as_mut().reset(Instant::now() + options.check_interval.min(options.heartbeat));
        self.recheck_access().await?;
        self.end_if_unverified()?;
        let (Source::Tail(receiver), None) = (&self.source, &self.unverified) else { return Ok(None) };
        // Read the position before checking the queue: if the queue is then empty, all events up to the position were
        // received.
        if let Some(position) = self.slot.hub().position()
            && receiver.is_empty()
        {
            self.last = self.last.max(position);
        }
        Ok(Some(format!(": still here\n{}\n", self.id_line()).into()))
    }

    /// Rechecks the authorization, unless it is certain.
    async fn recheck_access(&mut self) -> Result<()> {
        if self.watch.is_valid() { Ok(()) } else { self.verify_access().await }
    }

    /// Rechecks the authorization. Fails if it was revoked. If it cannot be checked now, sets `unverified`.
    async fn verify_access(&mut self) -> Result<()> {
        let timed_out = |_| Err(Error::new(Code::Timeout, "The database did not respond in time; retrying"));
        // Boxed for the same reason as `catch_up`.
        let checked = Box::pin(timeout(READ_TIMEOUT, self.watch.check())).await;
        self.unverified = match checked.unwrap_or_else(timed_out) {
            Ok(()) => None,
            Err(error) => match error.code() {
                Code::AuthUnavailable | Code::DatabaseUnavailable | Code::Overloaded | Code::Timeout => {
                    let since = self.unverified.take().map_or_else(Instant::now, |(since, _)| since);
                    Some((since, error))
                }
                _ => return Err(error),
            },
        };
        Ok(())
    }

    /// Ends the stream if the authorization could not be checked for a heartbeat interval, so that the client
    /// reconnects to another server.
    fn end_if_unverified(&mut self) -> Result<()> {
        let max_duration = self.slot.hub().options.heartbeat;
        match self.unverified.take_if(|(since, _)| since.elapsed() >= max_duration) {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }

    /// Position from which the client resumes if the connection ends before the next event. Never the ID of an event in
    /// another project, and always within the retention period, also on an idle stream.
    fn id_line(&self) -> String {
        let second = |millis: u64| EventId::min_at(millis / 1000 * 1000);
        let idle_id = || {
            let recent = self.context.clock.now().minus(CLOCK_TOLERANCE).unix_millis();
            second(self.last.millis()).max(second(u64::try_from(recent).unwrap_or(0)))
        };
        let id = match self.source {
            Source::Tail(_) => self.last_sent.map_or_else(idle_id, |last_sent| last_sent.max(idle_id())),
            Source::History | Source::Gap(..) => self.last_sent.unwrap_or(self.last),
        };
        format!("id: {id}\n")
    }

    /// Final error event.
    fn error_event(&self, error: &Error) -> Bytes {
        let problem = Problem::new(error, self.request, &self.context.public_url);
        let problem = serde_json::to_string(&problem).unwrap_or_default();
        format!("event: error\ndata: {problem}\n\n").into()
    }
}

fn closing() -> Error {
    Error::new(
        Code::Overloaded,
        "The server is shutting down; reconnect with the last id as Last-Event-ID to continue at another server",
    )
}

fn lagged(error: RecvError) -> Error {
    match error {
        RecvError::Lagged(missed) => Error::new(
            Code::LimitReached,
            format!(
                "The client reads too slowly, and {missed} events were dropped; reconnect with the last id as Last-Event-ID, and read faster"
            ),
        ),
        RecvError::Closed => Error::internal("event ring closed while it had readers"),
    }
}
