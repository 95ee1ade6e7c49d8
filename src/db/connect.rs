//! Connects: gives each connection the session settings that the server relies on, and says why there is none.

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

/// How long a connection may take that is made outside of a pool.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// How long somebody waits for a connection before the reason is looked for.
const PROBE_AFTER: Duration = Duration::from_millis(250);
/// How often it is looked for, by all who wait together.
const PROBE_PAUSE: Duration = Duration::from_secs(1);

/// What every session sets. As statements, since PgBouncer refuses the startup parameter `options`.
const SESSION: &str = "
    -- What a dead or stuck client of ours can hold up, and for how long.
    SET statement_timeout = '20s';
    SET lock_timeout = '10s';
    SET idle_in_transaction_session_timeout = '30s';
    -- What a statement locks or claims, the next one sees as it is then, whatever the database's own default is.
    SET default_transaction_isolation = 'read committed';
    SET timezone = 'UTC';
    -- Compiling a query takes longer than any of ours.
    SET jit = off;
    -- What `tx::open` writes literals by.
    SET standard_conforming_strings = on;
    SET client_encoding = 'UTF8';
    -- A row that a policy hides would look like one that is not there.
    SET row_security = off;";

/// How a connection of ours is asked for. PgBouncer refuses the startup parameter that is left out.
pub(super) fn options(given: PgConnectOptions) -> PgConnectOptions {
    given.application_name("cloudapi").extra_float_digits(None)
}

/// The options of a pool whose connections have our session settings.
pub fn pool_options() -> PgPoolOptions {
    PgPoolOptions::new().after_connect(|db, _| Box::pin(set_up(db)))
}

/// A connection outside of the pools, with our session settings.
pub async fn connect(options: &PgConnectOptions) -> sqlx::Result<PgConnection> {
    let connecting = async {
        let mut db = PgConnection::connect_with(options).await?;
        set_up(&mut db).await?;
        Ok(db)
    };
    let late = || sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, no_answer(CONNECT_TIME)));
    timeout(CONNECT_TIME, connecting).await.unwrap_or_else(|_| Err(late()))
}

async fn set_up(db: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::raw_sql(SESSION).execute(db).await.map(drop)
}

fn no_answer(time: Duration) -> String {
    format!("no answer within {} s", time.as_secs())
}

/// Why no connection was made, without the address: for `/readyz`, which anybody may read.
pub fn kind(error: &sqlx::Error) -> &'static str {
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

/// Why no connection was made to the place that `options` name, for the operator.
pub fn explain(error: &sqlx::Error, options: &PgConnectOptions) -> String {
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

/// `error`, as one that says where the database was looked for and that the database is to blame.
pub(super) fn unavailable(error: &sqlx::Error, options: &PgConnectOptions) -> sqlx::Error {
    let kind = match error {
        sqlx::Error::Io(error) => error.kind(),
        _ => io::ErrorKind::Other,
    };
    sqlx::Error::Io(io::Error::new(kind, explain(error, options)))
}

/// Finds out whether connections can be made while somebody waits for one: a pool tries again until it gives up, and
/// then does not say why.
#[derive(Debug, Default)]
pub(super) struct Probe {
    latest: Mutex<Option<Finding>>,
    /// One at a time looks.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Finding {
    at: Instant,
    fault: Option<Fault>,
}

#[derive(Clone, Debug)]
struct Fault {
    kind: io::ErrorKind,
    text: String,
}

impl Probe {
    /// Looks now and then, and never ends: to be dropped when the connection is there.
    pub(super) async fn run(&self, pool: &PgPool) {
        tokio::time::sleep(PROBE_AFTER).await;
        let options = pool.connect_options();
        loop {
            if let Ok(_turn) = self.turn.try_lock()
                && self.is_due()
            {
                let connected = connect(&options).await;
                let fault = match connected {
                    Ok(db) => {
                        // Whether it is closed well tells nothing.
                        let _ = db.close().await;
                        None
                    }
                    Err(error) => match unavailable(&error, &options) {
                        sqlx::Error::Io(error) => Some(Fault { kind: error.kind(), text: error.to_string() }),
                        _ => None,
                    },
                };
                *self.latest.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(Finding { at: Instant::now(), fault });
            }
            tokio::time::sleep(PROBE_PAUSE).await;
        }
    }

    fn is_due(&self) -> bool {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.as_ref().is_none_or(|finding| finding.at.elapsed() >= PROBE_PAUSE)
    }

    /// Why no connection can be made, if that was found out after `began`, and is the latest that is known.
    pub(super) fn fault_since(&self, began: Instant) -> Option<sqlx::Error> {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let fault = latest.as_ref().filter(|finding| finding.at >= began)?.fault.clone()?;
        Some(sqlx::Error::Io(io::Error::new(fault.kind, fault.text)))
    }
}
