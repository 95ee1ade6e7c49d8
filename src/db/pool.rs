//! The pool of a server's connections, which notes how long each was waited for.

use std::{
    fmt::Display,
    ops::{Deref, DerefMut},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::{
    PgConnection, PgPool, Postgres,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{
    connect::{self, Probe},
    sqlstate::{self, Verdict},
    writes::WriteHealth,
};
use crate::{
    base::error::Error,
    metrics::{
        histogram::Histogram,
        text::{Measured, Page},
    },
};

/// How long after its connections were replaced another error replaces them again.
const RENEWAL_PAUSE: Duration = Duration::from_millis(250);
/// How long the close of a connection may take.
const CLOSE_TIME: Duration = Duration::from_secs(5);

/// A connection that lies idle takes microseconds; beyond the last bound the pool gives up.
static BOUNDS: [Duration; 9] = [
    Duration::from_micros(100),
    Duration::from_millis(1),
    Duration::from_millis(5),
    Duration::from_millis(25),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2500),
    Duration::from_secs(5),
];

/// The share of the connections that writes may have at a time, as a fraction: reads go on while every write waits, as
/// for a lost synchronous standby.
const WRITE_SHARE: (usize, usize) = (5, 8);

/// The pool. Everything but [`Pool::acquire`] and [`Pool::acquire_for_write`] is sqlx's own.
#[derive(Clone, Debug)]
pub struct Pool {
    pool: PgPool,
    figures: Arc<Figures>,
    writers: Arc<Semaphore>,
    renewal: Arc<Renewal>,
    writes: Arc<WriteHealth>,
    probe: Arc<Probe>,
}

#[derive(Debug)]
struct Figures {
    waiting: AtomicU64,
    waits: Histogram,
    failures: AtomicU64,
    replaced: AtomicU64,
}

/// Which connections are to be replaced: those that were opened before an error that was theirs to blame. The error does
/// not say which one it was, and the others lead to the same server.
#[derive(Debug, Default)]
struct Renewal(Mutex<Renewed>);

#[derive(Debug, Default)]
struct Renewed {
    /// Connections that were opened before are not used again.
    since: Option<Instant>,
    /// An error that came too soon after that, whose turn comes when the pause is over.
    next: Option<Instant>,
}

impl Renewal {
    /// Replaces all connections that are open now, at once or after a pause; gives whether it is at once. New connections
    /// may lead to the same server for a while, and their errors are not to replace connections at every request.
    fn replace_all(&self) -> bool {
        let mut renewed = self.renewed();
        let is_due = renewed.since.is_none_or(|since| since.elapsed() >= RENEWAL_PAUSE);
        let now = Some(Instant::now());
        if is_due {
            *renewed = Renewed { since: now, next: None };
        } else {
            renewed.next = now;
        }
        is_due
    }

    /// Whether a connection of this age is to be kept.
    fn keeps(&self, age: Duration) -> bool {
        self.renewed().since.is_none_or(|since| age < since.elapsed())
    }

    fn renewed(&self) -> MutexGuard<'_, Renewed> {
        let mut renewed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if renewed.next.is_some() && renewed.since.is_some_and(|since| since.elapsed() >= RENEWAL_PAUSE) {
            renewed.since = renewed.next.take();
        }
        renewed
    }
}

impl From<PgPool> for Pool {
    fn from(pool: PgPool) -> Self {
        Self::new(pool, Arc::default())
    }
}

impl Deref for Pool {
    type Target = PgPool;

    fn deref(&self) -> &PgPool {
        &self.pool
    }
}

impl Pool {
    fn new(pool: PgPool, renewal: Arc<Renewal>) -> Self {
        let figures = Figures {
            waiting: AtomicU64::new(0),
            waits: Histogram::new(&BOUNDS),
            failures: AtomicU64::new(0),
            replaced: AtomicU64::new(0),
        };
        let (share, of) = WRITE_SHARE;
        let most = usize::try_from(pool.options().get_max_connections()).unwrap_or(usize::MAX);
        let writers = Arc::new(Semaphore::new((most.min(Semaphore::MAX_PERMITS / share) * share / of).max(1)));
        Self { pool, figures: Arc::new(figures), writers, renewal, writes: Arc::default(), probe: Arc::default() }
    }

