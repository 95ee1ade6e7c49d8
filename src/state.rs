//! What handlers may reach.

use std::{ops::Deref, sync::Arc};

use sqlx::PgPool;

use crate::{
    auth::{bearer::Authenticator, password::Passwords},
    base::{clock::Clock, error::Result, lifecycle::Lifecycle},
    http::edge::{Edge, EdgeOptions},
    tx::Writes,
    usage::counters::Counters,
};

/// The application: cheap to clone, the same for all.
#[derive(Clone, Debug)]
pub struct App(Arc<Shared>);

/// What [`App`] holds.
#[derive(Debug)]
pub struct Shared {
    /// The database, for reads.
    pub db: PgPool,
    /// The database, for writes.
    pub writes: Writes,
    /// The time.
    pub clock: Clock,
    /// Recognises credentials.
    pub authenticator: Authenticator,
    /// Hashes and verifies passwords.
    pub passwords: Passwords,
    /// What has been counted.
    pub usage: Arc<Counters>,
    /// Where the server is in its life.
    pub lifecycle: Arc<Lifecycle>,
    /// What the outer layers share with the server.
    pub edge: Edge,
    /// Where clients reach this server, without a slash at its end.
    pub public_url: String,
}

impl App {
    /// An application on `db`, with an edge as it is by default.
    pub fn new(db: PgPool, clock: Clock, public_url: String) -> Result<Self> {
        Self::with_edge(db, clock, public_url, EdgeOptions::default())
    }

    /// An application on `db`.
    pub fn with_edge(db: PgPool, clock: Clock, public_url: String, edge: EdgeOptions) -> Result<Self> {
        let lifecycle = Arc::<Lifecycle>::default();
        Ok(Self(Arc::new(Shared {
            writes: Writes::new(db.clone()),
            authenticator: Authenticator::new(db.clone(), clock.clone()),
            db,
            clock,
            passwords: Passwords::new()?,
            usage: Arc::default(),
            edge: Edge::new(edge, Arc::clone(&lifecycle)),
            lifecycle,
            public_url,
        })))
    }
}

impl Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}
