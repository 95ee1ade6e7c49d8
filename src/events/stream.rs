//! One reader of the event stream: first what it has missed, from the database; then what the node's tail hands out.

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

/// How many milliseconds a client waits before it connects again.
const RETRY: u32 = 2_000;
/// How many missed events are read at a time.
const ROWS: i64 = 200;
/// How long the database may take for that.
const READ_TIME: Duration = Duration::from_secs(5);
/// So much is given at a time; whether the reader may have it is looked at for each.
const PIECE: usize = 16 * 1024;
/// How much the clocks of servers may differ for a quiet stream's place to be told by them.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(3600);

/// What is streamed to whom.
#[derive(Debug)]
pub struct Reader {
    app: App,
    request: RequestId,
    tenant: Tenant,
    watch: Watch,
    place: Place,
    action: Option<Action>,
    /// All up to here was given, or is not for this reader.
    last: EventId,
    /// What the client was given last, before this connection or on it.
    given: Option<EventId>,
    source: Source,
    backlog: VecDeque<Arc<Frame>>,
    /// When something was given last.
    spoke: Instant,
    look: Interval,
    /// Since when nobody can say whether the reader may go on, and why.
    doubt: Option<(Instant, Error)>,
    greeted: bool,
    ended: bool,
}

type Receiver = broadcast::Receiver<Arc<Frame>>;

/// Where events come from.
#[derive(Debug)]
enum Source {
    /// The database, for everything up to now.
    Past,
    /// The database, up to where the tail goes on.
    Gap(Receiver, EventId),
    /// The tail.
    Tail(Receiver),
}

/// Who reads, and what.
#[derive(Debug)]
pub struct Wanted {
    /// The request that began it.
    pub request: RequestId,
    /// Whose events.
    pub tenant: Tenant,
    /// Of one type, or all.
    pub action: Option<Action>,
    /// After this one, or from now on.
    pub after: Option<EventId>,
}

impl Reader {
    /// A reader with a place, who may read by what `watch` says.
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

    /// The answer's body.
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
                    tracing::debug!(request_id = %self.request, code = %error.code(), "an event stream was ended");
                    return Some(self.farewell(&error));
                }
            }
        }
        None
    }

    /// Does the next thing; gives what is to be sent, if there is something.
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
                                // What it may be is said when it is waited for.
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
                        "The database did not answer in time; connect again with the last id as Last-Event-ID",
                    ))
                };
                timeout(READ_TIME, self.catch_up()).await.unwrap_or_else(late).map(|()| None)
            }
        }
    }

    /// Reads some more of what was missed.
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
                // What is sealed from here on is the tail's; what was sealed since that page is the gap.
                Source::Past => {
                    let (receiver, position) = self.place.listen(repo::last(&mut db).await?);
                    Source::Gap(receiver, position)
                }
                Source::Gap(receiver, _) | Source::Tail(receiver) => Source::Tail(receiver),
            };
        }
        Ok(())
    }

    /// Gives what waits, to a reader that may have it.
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
        // A single one is the same bytes for all.
        Ok(Some(piece.map_or_else(|| first.bytes.clone(), Bytes::from)))
    }

    /// Now and then: whether the reader may go on, and a sign of life.
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
        // The position before the queue: then all up to it has come.
        if let Some(position) = self.place.hub().position()
            && receiver.is_empty()
        {
            self.last = self.last.max(position);
        }
        Ok(Some(format!(": still here\n{}\n", self.id_line()).into()))
    }

    /// Judges the reader anew. Whoever may not go on is refused; where that cannot be told now, it is doubted.
    async fn judge(&mut self) -> Result<()> {
        let late = |_| Err(Error::new(Code::Timeout, "The database did not answer in time; it is tried again"));
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

    /// Without a word for as long as that, a reader had better go elsewhere.
    fn end_if_in_doubt(&mut self) -> Result<()> {
        let longest = self.place.hub().options.heartbeat;
        match self.doubt.take_if(|(since, _)| since.elapsed() >= longest) {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }

    /// From where the client is to go on should the connection end before the next event. Not the id of something in
    /// another project, and within what is kept however long nothing happens.
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

    /// The last words.
    fn farewell(&self, error: &Error) -> Bytes {
        let problem = Problem::new(error, self.request, &self.app.public_url);
        let problem = serde_json::to_string(&problem).unwrap_or_default();
        format!("event: error\ndata: {problem}\n\n").into()
    }
}

fn closing() -> Error {
    Error::new(
        Code::Overloaded,
        "The server is stopping; connect again with the last id as Last-Event-ID, and another one goes on from there",
    )
}

fn fell_behind(error: RecvError) -> Error {
    match error {
        RecvError::Lagged(missed) => Error::new(
            Code::LimitReached,
            format!(
                "You took events so slowly that {missed} of them could not be kept for you; connect again with the last id as Last-Event-ID, and read faster"
            ),
        ),
        RecvError::Closed => Error::internal("a ring of events has gone while it had readers"),
    }
}