    /// A pool that connects when first used.
    pub fn connect_lazy(pool: PgPoolOptions, options: PgConnectOptions) -> Self {
        let renewal = Arc::new(Renewal::default());
        let (before, after) = (Arc::clone(&renewal), Arc::clone(&renewal));
        let pool = pool
            .before_acquire(move |_, meta| {
                let keeps = before.keeps(meta.age);
                Box::pin(async move { Ok(keeps) })
            })
            .after_release(move |_, meta| {
                let keeps = after.keeps(meta.age);
                Box::pin(async move { Ok(keeps) })
            })
            .connect_lazy_with(options);
        Self::new(pool, renewal)
    }

    /// A connection, waited for if need be.
    pub async fn acquire(&self) -> sqlx::Result<PoolConnection<Postgres>> {
        let _waiting = Waiting::begin(&self.figures);
        let began = Instant::now();
        let acquired = self.connected().await;
        self.figures.waits.add(began.elapsed());
        if acquired.is_err() {
            self.figures.failures.fetch_add(1, Ordering::Relaxed);
        }
        acquired
    }

    async fn connected(&self) -> sqlx::Result<PoolConnection<Postgres>> {
        let began = Instant::now();
        let acquired = tokio::select! {
            biased;
            acquired = self.pool.acquire() => acquired,
            // Holds nothing that the pool needs, and never ends.
            () = self.probe.run(&self.pool) => Err(sqlx::Error::PoolTimedOut),
        };
        acquired.map_err(|error| match error {
            sqlx::Error::PoolClosed => error,
            sqlx::Error::PoolTimedOut => self.connect_fault(began).unwrap_or(error),
            // Every other error is about a new connection: no statement of ours was wrong, whatever its SQLSTATE is.
            error => connect::unavailable(&error, &self.pool.connect_options()),
        })
    }

    /// Why no connection could be made, if that has been found out since `began`.
    pub fn connect_fault(&self, began: Instant) -> Option<sqlx::Error> {
        self.probe.fault_since(began)
    }

    /// A connection for what writes, of which there are fewer than connections.
    pub async fn acquire_for_write(&self) -> sqlx::Result<WriteConnection> {
        let place = match Arc::clone(&self.writers).try_acquire_owned() {
            Ok(place) => place,
            Err(_) => {
                let _waiting = Waiting::begin(&self.figures);
                let (began, time) = (Instant::now(), self.pool.options().get_acquire_timeout());
                let place = timeout(time, Arc::clone(&self.writers).acquire_owned()).await;
                // The semaphore is never closed. Those who have a place may wait for a connection that cannot be made.
                let late = || self.connect_fault(began).unwrap_or(sqlx::Error::PoolTimedOut);
                place.ok().and_then(Result::ok).ok_or_else(late)?
            }
        };
        Ok(WriteConnection { connection: Some(self.acquire().await?), place: Some(place) })
    }

    /// Takes note of an error of the database: replaces the connections if they are to blame, and remembers that writes
    /// fail, if that follows.
    ///
    /// Gives whether the same may be tried again on another connection, if nothing can have been committed.
    pub fn note(&self, error: &Error) -> bool {
        sqlstate::behind(error).is_some_and(|verdict| self.note_verdict(verdict, error))
    }

    /// The same, of an error that is not told to a client.
    pub fn note_sql(&self, error: &sqlx::Error) -> bool {
        self.note_verdict(sqlstate::of(error), error)
    }

    fn note_verdict(&self, verdict: &Verdict, error: &dyn Display) -> bool {
        if verdict.replaces_connections {
            self.replace_connections(error);
        }
        if let Some(failure) = verdict.writes_fail
            && self.writes.failed(failure)
        {
            tracing::error!(%error, "writes fail: {}", failure.describe(&self.host()));
        }
        verdict.retry
    }

