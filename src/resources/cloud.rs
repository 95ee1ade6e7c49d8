//! State that the handlers and workers of resources share.

use std::ops::{Deref, DerefMut};

use sqlx::PgConnection;
use tokio::{
    sync::{Notify, Semaphore, SemaphorePermit},
    time::timeout,
};

use super::{
    drivers::{
        config::{ProviderSettings, default_providers},
        registry::Registry,
    },
    engine::timing::EngineTiming,
    metrics::ResourceMetrics,
};
use crate::{
    base::error::{Code, Error, Result},
    db::{Pool, WriteConnection},
};

/// Connections for renewing leases, in addition to those for work: a renewal must not wait for the work that it
/// protects.
const RENEWAL_PERMITS: usize = 1;

/// Providers, and timing. Only tests change the timing.
#[derive(Clone, Debug)]
pub struct CloudOptions {
    /// Configured providers.
    pub providers: Vec<ProviderSettings>,
    /// Timing and limits of the engine.
    pub timing: EngineTiming,
}

impl Default for CloudOptions {
    fn default() -> Self {
        Self { providers: default_providers(), timing: EngineTiming::default() }
    }
}

/// Providers and shared state of the resource engine.
#[derive(Debug)]
pub struct Cloud {
    /// Configured providers.
    pub providers: Registry,
    /// Timing and limits of the engine.
    pub timing: EngineTiming,
    /// Metrics.
    pub metrics: ResourceMetrics,
    /// Notified when an operation may be due.
    pub wake: Notify,
    /// Permits for connections that work on operations.
    work_permits: Semaphore,
    /// Permits for connections that renew leases.
    renewal_permits: Semaphore,
}

impl Cloud {
    /// Creates the state. Simulated providers store their objects in `db`.
    pub fn new(options: CloudOptions, db: &Pool) -> Self {
        let providers = Registry::new(options.providers, db);
        let metrics = ResourceMetrics::new(providers.iter().map(|provider| provider.name.as_str()));
        Self {
            providers,
            timing: options.timing,
            metrics,
            wake: Notify::new(),
            work_permits: Semaphore::new(options.timing.db_permits),
            renewal_permits: Semaphore::new(RENEWAL_PERMITS),
        }
    }

    /// Acquires a permit to use the database for work on an operation. The wait is bounded.
    pub async fn db_permit(&self) -> Result<SemaphorePermit<'_>> {
        self.permit(&self.work_permits).await
    }

    async fn permit<'a>(&self, permits: &'a Semaphore) -> Result<SemaphorePermit<'a>> {
        match timeout(self.timing.db_permit_timeout, permits.acquire()).await {
            Ok(permit) => permit.map_err(Error::internal),
            Err(_) => {
                self.metrics.add_db_permit_timeout();
                let detail = format!(
                    "No database permit of the resource engine was free within {} ms; the step is retried",
                    self.timing.db_permit_timeout.as_millis()
                );
                Err(Error::new(Code::Overloaded, detail))
            }
        }
    }

    /// Acquires a connection for work on an operation. Use it within [`Cloud::with_timeout`].
    pub async fn connection(&self, db: &Pool) -> Result<Connection<'_>> {
        self.connection_with(&self.work_permits, db).await
    }

    /// Acquires a connection to renew a lease.
    pub async fn renewal_connection(&self, db: &Pool) -> Result<Connection<'_>> {
        self.connection_with(&self.renewal_permits, db).await
    }

    /// Acquires a connection to claim due operations. Only one task does this, one claim at a time.
    pub async fn claim_connection(&self, db: &Pool) -> Result<Connection<'_>> {
        Ok(Connection { connection: db.acquire_for_write().await?, is_released: false, _permit: None })
    }

    async fn connection_with<'a>(&self, permits: &'a Semaphore, db: &Pool) -> Result<Connection<'a>> {
        let permit = self.permit(permits).await?;
        Ok(Connection { connection: db.acquire_for_write().await?, is_released: false, _permit: Some(permit) })
    }

    /// Limits the time for `work` on the database: a network that loses a response must not keep a permit occupied.
    pub async fn with_timeout<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let on_timeout =
            |_| Err(Error::new(Code::Timeout, "The database did not respond in time; the step is retried"));
        timeout(self.timing.db_timeout, work).await.unwrap_or_else(on_timeout)
    }
}

/// Database connection with its permit. [`Connection::release`] returns it to the pool. Otherwise it is closed on drop,
/// because its statement failed or was abandoned and may still be running.
#[derive(Debug)]
pub struct Connection<'a> {
    connection: WriteConnection,
    is_released: bool,
    _permit: Option<SemaphorePermit<'a>>,
}

impl Connection<'_> {
    /// Returns the connection to the pool.
    pub fn release(mut self) {
        self.is_released = true;
    }
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        if !self.is_released {
            self.connection.close_on_drop();
        }
    }
}

impl Deref for Connection<'_> {
    type Target = PgConnection;
    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Connection<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}
