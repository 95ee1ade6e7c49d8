//! The pool of a server's connections, which notes how long each was waited for.

use std::{
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::{PgPool, Postgres, pool::PoolConnection};

use super::connect::{self, Probe};
use crate::metrics::{
    histogram::Histogram,
    text::{Measured, Page},
};

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

/// The pool. Everything but [`Pool::acquire`] is sqlx's own.
#[derive(Clone, Debug)]
pub struct Pool {
    pool: PgPool,
    figures: Arc<Figures>,
    probe: Arc<Probe>,
}

#[derive(Debug)]
struct Figures {
    waiting: AtomicU64,
    waits: Histogram,
    failures: AtomicU64,
}

impl From<PgPool> for Pool {
    fn from(pool: PgPool) -> Self {
        let waits = Histogram::new(&BOUNDS);
        let figures = Arc::new(Figures { waiting: AtomicU64::new(0), waits, failures: AtomicU64::new(0) });
        Self { pool, figures, probe: Arc::default() }
    }
}

impl Deref for Pool {
    type Target = PgPool;

    fn deref(&self) -> &PgPool {
        &self.pool
    }
}

impl Pool {
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
        page.counter("cloudapi_db_acquire_failures_total", "How often there was none to be had.")
            .is(self.figures.failures.load(Ordering::Relaxed));
    }
}
