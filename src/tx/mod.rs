//! The one transaction through which every client's write goes.
//!
//! A handler begins a [`Tx`], takes effect through it, and ends with [`Tx::commit`], which alone
//! makes the effect last and asks for the [`Change`] to tell of it. What every write must do besides
//! its effect is done here and nowhere else.

mod change;

use std::sync::Arc;

use sqlx::{PgConnection, PgPool, Postgres, Transaction};

pub use change::Change;

use crate::base::{error::Result, request::RequestContext};

/// Where writes begin.
#[derive(Clone, Debug)]
pub struct Writes {
    db: PgPool,
}

impl Writes {
    /// Writes to `db`.
    pub fn new(db: PgPool) -> Self {
        Self { db }
    }

    /// Begins the write that `request` asks for.
    pub async fn begin(&self, request: &Arc<RequestContext>) -> Result<Tx> {
        Ok(Tx { inner: self.db.begin().await?, request: Arc::clone(request) })
    }
}

/// One write under way. Dropped without [`Tx::commit`], it has no effect.
#[derive(Debug)]
pub struct Tx {
    inner: Transaction<'static, Postgres>,
    request: Arc<RequestContext>,
}

impl Tx {
    /// The connection, inside the transaction.
    pub fn db(&mut self) -> &mut PgConnection {
        &mut self.inner
    }

    /// Makes the effect last, tells of `change`, and gives back the answer that may now be sent.
    pub async fn commit<R>(self, change: Change, reply: R) -> Result<R> {
        self.inner.commit().await?;
        change.log(&self.request);
        Ok(reply)
    }
}
