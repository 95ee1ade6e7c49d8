//! A transaction that is rolled back before its request is answered, unless it was committed.

use std::sync::Arc;

use sqlx::{PgConnection, Postgres, Transaction};

use crate::base::request::RequestContext;

/// An open transaction. sqlx rolls back what is dropped when the connection is used next, which may be after the
/// client was answered: what the transaction had locked would then stand in the way of the client's next request.
#[derive(Debug)]
pub(super) struct Open {
    /// None once it was committed.
    transaction: Option<Transaction<'static, Postgres>>,
    request: Arc<RequestContext>,
}

impl Open {
    pub(super) fn new(transaction: Transaction<'static, Postgres>, request: &Arc<RequestContext>) -> Self {
        Self { transaction: Some(transaction), request: Arc::clone(request) }
    }

    /// The connection, inside the transaction.
    pub(super) fn db(&mut self) -> &mut PgConnection {
        match &mut self.transaction {
            Some(transaction) => transaction,
            // `commit` takes this apart.
            None => unreachable!("a transaction that was committed is used"),
        }
    }

    pub(super) async fn commit(mut self) -> sqlx::Result<()> {
        match self.transaction.take() {
            Some(transaction) => transaction.commit().await,
            None => Ok(()),
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(transaction) = self.transaction.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            // What cannot be rolled back has lost its connection, which does the same.
            self.request.settle_with(runtime.spawn(async move { drop(transaction.rollback().await) }));
        }
    }
}
