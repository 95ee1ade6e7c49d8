//! The server's connection pool, which also measures the waits for connections. `connect` opens connections, `pooler`
//! detects a pooler in between, and [`write_health`] checks whether writes can be committed.

pub(crate) mod connect;
pub(crate) mod pooler;
pub mod write_health;

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
    pulse::Pulse,
    sqlstate::{self, ErrorClass},
};
use crate::{
    base::error::Error,
    metrics::{
        exposition::{Collector, Exposition},
        histogram::Histogram,
    },
};
use connect::ConnectProbe;
use write_health::WriteHealth;

/// Minimum time between two replacements of all connections.
const REPLACEMENT_INTERVAL: Duration = Duration::from_millis(250);
/// Time limit for closing a connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

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
const WRITE_SHARE: (usize, usize) = (7, 8);

/// The pool. Everything except [`Pool::acquire`] and [`Pool::acquire_for_write`] is from sqlx.
#[derive(Clone, Debug)]
pub struct Pool {
    pool: PgPool,
    metrics: Arc<PoolMetrics>,
    write_permits: Arc<Semaphore>,
    max_writes: usize,
    replacement: Arc<ConnectionReplacement>,
    writes: Arc<WriteHealth>,
    pulse: Arc<Pulse>,
    probe: Arc<ConnectProbe>,
}

#[derive(Debug)]
struct PoolMetrics {
    waiting: AtomicU64,
    waits: Histogram,
    failures: AtomicU64,
    replaced: AtomicU64,
}

/// Replacement of connections that were opened before an error of the connection. The error does not say which
/// connection it was, and the others lead to the same server.
#[derive(Debug, Default)]
struct ConnectionReplacement(Mutex<ReplacementState>);

#[derive(Debug, Default)]
struct ReplacementState {
    /// Connections opened before this time are not used again.
    since: Option<Instant>,
    /// Time of an error during the pause. The next replacement follows when the pause is over.
    next: Option<Instant>,
}

impl ConnectionReplacement {
    /// Replaces all connections that are open now, immediately or after a pause. Returns whether it was immediate. New
    /// connections may lead to the same server for a while, and their errors must not replace connections at every
    /// request.
    fn replace_all(&self) -> bool {
        let mut state = self.state();
        let is_due = state.since.is_none_or(|since| since.elapsed() >= REPLACEMENT_INTERVAL);
        let now = Some(Instant::now());
        if is_due {
            *state = ReplacementState { since: now, next: None };
        } else {
            state.next = now;
        }
        is_due
    }

    /// Reports whether a connection of this age is kept.
    fn is_current(&self, age: Duration) -> bool {
        self.state().since.is_none_or(|since| age < since.elapsed())
    }

