//! What all parts of a server that deal with resources share.

use std::ops::{Deref, DerefMut};

use sqlx::PgConnection;
use tokio::{
    sync::{Notify, Semaphore, SemaphorePermit},
    time::timeout,
};

use super::{
    config::{ProviderSettings, default_providers},
    figures::Figures,
    pace::Pace,
    registry::Registry,
};
use crate::{
    base::error::{Code, Error, Result},
    db::{Pool, WriteConnection},
};

/// How many connections renew leases at a time, beside those that do the work: a lease must not depend on the work that
/// it is for.
const RENEWAL_PERMITS: usize = 1;

/// What the operator decides about resources; and a test about time.
#[derive(Clone, Debug)]
pub struct CloudOptions {
    /// The providers that there are.
    pub providers: Vec<ProviderSettings>,
    /// How fast.
    pub pace: Pace,
}

impl Default for CloudOptions {
    fn default() -> Self {
        Self { providers: default_providers(), pace: Pace::default() }
    }
}

/// Where resources are.
#[derive(Debug)]
pub struct Cloud {
    /// The providers.
    pub providers: Registry,
    /// How fast.
    pub pace: Pace,
    /// How much.
    pub figures: Figures,
    /// Told when an operation may be due.
    pub wake: Notify,
    /// For connections that work on operations.
    work_permits: Semaphore,
    /// For connections that renew leases.
    renewal_permits: Semaphore,
}

impl Cloud {
    /// By these options; the simulated providers keep their objects in `db`.
    pub fn new(options: CloudOptions, db: &Pool) -> Self {
        let providers = Registry::new(options.providers, db);
        let figures = Figures::new(providers.iter().map(|provider| provider.name.as_str()));
        Self {
            providers,
            pace: options.pace,
            figures,
            wake: Notify::new(),
            work_permits: Semaphore::new(options.pace.db_permits),
            renewal_permits: Semaphore::new(RENEWAL_PERMITS),
        }
    }

    /// A permit to use the database for work on an operation. The wait is bounded.
    pub async fn db_permit(&self) -> Result<SemaphorePermit<'_>> {
        self.permit(&self.work_permits).await
    }

    async fn permit<'a>(&self, permits: &'a Semaphore) -> Result<SemaphorePermit<'a>> {
        match timeout(self.pace.db_wait, permits.acquire()).await {
            Ok(permit) => permit.map_err(Error::internal),
            Err(_) => {
                self.figures.add_db_permit_timeout();
                let detail = format!(
                    "No database permit of the resource engine was free within {} ms; the step is repeated later",
                    self.pace.db_wait.as_millis()
                );
                Err(Error::new(Code::Overloaded, detail))
            }
        }
    }

    /// A connection for work on an operation. To be used within [`Cloud::in_time`].
    pub async fn connection(&self, db: &Pool) -> Result<Connection<'_>> {
        self.connection_with(&self.work_permits, db).await
    }

    /// A connection to renew a lease.
    pub async fn renewal_connection(&self, db: &Pool) -> Result<Connection<'_>> {
        self.connection_with(&self.renewal_permits, db).await
    }

    /// A connection to claim operations that are due, which one task does, one claim after the other.
    pub async fn claim_connection(&self, db: &Pool) -> Result<Connection<'_>> {
        Ok(Connection { connection: db.acquire_for_write().await?, is_done: false, _permit: None })
    }

    async fn connection_with<'a>(&self, permits: &'a Semaphore, db: &Pool) -> Result<Connection<'a>> {
        let permit = self.permit(permits).await?;
        Ok(Connection { connection: db.acquire_for_write().await?, is_done: false, _permit: Some(permit) })
    }

    /// Bounds the time for `work` on the database: a network that loses an answer must not keep a permit.
    pub async fn in_time<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let late =
            |_| Err(Error::new(Code::Timeout, "The database did not answer in time; the step is repeated later"));
        timeout(self.pace.db_time, work).await.unwrap_or_else(late)
    }
}

/// A connection and its permit. Unless [`Connection::done`] gives it back, the connection is closed: its statement failed
/// or was abandoned, and nobody knows what is still on its way.
#[derive(Debug)]
pub struct Connection<'a> {
    connection: WriteConnection,
    is_done: bool,
    _permit: Option<SemaphorePermit<'a>>,
}

impl Connection<'_> {
    /// Gives the connection back to the pool.
    pub fn done(mut self) {
        self.is_done = true;
    }
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        if !self.is_done {
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