    /// Has no connection used again that is open now.
    pub(super) fn replace_connections(&self, reason: impl Display) {
        if self.renewal.replace_all() {
            self.figures.replaced.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(%reason, "database connections replaced");
        }
    }

    /// What is known of whether writes work.
    pub fn writes(&self) -> &WriteHealth {
        &self.writes
    }

    /// Where the database is, for people.
    pub fn host(&self) -> String {
        let options = self.pool.connect_options();
        match options.get_socket() {
            Some(folder) => folder.display().to_string(),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        }
    }
}

/// A connection for a write, and its place among writes. Where a statement is still under way when it is dropped, the
/// connection is closed rather than waited for.
#[derive(Debug)]
pub struct WriteConnection {
    /// None once it is given back.
    connection: Option<PoolConnection<Postgres>>,
    place: Option<OwnedSemaphorePermit>,
}

impl WriteConnection {
    /// Closes the connection when this is dropped, instead of giving it back to the pool.
    pub fn close_on_drop(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.close_on_drop();
        }
    }

    /// Closes it: the database may still be busy with what was asked on it. Its place is free when that is done.
    pub fn close_in_background(mut self) {
        if let (Some(mut connection), place) = (self.connection.take(), self.place.take()) {
            match tokio::runtime::Handle::try_current() {
                Ok(runtime) => drop(runtime.spawn(async move {
                    let _ = timeout(CLOSE_TIME, connection.close()).await;
                    drop(place);
                })),
                Err(_) => connection.close_on_drop(),
            }
        }
    }
}

impl Deref for WriteConnection {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        match &self.connection {
            Some(connection) => connection,
            // Only `close_in_background` takes it, and takes all of this.
            None => unreachable!("a connection that was closed is used"),
        }
    }
}

impl DerefMut for WriteConnection {
    fn deref_mut(&mut self) -> &mut PgConnection {
        match &mut self.connection {
            Some(connection) => connection,
            None => unreachable!("a connection that was closed is used"),
        }
    }
}

/// Where background work gets connections. It is not measured: it would hide how long requests wait.
pub trait Connections {
    /// A connection, waited for if need be.
    fn connection(&self) -> impl Future<Output = sqlx::Result<PoolConnection<Postgres>>> + Send;
}

impl Connections for Pool {
    fn connection(&self) -> impl Future<Output = sqlx::Result<PoolConnection<Postgres>>> + Send {
        self.connected()
    }
}

impl Connections for PgPool {
    fn connection(&self) -> impl Future<Output = sqlx::Result<PoolConnection<Postgres>>> + Send {
        self.acquire()
    }
}

/// Somebody waits, until it is dropped: whoever waits may be cancelled.
struct Waiting<'a>(&'a Figures);

impl<'a> Waiting<'a> {
    fn begin(figures: &'a Figures) -> Self {
        figures.waiting.fetch_add(1, Ordering::Relaxed);
        Self(figures)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Measured for Pool {
    fn tell(&self, page: &mut Page) {
        // Two readings, between which a connection may have come back.
        let (size, idle) = (self.pool.size() as usize, self.pool.num_idle());
        page.gauge("cloudapi_db_connections", "The pool's open connections.")
            .of(&[("state", "idle")], idle)
            .of(&[("state", "used")], size.saturating_sub(idle));
        page.gauge("cloudapi_db_connections_max", "How many the pool may open.")
            .is(self.pool.options().get_max_connections());
        page.gauge("cloudapi_db_acquires_waiting", "Who waits for one of the pool's connections now.")
            .is(self.figures.waiting.load(Ordering::Relaxed));
        page.histogram(
            "cloudapi_db_acquire_duration_seconds",
            "How long it took to get one of the pool's connections, or to give up; the flush of usage apart.",
        )
        .shows(&[], &self.figures.waits);
        page.counter("cloudapi_db_connections_replaced_total", "Times all connections were replaced after an error.")
            .is(self.figures.replaced.load(Ordering::Relaxed));
        page.counter("cloudapi_db_acquire_failures_total", "How often there was none to be had.")
            .is(self.figures.failures.load(Ordering::Relaxed));
    }
}
