//! One reader of the event stream. Reads missed events from the database, then follows the node's tail.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use axum::body::{Body, Bytes};
use futures_util::stream;
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::{Instant, Interval, MissedTickBehavior, interval_at, timeout},
};

use super::{
    hub::{Frame, Place},
    repo, tail,
};
use crate::{
    auth::watch::Watch,
    base::{
        action::Action,
        error::{Code, Error, Result},
        id::{EventId, RequestId},
        tenant::Tenant,
    },
    http::problem::Problem,
    state::App,
};

/// Reconnection delay for clients, in milliseconds.
const RETRY: u32 = 2_000;
/// Number of missed events per query.
const ROWS: i64 = 200;
/// Deadline for a database read.
const READ_TIME: Duration = Duration::from_secs(5);
/// Maximum size of a chunk, in bytes. The reader's authorization is checked before each chunk.
const PIECE: usize = 16 * 1024;
/// Maximum difference between servers' clocks for which the resume position of an idle stream is correct.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(3600);

/// Stream of one reader.
#[derive(Debug)]
pub struct Reader {
    app: App,
    request: RequestId,
    tenant: Tenant,
    watch: Watch,
    place: Place,
    action: Option<Action>,
    /// ID up to which events were sent or do not match the filter.
    last: EventId,
    /// Last ID that the client received, on this connection or an earlier one.
    given: Option<EventId>,
    source: Source,
    backlog: VecDeque<Arc<Frame>>,
    /// Time of the last output.
    spoke: Instant,
    look: Interval,
    /// Time since which the authorization cannot be checked, and the error.
    doubt: Option<(Instant, Error)>,
    greeted: bool,
    ended: bool,
}

type Receiver = broadcast::Receiver<Arc<Frame>>;

/// Source of events.
#[derive(Debug)]
enum Source {
    /// Database, up to the current end.
    Past,
    /// Database, up to the ID at which the tail continues.
    Gap(Receiver, EventId),
    /// Tail.
    Tail(Receiver),
}