    fn state(&self) -> MutexGuard<'_, ReplacementState> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.next.is_some() && state.since.is_some_and(|since| since.elapsed() >= REPLACEMENT_INTERVAL) {
            state.since = state.next.take();
        }
        state
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
    fn new(pool: PgPool, replacement: Arc<ConnectionReplacement>) -> Self {
        let metrics = PoolMetrics {
            waiting: AtomicU64::new(0),
            waits: Histogram::new(&BOUNDS),
            failures: AtomicU64::new(0),
            replaced: AtomicU64::new(0),
        };
        let (share, of) = WRITE_SHARE;
        let max = usize::try_from(pool.options().get_max_connections()).unwrap_or(usize::MAX);
        let max_writes = (max.min(Semaphore::MAX_PERMITS / share) * share / of).max(1);
        Self {
            pool,
            metrics: Arc::new(metrics),
            write_permits: Arc::new(Semaphore::new(max_writes)),
            max_writes,
            replacement,
            writes: Arc::default(),
            pulse: Arc::default(),
            probe: Arc::default(),
        }
    }

    /// Creates a pool that connects on first use.
    pub fn connect_lazy(pool: PgPoolOptions, options: PgConnectOptions) -> Self {
        let replacement = Arc::new(ConnectionReplacement::default());
        let (before, after) = (Arc::clone(&replacement), Arc::clone(&replacement));
        let pool = pool
            .before_acquire(move |_, meta| {
                let is_current = before.is_current(meta.age);
                Box::pin(async move { Ok(is_current) })
            })
            .after_release(move |_, meta| {
                let is_current = after.is_current(meta.age);
                Box::pin(async move { Ok(is_current) })
            })
            .connect_lazy_with(options);
        Self::new(pool, replacement)
    }

    /// Acquires a connection, and waits for one if necessary.
    pub async fn acquire(&self) -> sqlx::Result<PoolConnection<Postgres>> {
        let _waiting = Waiting::begin(&self.metrics);
        let began = Instant::now();
        let acquired = self.acquire_unmeasured().await;
        self.metrics.waits.observe(began.elapsed());
        if acquired.is_err() {
            self.metrics.failures.fetch_add(1, Ordering::Relaxed);
        }
        acquired
    }

    async fn acquire_unmeasured(&self) -> sqlx::Result<PoolConnection<Postgres>> {
        let began = Instant::now();
        let acquired = tokio::select! {
            biased;
            acquired = self.pool.acquire() => acquired,
            // The probe holds nothing that the pool needs, and never returns.
            () = self.probe.run(&self.pool) => Err(sqlx::Error::PoolTimedOut),
        };
        acquired.map_err(|error| match error {
            sqlx::Error::PoolClosed => error,
            sqlx::Error::PoolTimedOut => self.connect_error(began).unwrap_or(error),
            // Every other error is about a new connection. Regardless of the SQLSTATE, no statement of the server
            // failed.
            error => connect::unavailable(&error, &self.pool.connect_options()),
        })
    }

    /// Returns why no connection could be made, if a probe has found that out since `began`.
    pub fn connect_error(&self, began: Instant) -> Option<sqlx::Error> {
        self.probe.fault_since(began)
    }

    /// Acquires a connection for a write. Their number is limited to a share of the pool.
    pub async fn acquire_for_write(&self) -> sqlx::Result<WriteConnection> {
        let permit = match Arc::clone(&self.write_permits).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                let _waiting = Waiting::begin(&self.metrics);
                let (began, time) = (Instant::now(), self.pool.options().get_acquire_timeout());
                let permit = timeout(time, Arc::clone(&self.write_permits).acquire_owned()).await;
                // The semaphore is never closed. Writers that hold a permit may wait for a connection that cannot be
                // made.
                let late = || self.connect_error(began).unwrap_or(sqlx::Error::PoolTimedOut);
                permit.ok().and_then(Result::ok).ok_or_else(late)?
            }
        };
        Ok(WriteConnection { connection: Some(self.acquire().await?), permit: Some(permit) })
    }

    /// Handles a database error: replaces the connections if the error is theirs, and records that writes fail if the
    /// error implies it.
    ///
    /// Returns whether the statement may be retried on another connection, if nothing can have been committed.
    pub fn handle_error(&self, error: &Error) -> bool {
        sqlstate::classify_cause(error).is_some_and(|class| self.handle_class(class, error))
    }

    /// Like [`Pool::handle_error`], for an error that is not sent to a client.
    pub fn handle_sql_error(&self, error: &sqlx::Error) -> bool {
        self.handle_class(sqlstate::classify(error), error)
    }

    fn handle_class(&self, class: &ErrorClass, error: &dyn Display) -> bool {
        if class.replaces_connections {
            self.replace_connections(error);
        }
        if let Some(failure) = class.writes_fail
            && self.writes.record_failure(failure)
        {
            tracing::error!(%error, "database writes failed: {}", failure.describe(&self.host()));
        }
        class.retry
    }

    /// Prevents reuse of all connections that are open now.
    pub(super) fn replace_connections(&self, reason: impl Display) {
        if self.replacement.replace_all() {
            self.metrics.replaced.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(%reason, "database connections replaced");
        }
    }

    /// State of writes.
    pub fn writes(&self) -> &WriteHealth {
        &self.writes
    }

    /// When the work in the database is due.
    pub fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }

    /// Whether a write is in progress.
    fn is_writing(&self) -> bool {
        self.write_permits.available_permits() < self.max_writes
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
    permit: Option<OwnedSemaphorePermit>,
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
        if let (Some(mut connection), permit) = (self.connection.take(), self.permit.take()) {
            match tokio::runtime::Handle::try_current() {
                Ok(runtime) => drop(runtime.spawn(async move {
                    let _ = timeout(CLOSE_TIMEOUT, connection.close()).await;
                    drop(permit);
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
pub trait ConnectionSource {
    /// Acquires a connection, and waits for one if necessary.
    fn connection(&self) -> impl Future<Output = sqlx::Result<PoolConnection<Postgres>>> + Send;
}

impl ConnectionSource for Pool {
    fn connection(&self) -> impl Future<Output = sqlx::Result<PoolConnection<Postgres>>> + Send {
        self.acquire_unmeasured()
    }
}

impl ConnectionSource for PgPool {
    fn connection(&self) -> impl Future<Output = sqlx::Result<PoolConnection<Postgres>>> + Send {
        self.acquire()
    }
}

/// Counts a waiter until it is dropped, also if the wait is canceled.
struct Waiting<'a>(&'a PoolMetrics);

impl<'a> Waiting<'a> {
    fn begin(metrics: &'a PoolMetrics) -> Self {
        metrics.waiting.fetch_add(1, Ordering::Relaxed);
        Self(metrics)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Collector for Pool {
    fn collect(&self, out: &mut Exposition) {
        // Two separate reads, between which a connection may have been returned.
        let (size, idle) = (self.pool.size() as usize, self.pool.num_idle());
        out.gauge("cloudapi_db_connections", "Open connections of the pool.")
            .sample(&[("state", "idle")], idle)
            .sample(&[("state", "used")], size.saturating_sub(idle));
        out.gauge("cloudapi_db_connections_max", "Maximum number of connections of the pool.")
            .value(self.pool.options().get_max_connections());
        out.gauge("cloudapi_db_acquires_waiting", "Tasks that wait for a connection of the pool.")
            .value(self.metrics.waiting.load(Ordering::Relaxed));
        out.histogram(
            "cloudapi_db_acquire_duration_seconds",
            "Wait for a connection of the pool, successful or not. Excludes the usage flush.",
        )
        .histogram_sample(&[], &self.metrics.waits);
        out.counter("cloudapi_db_connections_replaced_total", "Replacements of all connections after an error.")
            .value(self.metrics.replaced.load(Ordering::Relaxed));
        out.counter("cloudapi_db_acquire_failures_total", "Failed waits for a connection of the pool.")
            .value(self.metrics.failures.load(Ordering::Relaxed));
    }
}
