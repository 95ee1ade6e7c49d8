//! The server's connection pool, which also measures the waits for connections.

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

/// Minimum time between two replacements of all connections.
const RENEWAL_PAUSE: Duration = Duration::from_millis(250);
/// Time limit for closing a connection.
const CLOSE_TIME: Duration = Duration::from_secs(5);

/// Buckets of waits: an idle connection takes microseconds; at the last bound the wait times out.
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

/// Maximum share of connections for writes, as a fraction, so that reads continue while every write waits, for example
/// for a lost synchronous standby.
const WRITE_SHARE: (usize, usize) = (5, 8);

/// The pool. Everything except [`Pool::acquire`] and [`Pool::acquire_for_write`] is from sqlx.
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

/// Replacement of connections that were opened before an error of the connection. The error does not say which
/// connection it was, and the others lead to the same server.
#[derive(Debug, Default)]
struct Renewal(Mutex<Renewed>);

#[derive(Debug, Default)]
struct Renewed {
    /// Connections opened before this time are not used again.
    since: Option<Instant>,
    /// Time of an error during the pause. The next replacement follows when the pause is over.
    next: Option<Instant>,
}

impl Renewal {
    /// Replaces all connections that are open now, immediately or after a pause. Returns whether it was immediate. New
    /// connections may lead to the same server for a while, and their errors must not replace connections at every
    /// request.
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

    /// Reports whether a connection of this age is kept.
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

    /// Creates a pool that connects on first use.
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

    /// Acquires a connection, and waits for one if necessary.
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
            // The probe holds nothing that the pool needs, and never returns.
            () = self.probe.run(&self.pool) => Err(sqlx::Error::PoolTimedOut),
        };
        acquired.map_err(|error| match error {
            sqlx::Error::PoolClosed => error,
            sqlx::Error::PoolTimedOut => self.connect_fault(began).unwrap_or(error),
            // Every other error is about a new connection. Regardless of the SQLSTATE, no statement of the server failed.
            error => connect::unavailable(&error, &self.pool.connect_options()),
        })
    }

    /// Returns why no connection could be made, if a probe has found that out since `began`.
    pub fn connect_fault(&self, began: Instant) -> Option<sqlx::Error> {
        self.probe.fault_since(began)
    }

    /// Acquires a connection for a write. Their number is limited to a share of the pool.
    pub async fn acquire_for_write(&self) -> sqlx::Result<WriteConnection> {
        let place = match Arc::clone(&self.writers).try_acquire_owned() {
            Ok(place) => place,
            Err(_) => {
                let _waiting = Waiting::begin(&self.figures);
                let (began, time) = (Instant::now(), self.pool.options().get_acquire_timeout());
                let place = timeout(time, Arc::clone(&self.writers).acquire_owned()).await;
                // The semaphore is never closed. Writers that hold a permit may wait for a connection that cannot be
                // made.
                let late = || self.connect_fault(began).unwrap_or(sqlx::Error::PoolTimedOut);
                place.ok().and_then(Result::ok).ok_or_else(late)?
            }
        };
        Ok(WriteConnection { connection: Some(self.acquire().await?), place: Some(place) })
    }

    /// Handles a database error: replaces the connections if the error is theirs, and records that writes fail if the
    /// error implies it.
    ///
    /// Returns whether the statement may be retried on another connection, if nothing can have been committed.
    pub fn note(&self, error: &Error) -> bool {
        sqlstate::behind(error).is_some_and(|verdict| self.note_verdict(verdict, error))
    }

    /// Like [`Pool::note`], for an error that is not sent to a client.
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
            tracing::error!(%error, "database writes failed: {}", failure.describe(&self.host()));
        }
        verdict.retry
    }

    /// Prevents reuse of all connections that are open now.
    pub(super) fn replace_connections(&self, reason: impl Display) {
        if self.renewal.replace_all() {
            self.figures.replaced.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(%reason, "database connections replaced");
        }
    }

    /// State of writes.
    pub fn writes(&self) -> &WriteHealth {
        &self.writes
    }

    /// Address of the database, for people.
    pub fn host(&self) -> String {
        let options = self.pool.connect_options();
        match options.get_socket() {
            Some(folder) => folder.display().to_string(),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        }
    }
}

/// Connection for a write, and its permit. If a statement is still running when it is dropped, the connection is closed
/// instead of waited for.
#[derive(Debug)]
pub struct WriteConnection {
    /// None after it was closed.
    connection: Option<PoolConnection<Postgres>>,
    place: Option<OwnedSemaphorePermit>,
}

impl WriteConnection {
    /// Closes the connection on drop, instead of returning it to the pool.
    pub fn close_on_drop(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.close_on_drop();
        }
    }

    /// Closes the connection, which may still run a statement. The permit is released when the close is done.
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
            // Only `close_in_background` takes the connection, and it consumes `self`.
            None => unreachable!("use of a closed connection"),
        }
    }
}

impl DerefMut for WriteConnection {
    fn deref_mut(&mut self) -> &mut PgConnection {
        match &mut self.connection {
            Some(connection) => connection,
            None => unreachable!("use of a closed connection"),
        }
    }
}

/// Source of connections for background work. Not measured, because it would hide how long requests wait.
pub trait Connections {
    /// Acquires a connection, and waits for one if necessary.
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

/// Counts a waiter until it is dropped, also if the wait is canceled.
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
        // Two separate reads, between which a connection may have been returned.
        let (size, idle) = (self.pool.size() as usize, self.pool.num_idle());
        page.gauge("cloudapi_db_connections", "Open connections of the pool.")
            .of(&[("state", "idle")], idle)
            .of(&[("state", "used")], size.saturating_sub(idle));
        page.gauge("cloudapi_db_connections_max", "Maximum number of connections of the pool.")
            .is(self.pool.options().get_max_connections());
        page.gauge("cloudapi_db_acquires_waiting", "Tasks that wait for a connection of the pool.")
            .is(self.figures.waiting.load(Ordering::Relaxed));
        page.histogram(
            "cloudapi_db_acquire_duration_seconds",
            "Wait for a connection of the pool, successful or not. Excludes the usage flush.",
        )
        .shows(&[], &self.figures.waits);
        page.counter("cloudapi_db_connections_replaced_total", "Replacements of all connections after an error.")
            .is(self.figures.replaced.load(Ordering::Relaxed));
        page.counter("cloudapi_db_acquire_failures_total", "Failed waits for a connection of the pool.")
            .is(self.figures.failures.load(Ordering::Relaxed));
    }
}
