//! The database a command works on: the one it is given, the private one that a server runs
//! already, or the private one started for the command's own time.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, anyhow};
use sqlx::postgres::PgConnectOptions;
use tokio_util::sync::CancellationToken;

use super::ended::Ended;
use crate::{
    config::Settings,
    db::{
        self, Pool,
        embedded::{self, Durability, PrivatePostgres},
    },
};

/// Connections that a server's requests share.
pub const SERVER_CONNECTIONS: u32 = 16;
/// Connections of a command that does one thing.
pub const ADMIN_CONNECTIONS: u32 = 2;
/// What the private PostgreSQL takes: a server's, some operators' commands', and a few to spare.
const PRIVATE_CONNECTIONS: u32 = 50;
/// How often to look whether the private PostgreSQL still runs.
const WATCH_PAUSE: Duration = Duration::from_millis(500);

/// An open database, migrated.
pub struct Database {
    /// Its connections.
    pub pool: Pool,
    private: Option<PrivatePostgres>,
}

impl Database {
    /// Opens what `settings` say, for a command that may run beside a server.
    pub async fn open(settings: &Settings, connections: u32) -> anyhow::Result<Self> {
        let (options, private) = match &settings.database_url {
            Some(url) => (given(url)?, None),
            None => {
                let data_dir = settings.data_dir();
                let beside = blocking(move || embedded::attach(&data_dir)).await??;
                match beside {
                    Some(endpoint) => (db::options_for_private(&endpoint), None),
                    None => {
                        let private = start_private(settings).await?;
                        (db::options_for_private(private.endpoint()), Some(private))
                    }
                }
            }
        };
        let database = Self { pool: db::pool(options, connections), private };
        match db::prepare(&database.pool).await {
            Ok(()) => Ok(database),
            Err(error) => {
                database.close().await?;
                Err(error.into())
            }
        }
    }

    /// Closes the connections, and stops what was started.
    pub async fn close(self) -> anyhow::Result<()> {
        self.pool.close().await;
        match self.private {
            Some(private) => stop_private(private).await,
            None => Ok(()),
        }
    }
}

/// Reads the operator's `DATABASE_URL`, which was checked with the other settings.
pub fn given(url: &str) -> anyhow::Result<PgConnectOptions> {
    // What the client library says may hold a part of the URL.
    db::options_from_url(url).map_err(|_| {
        Ended::unable(anyhow!(
            "DATABASE_URL (--database-url) is invalid; it should look like postgres://user:password@host:5432/database"
        ))
    })
}

/// Starts the private PostgreSQL in the data directory.
pub async fn start_private(settings: &Settings) -> anyhow::Result<PrivatePostgres> {
    let options = embedded::Options {
        data_dir: settings.data_dir(),
        pg_bin: settings.pg_bin.clone(),
        durability: Durability::Durable,
        max_connections: PRIVATE_CONNECTIONS,
    };
    Ok(blocking(move || PrivatePostgres::start(options)).await??)
}

/// Starts it again whenever it ends by itself, until `stop`.
pub async fn keep_private(private: PrivatePostgres, stop: CancellationToken) -> anyhow::Result<PrivatePostgres> {
    let private = Arc::new(Mutex::new(private));
    while stop.run_until_cancelled(tokio::time::sleep(WATCH_PAUSE)).await.is_some() {
        let watched = Arc::clone(&private);
        match blocking(move || watched.lock().unwrap_or_else(PoisonError::into_inner).revive()).await {
            Ok(Ok(false)) => {}
            Ok(Ok(true)) => tracing::error!(
                "the private PostgreSQL had ended and was started again; see postgres.log in the data directory"
            ),
            Ok(Err(error)) => tracing::error!(%error, "the private PostgreSQL has ended; trying again to start it"),
            // A panic of one look must not end the watch.
            Err(error) => tracing::error!(%error, "watch over the private PostgreSQL failed; it is repeated"),
        }
    }
    let private = Arc::into_inner(private).context("the private PostgreSQL is still being watched")?;
    Ok(private.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Stops it, after its last client.
pub async fn stop_private(private: PrivatePostgres) -> anyhow::Result<()> {
    Ok(blocking(move || private.stop()).await??)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await.context("a start-up task panicked")
}
