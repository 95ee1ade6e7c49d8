//! Connections: session settings that the server relies on, and explanations of failed connection attempts.

use std::{
    io,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use sqlx::{
    Connection, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::time::timeout;

/// Time limit for a connection outside of a pool.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Wait for a connection after which the probe starts to look for the reason.
const PROBE_AFTER: Duration = Duration::from_millis(250);
/// Interval between probes, shared by all waiters.
const PROBE_PAUSE: Duration = Duration::from_secs(1);

/// Prepared statements of each connection: more than there are statements, so that none is parsed and planned again
/// because others were used. The driver's default is 100.
const STATEMENT_CACHE: usize = 512;

/// Settings of every session. They are statements because PgBouncer refuses the startup parameter `options`.
const SESSION: &str = "
    -- Bounds how long a dead or stuck server can block others.
    SET statement_timeout = '20s';
    SET lock_timeout = '10s';
    SET idle_in_transaction_session_timeout = '30s';
    -- Each statement sees what the one before has locked or claimed, whatever the database's default is.
    SET default_transaction_isolation = 'read committed';
    SET timezone = 'UTC';
    -- Compiling takes longer than any of our queries.
    SET jit = off;
    -- `tx::transaction` quotes literals under this setting.
    SET standard_conforming_strings = on;
    SET client_encoding = 'UTF8';
    -- Fail if a policy hides rows, which would otherwise look missing.
    SET row_security = off;";

/// Options for a connection of this server. PgBouncer refuses the startup parameter that is removed here.
pub(crate) fn options(given: PgConnectOptions) -> PgConnectOptions {
    given.application_name("cloudapi").statement_cache_capacity(STATEMENT_CACHE).extra_float_digits(None)
}

/// Options of a pool whose connections have our session settings.
pub fn pool_options() -> PgPoolOptions {
    PgPoolOptions::new().after_connect(|db, _| Box::pin(set_up(db)))
}

/// Opens a connection outside of the pools, with our session settings.
pub async fn connect(options: &PgConnectOptions) -> sqlx::Result<PgConnection> {
    let connecting = async {
        let mut db = PgConnection::connect_with(options).await?;
        set_up(&mut db).await?;
        Ok(db)
    };
    let late = || sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, no_answer(CONNECT_TIMEOUT)));
    timeout(CONNECT_TIMEOUT, connecting).await.unwrap_or_else(|_| Err(late()))
}

async fn set_up(db: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::raw_sql(SESSION).execute(db).await.map(drop)
}

fn no_answer(time: Duration) -> String {
    format!("no answer within {} s", time.as_secs())
}

/// Reason of a failed connection attempt, without the address, for `/readyz`, which is public.
pub fn connect_error_kind(error: &sqlx::Error) -> &'static str {
    match error {
        sqlx::Error::Io(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused => "connection refused",
            io::ErrorKind::TimedOut => "no answer",
            io::ErrorKind::NotFound => "no socket",
            _ if is_unknown_host(error) => "unknown host name",
            _ => "connection failed",
        },
        sqlx::Error::Tls(_) => "TLS failed",
        sqlx::Error::Database(_) => "refused by PostgreSQL",
        sqlx::Error::PoolTimedOut => "all connections are in use",
        _ => "connection failed",
    }
}

/// Reason of a failed connection attempt to the address in `options`, for the operator.
pub fn explain_connect_error(error: &sqlx::Error, options: &PgConnectOptions) -> String {
    let at = address(options);
    match error {
        sqlx::Error::Io(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused => format!("connection refused ({at})"),
            io::ErrorKind::NotFound => format!("there is no socket ({at})"),
            _ if is_unknown_host(error) => format!("the host name is unknown ({at}): {error}"),
            _ => format!("{error} ({at})"),
        },
        sqlx::Error::Tls(error) => format!("TLS failed: {error} ({at})"),
        sqlx::Error::Database(error) => format!("{} ({at})", error.message()),
        error => format!("{error} ({at})"),
    }
}

fn is_unknown_host(error: &io::Error) -> bool {
    error.to_string().contains("lookup address information")
}

fn address(options: &PgConnectOptions) -> String {
    match options.get_socket() {
        Some(folder) => format!("{}/.s.PGSQL.{}", folder.display(), options.get_port()),
        None if options.get_host().contains(':') => format!("[{}]:{}", options.get_host(), options.get_port()),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    }
}

/// Converts `error` to an I/O error that has the database's address and is attributed to the database.
pub(crate) fn unavailable(error: &sqlx::Error, options: &PgConnectOptions) -> sqlx::Error {
    let kind = match error {
        sqlx::Error::Io(error) => error.kind(),
        _ => io::ErrorKind::Other,
    };
    sqlx::Error::Io(io::Error::new(kind, explain_connect_error(error, options)))
}

/// Checks whether connections can be made while a caller waits for one: the pool retries until its timeout, and then
/// does not say why.
#[derive(Debug, Default)]
pub(crate) struct ConnectProbe {
    latest: Mutex<Option<ProbeResult>>,
    /// Held by the caller that probes.
    probe_lock: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct ProbeResult {
    at: Instant,
    fault: Option<Fault>,
}

#[derive(Clone, Debug)]
struct Fault {
    kind: io::ErrorKind,
    text: String,
}

impl ConnectProbe {
    /// Probes periodically, and never returns. The caller drops the future when it has a connection.
    pub(crate) async fn run(&self, pool: &PgPool) {
        tokio::time::sleep(PROBE_AFTER).await;
        let options = pool.connect_options();
        loop {
            if let Ok(_guard) = self.probe_lock.try_lock()
                && self.is_due()
            {
                let connected = connect(&options).await;
                let fault = match connected {
                    Ok(db) => {
                        // The result of the close is irrelevant.
                        let _ = db.close().await;
                        None
                    }
                    Err(error) => match unavailable(&error, &options) {
                        sqlx::Error::Io(error) => Some(Fault { kind: error.kind(), text: error.to_string() }),
                        _ => None,
                    },
                };
                *self.latest.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(ProbeResult { at: Instant::now(), fault });
            }
            tokio::time::sleep(PROBE_PAUSE).await;
        }
    }

    fn is_due(&self) -> bool {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.as_ref().is_none_or(|result| result.at.elapsed() >= PROBE_PAUSE)
    }

    /// Returns why no connection can be made, if the latest probe is newer than `began` and failed.
    pub(crate) fn fault_since(&self, began: Instant) -> Option<sqlx::Error> {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let fault = latest.as_ref().filter(|result| result.at >= began)?.fault.clone()?;
        Some(sqlx::Error::Io(io::Error::new(fault.kind, fault.text)))
    }
}
