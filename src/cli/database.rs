//! The database that a command uses: the one in `DATABASE_URL`, the private one of a running server, or the private one
//! that the command starts and stops.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, anyhow};
use sqlx::postgres::PgConnectOptions;
use tokio_util::sync::CancellationToken;

use super::support::command_error::CommandError;
use crate::{
    db::{
        self, Pool,
        embedded::{self, Durability, PrivatePostgres},
    },
    server::config::Settings,
};

/// Connections in a server's pool.
pub const SERVER_CONNECTIONS: u32 = 16;
/// Connections of a command.
pub const ADMIN_CONNECTIONS: u32 = 2;
/// Maximum connections of the private PostgreSQL: enough for a server, several commands and a reserve.
const PRIVATE_CONNECTIONS: u32 = 50;
/// Interval at which the private PostgreSQL is checked.
const WATCH_PAUSE: Duration = Duration::from_millis(500);

/// An open and migrated database.
pub struct Database {
    /// Connection pool.
    pub pool: Pool,
    private: Option<PrivatePostgres>,
}

impl Database {
    /// Opens the database that `settings` select, for a command that may run next to a server.
    pub async fn open(settings: &Settings, connections: u32) -> anyhow::Result<Self> {
        let (options, private) = match &settings.database_url {
            Some(url) => (options(url)?, None),
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

    /// Closes the connections, and stops PostgreSQL if this command started it.
    pub async fn close(self) -> anyhow::Result<()> {
        self.pool.close().await;
        match self.private {
            Some(private) => stop_private(private).await,
            None => Ok(()),
        }
    }
}

/// Parses the operator's `DATABASE_URL`, which was checked with the other settings.
pub fn options(url: &str) -> anyhow::Result<PgConnectOptions> {
    // sqlx's error text can contain a part of the URL, so it is dropped.
    db::options_from_url(url).map_err(|_| {
        CommandError::cannot_run(anyhow!(
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

/// Restarts the private PostgreSQL whenever it exits, until `stop`.
pub async fn supervise_private(private: PrivatePostgres, stop: CancellationToken) -> anyhow::Result<PrivatePostgres> {
    let private = Arc::new(Mutex::new(private));
    while stop.run_until_cancelled(tokio::time::sleep(WATCH_PAUSE)).await.is_some() {
        let watched = Arc::clone(&private);
        match blocking(move || watched.lock().unwrap_or_else(PoisonError::into_inner).restart_if_exited()).await {
            Ok(Ok(false)) => {}
            Ok(Ok(true)) => {
                tracing::error!("private PostgreSQL exited and was restarted; see postgres.log in the data directory");
            }
            Ok(Err(error)) => tracing::error!(%error, "restart of the private PostgreSQL failed; retrying"),
            // A panic in one check must not end the supervision.
            Err(error) => tracing::error!(%error, "check of the private PostgreSQL failed; retrying"),
        }
    }
    let private = Arc::into_inner(private).context("the private PostgreSQL is still being checked")?;
    Ok(private.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Stops the private PostgreSQL after its last client has disconnected.
pub async fn stop_private(private: PrivatePostgres) -> anyhow::Result<()> {
    Ok(blocking(move || private.stop()).await??)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await.context("a startup task panicked")
}