/// Parameters of a stream.
#[derive(Debug)]
pub struct Wanted {
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
    pub async fn new(app: &App, wanted: Wanted, place: Place, watch: Watch) -> Result<Self> {
        let (last, source) = match wanted.after {
            Some(after) => (after, Source::Past),
            None => {
                let (receiver, now) = place.listen(repo::last(&mut *app.db.acquire().await?).await?);
                (now, Source::Tail(receiver))
            }
        };
        let now = Instant::now();
        let every = app.hub.options.look.min(app.hub.options.heartbeat);
        let mut look = interval_at(now + every, every);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            app: app.clone(),
            request: wanted.request,
            tenant: wanted.tenant,
            watch,
            place,
            action: wanted.action,
            last,
            given: wanted.after,
            source,
            backlog: VecDeque::new(),
            spoke: now,
            look,
            doubt: None,
            greeted: false,
            ended: false,
        })
    }

    /// Response body.
    pub fn into_body(self) -> Body {
        Body::from_stream(stream::unfold(self, async |mut reader| {
            let piece = reader.next().await?;
            Some((Ok::<_, Infallible>(piece), reader))
        }))
    }

    async fn next(&mut self) -> Option<Bytes> {
        while !self.ended {
            match self.step().await {
                Ok(None) => {}
                Ok(Some(piece)) => {
                    self.spoke = Instant::now();
                    return Some(piece);
                }
                Err(error) => {
                    self.ended = true;
                    tracing::debug!(request_id = %self.request, code = %error.code(), "event stream ended");
                    return Some(self.farewell(&error));
                }
            }
        }
        None
    }

    /// Performs the next step. Returns the bytes to send, if any.
    async fn step(&mut self) -> Result<Option<Bytes>> {
        if !self.greeted {
            self.greeted = true;
            return Ok(Some(format!("retry: {RETRY}\n{}\n", self.id_line()).into()));
        }
        if !self.backlog.is_empty() {
            return self.give().await;
        }
        match &mut self.source {
            Source::Tail(receiver) => {
                tokio::select! {
                    biased;
                    () = self.place.hub().closing.cancelled() => Err(closing()),
                    () = self.watch.recalled() => self.judge().await.map(|()| None),
                    received = receiver.recv() => {
                        let mut received = received.map_err(fell_behind)?;
                        loop {
                            let is_wanted = self.action.is_none_or(|action| action.as_str() == received.action);
                            if received.id > self.last && is_wanted {
                                self.backlog.push_back(received);
                            }
                            match receiver.try_recv() {
                                Ok(next) => received = next,
                                // The next `recv` returns the error, if there is one.
                                Err(_) => return Ok(None),
                            }
                        }
                    }
                    _ = self.look.tick() => self.look().await,
                }
            }
            Source::Past | Source::Gap(..) => {
                let late = |_| {
                    Err(Error::new(
                        Code::Timeout,
                        "The database did not respond in time; reconnect with the last id as Last-Event-ID",
                    ))
                };
                timeout(READ_TIME, self.catch_up()).await.unwrap_or_else(late).map(|()| None)
            }
        }
    }

    /// Reads the next page of missed events.
    async fn catch_up(&mut self) -> Result<()> {
        let up_to = match &self.source {
            Source::Gap(_, up_to) => *up_to,
            _ => EventId::LAST,
        };
        let mut db = self.app.db.acquire().await?;
        let page = repo::between(&mut db, self.tenant, self.action, (self.last, up_to), ROWS).await?;
        let is_all = (page.len() as i64) < ROWS;
        let read_to = page.last().map(|event| event.id);
        let url = &self.app.public_url;
        self.backlog.extend(page.into_iter().filter_map(|e| tail::frame(e.id, &e.payload, url)).map(Arc::new));
        self.last = read_to.unwrap_or(self.last);
        if is_all {
            self.source = match std::mem::replace(&mut self.source, Source::Past) {
                // The tail delivers events sealed from here on. Events sealed since the last page are the gap.
                Source::Past => {
                    let (receiver, position) = self.place.listen(repo::last(&mut db).await?);
                    Source::Gap(receiver, position)
                }
                Source::Gap(receiver, _) | Source::Tail(receiver) => Source::Tail(receiver),
            };
        }
        Ok(())
    }

    /// Sends queued events, if the reader is still authorized.
    async fn give(&mut self) -> Result<Option<Bytes>> {
        if self.place.hub().closing.is_cancelled() {
            return Err(closing());
        }
        if !self.watch.holds() {
            self.judge().await?;
            if self.doubt.is_some() {
                self.look.tick().await;
                self.end_if_in_doubt()?;
                return Ok(None);
            }
        }
        let Some(first) = self.backlog.pop_front() else { return Ok(None) };
        let mut given = first.id;
        let mut piece = None;
        while let Some(next) = self.backlog.front() {
            let so_far = piece.get_or_insert_with(|| first.bytes.to_vec());
            if so_far.len() + next.bytes.len() > PIECE {
                break;
            }
            so_far.extend_from_slice(&next.bytes);
            given = next.id;
            self.backlog.pop_front();
        }
        self.given = Some(given);
        self.last = self.last.max(given);
        // A single event is sent without copying its bytes.
        Ok(Some(piece.map_or_else(|| first.bytes.clone(), Bytes::from)))
    }

    /// Periodically rechecks the authorization and sends a heartbeat.
    async fn look(&mut self) -> Result<Option<Bytes>> {
        let is_due = self.spoke.elapsed() >= self.place.hub().options.heartbeat;
        if !self.watch.holds() && (is_due || !self.watch.is_blind()) {
            self.judge().await?;
        }
        if !is_due {
            return Ok(None);
        }
        self.end_if_in_doubt()?;
        let (Source::Tail(receiver), None) = (&self.source, &self.doubt) else { return Ok(None) };
        // Read the position before checking the queue: if the queue is then empty, all events up to the position were
        // received.
        if let Some(position) = self.place.hub().position()
            && receiver.is_empty()
        {
            self.last = self.last.max(position);
        }
        Ok(Some(format!(": still here\n{}\n", self.id_line()).into()))
    }

    /// Rechecks the authorization. Fails if it was revoked. If it cannot be checked now, sets `doubt`.
    async fn judge(&mut self) -> Result<()> {
        let late = |_| Err(Error::new(Code::Timeout, "The database did not respond in time; retrying"));
        self.doubt = match timeout(READ_TIME, self.watch.judge()).await.unwrap_or_else(late) {
            Ok(()) => None,
            Err(error) => match error.code() {
                Code::AuthUnavailable | Code::DatabaseUnavailable | Code::Overloaded | Code::Timeout => {
                    let since = self.doubt.take().map_or_else(Instant::now, |(since, _)| since);
                    Some((since, error))
                }
                _ => return Err(error),
            },
        };
        Ok(())
    }

    /// Ends the stream if the authorization could not be checked for a heartbeat interval, so that the client reconnects
    /// to another server.
    fn end_if_in_doubt(&mut self) -> Result<()> {
        let longest = self.place.hub().options.heartbeat;
        match self.doubt.take_if(|(since, _)| since.elapsed() >= longest) {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }

    /// Position from which the client resumes if the connection ends before the next event. Never the ID of an event in
    /// another project, and always within the retention period, also on an idle stream.
    fn id_line(&self) -> String {
        let second = |millis: u64| EventId::first_of(millis / 1000 * 1000);
        let quiet = || {
            let lately = self.app.clock.now().minus(CLOCK_TOLERANCE).unix_millis();
            second(self.last.millis()).max(second(u64::try_from(lately).unwrap_or(0)))
        };
        let id = match self.source {
            Source::Tail(_) => self.given.map_or_else(quiet, |given| given.max(quiet())),
            Source::Past | Source::Gap(..) => self.given.unwrap_or(self.last),
        };
        format!("id: {id}\n")
    }

    /// Final error event.
    fn farewell(&self, error: &Error) -> Bytes {
        let problem = Problem::new(error, self.request, &self.app.public_url);
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

fn fell_behind(error: RecvError) -> Error {
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
