//! What all parts of a server that deal with resources share.

use std::ops::{Deref, DerefMut};

use sqlx::PgConnection;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use super::{
    config::{ProviderSettings, default_providers},
    figures::Figures,
    pace::Pace,
    registry::Registry,
};
use crate::{
    base::error::Result,
    db::{Pool, WriteConnection},
};

/// How many of a server's connections its workers have at a time: requests want some too.
const DESKS: usize = 3;

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
    /// Who of those that work on operations may use the database.
    desks: Semaphore,
}

impl Cloud {
    /// By these options; the simulated providers keep their objects in `db`.
    pub fn new(options: CloudOptions, db: &Pool) -> Self {
        let providers = Registry::new(options.providers, db);
        let figures = Figures::new(providers.iter().map(|provider| provider.name.as_str()));
        Self { providers, pace: options.pace, figures, wake: Notify::new(), desks: Semaphore::new(DESKS) }
    }

    /// A place at the database for a worker, when there is one.
    pub async fn desk(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed.
        self.desks.acquire().await.ok()
    }

    /// A connection for a worker, when there is a place for it.
    pub async fn connection(&self, db: &Pool) -> Result<Connection<'_>> {
        let desk = self.desk().await;
        Ok(Connection { connection: db.acquire_for_write().await?, _desk: desk })
    }
}

/// A connection, and a worker's place at it.
#[derive(Debug)]
pub struct Connection<'a> {
    connection: WriteConnection,
    _desk: Option<SemaphorePermit<'a>>,
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
