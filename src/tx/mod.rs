//! The transaction that every write of a client uses.
//!
//! A handler begins a [`Tx`], executes its effect through it, and ends with [`Tx::commit`]. Only `commit` makes the
//! effect durable, and it requires the [`Change`] for the log and the audit trail. What every write must do besides its
//! effect is implemented here and nowhere else.
//!
//! A POST or PATCH uses [`Writes::begin_idempotent`] or [`Tx::begin_idempotent`], which recognizes a repeated write and
//! returns an [`IdempotentTx`], whose commit also stores the response. Only `IdempotentTx` creates an [`Idempotent`],
//! so a handler that returns one cannot omit either.

mod change;
pub mod idempotency;
mod idempotent;
mod seal;
mod single_statement;
mod store;
mod transaction;

use std::sync::Arc;

use serde_json::Value;
use sqlx::{PgConnection, Row, postgres::PgRow};
use uuid::Uuid;

pub use change::Change;
use change::ChangeEntry;
use idempotency::{Claim, ClaimOutcome};
pub(crate) use idempotent::begin_or_replay;
pub use idempotent::{BegunWrite, Idempotent, IdempotentTx, Replay};
pub use single_statement::Effect;
pub use store::Store;
pub(crate) use store::context;
use transaction::{CommitFailure, Literal, Sql, Transaction};

use crate::{
    audit::{self, model::Outcome},
    auth::revocation::node::{Node, subject_texts},
    base::{
        error::{Code, Error, Result},
        etag::Versioned,
        identity::subject::Subject,
        input::schema::Input,
        runtime::{
            clock::{Clock, since_boot},
            request::RequestContext,
        },
    },
    db::{Stamp, sqlstate},
    http::request::extract::JsonBody,
};

/// Entry point of writes.
#[derive(Clone, Debug)]
pub struct Writes {
    node: Arc<Node>,
    clock: Clock,
}

impl Writes {
    /// Creates the entry point for `node`'s database.
    pub fn new(node: Arc<Node>, clock: Clock) -> Self {
        Self { node, clock }
    }

    /// Begins the write of `request`.
    pub async fn begin(&self, request: &Arc<RequestContext>) -> Result<Tx> {
        let (transaction, _) = Transaction::begin(&self.node.db, request, &Sql::default()).await?;
        Ok(self.tx(transaction, request))
    }

    /// Begins the write and recognizes it if it is a repetition, in one round trip. Otherwise validates its body and
    /// reports every fault. Writes that need a read first use [`Writes::begin`], then [`Tx::begin_idempotent`].
    pub async fn begin_idempotent<T: Input>(
        &self,
        request: &Arc<RequestContext>,
        body: JsonBody<T>,
    ) -> Result<BegunWrite<T>> {
        self.claim(request, Some(body.canonical_body())).await?.read(body)
    }

    /// Records a refused attempt, only in the audit trail.
    pub async fn record_refused(&self, request: &RequestContext, change: Change) -> Result<()> {
        self.record(request, change, Outcome::Failed).await
    }

    /// Records an action without a write, only in the audit trail.
    pub async fn record_action(&self, request: &RequestContext, change: Change) -> Result<()> {
        self.record(request, change, Outcome::Success).await
    }

    async fn record(&self, request: &RequestContext, change: Change, outcome: Outcome) -> Result<()> {
        let entry = change.into_entry(request, outcome, self.clock.now());
        let mut db = self.node.db.acquire_for_write().await?;
        request.set_commit_sent(true);
        audit::repo::stage(&mut db, &[(entry.chain(), entry.draft)]).await.map_err(|error| {
            request.set_commit_sent(sqlstate::may_have_committed(&error));
            Error::from(error)
        })?;
        self.node.db.pulse().notify_staged();
        Ok(())
    }

    async fn claim(&self, request: &Arc<RequestContext>, body: Option<&Value>) -> Result<BegunWrite<()>> {
        match Claim::from_request(request, body)? {
            Some(claim) => self.begin_claimed(request, claim).await,
            None => Ok(BegunWrite::without_key(self.begin(request).await?)),
        }
    }

    async fn begin_claimed(&self, request: &Arc<RequestContext>, claim: Claim) -> Result<BegunWrite<()>> {
        let (transaction, rows) = Transaction::begin(&self.node.db, request, &claim.sql(self.clock.now())).await?;
        self.tx(transaction, request).resolve_claim(claim, &rows).await
    }

    fn tx(&self, transaction: Transaction, request: &Arc<RequestContext>) -> Tx {
        Tx {
            transaction,
            node: Arc::clone(&self.node),
            clock: self.clock.clone(),
            request: Arc::clone(request),
            invalidated: Vec::new(),
            changes: Vec::new(),
            is_condition_checked: request.preconditions.get().is_none(),
        }
    }
}

/// A write in progress. Dropped without [`Tx::commit`], it has no effect.
#[derive(Debug)]
pub struct Tx {
    transaction: Transaction,
    node: Arc<Node>,
    clock: Clock,
    request: Arc<RequestContext>,
    invalidated: Vec<Subject>,
    /// Changes to record in addition to the one passed to commit.
    changes: Vec<Change>,
    /// Whether the request has no preconditions, or they were checked. Otherwise commit fails.
    is_condition_checked: bool,
}

impl Tx {
    /// Request of the write.
    pub fn request(&self) -> &Arc<RequestContext> {
        &self.request
    }

    /// Connection, inside the transaction.
    pub fn db(&mut self) -> &mut PgConnection {
        self.transaction.db()
    }

    /// Reports whether the request has unchecked preconditions.
    pub fn is_conditional(&self) -> bool {
        !self.is_condition_checked
    }

    /// Checks the request's preconditions against the item before the write. Every write of an item calls this or
    /// [`Tx::waive_preconditions`]; commit fails if neither was called and there are preconditions.
    pub fn require_match(&mut self, item: &impl Versioned) -> Result<()> {
        if self.is_conditional()
            && let Some(preconditions) = self.request.preconditions.get()
        {
            preconditions.check_write(&item.etag())?;
            self.is_condition_checked = true;
        }
        Ok(())
    }

    /// Ignores the preconditions, because the write was executed before: a repeated DELETE gets the same response,
    /// although the item has changed (RFC 9110 §13.1.1).
    pub fn waive_preconditions(&mut self) {
        self.is_condition_checked = true;
    }

    /// Invalidates cache entries that depend on `subject`. Call this for everything that a credential depends on and
    /// this write changes. Once the write has its response, no server trusts such entries. Every change of what a
    /// credential may do must call this: revocations, reductions, and extensions too, because cache entries do not
    /// expire.
    pub fn invalidate(&mut self, subject: Subject) {
        self.invalidated.push(subject);
    }

    /// Recognizes a repeated write. Otherwise validates its body and reports every fault.
    pub async fn begin_idempotent<T: Input>(mut self, body: JsonBody<T>) -> Result<BegunWrite<T>> {
        let opened = match Claim::from_request(&self.request, Some(body.canonical_body()))? {
            Some(claim) => {
                let rows = self.transaction.run(&claim.sql(self.clock.now())).await?;
                self.resolve_claim(claim, &rows).await?
            }
            None => BegunWrite::without_key(self),
        };
        opened.read(body)
    }

    /// Adds a change to record besides the one passed to commit, for requests that change two things.
    pub fn add_change(&mut self, change: Change) {
        self.changes.push(change);
    }

    async fn resolve_claim(mut self, claim: Claim, rows: &[PgRow]) -> Result<BegunWrite<()>> {
        let (request, node) = (Arc::clone(&self.request), Arc::clone(&self.node));
        match claim.resolve(&node, self.db(), rows, request.secret.get()).await? {
            ClaimOutcome::First(claim) => Ok(BegunWrite::First(IdempotentTx::new(self, Some(claim)), ())),
            ClaimOutcome::Replay(response, invalidation) => {
                // The replay makes the same promise as the first response. Its connection is not needed for the wait.
                drop(self);
                if let Some(invalidation) = invalidation {
                    node.confirm(&[], &invalidation, since_boot()).await;
                }
                Ok(BegunWrite::Replay(Replay(response)))
            }
        }
    }

    /// Commits the effect, records `change`, and returns the response that may now be sent.
    pub async fn commit<R>(self, change: Change, response: R) -> Result<R> {
        self.finish(Some(change)).await?;
        Ok(response)
    }

    /// Like [`Tx::commit`], for a write that changed nothing and has nothing to record. Invalidations still apply: a
    /// repeated revocation waits like the first one.
    pub async fn commit_unchanged<R>(self, response: R) -> Result<R> {
        self.finish(None).await?;
        Ok(response)
    }

    async fn finish(self, change: Option<Change>) -> Result<()> {
        let invalidation = match self.invalidated.is_empty() {
            true => Sql::default(),
            false => Sql::call_stamped("recall", &[Literal::Texts(&subject_texts(&self.invalidated))]),
        };
        self.commit_with(invalidation, change).await
    }

    /// Ends with `last`, which returns the position of the invalidation if there is one.
    async fn commit_with(self, last: Sql, change: Option<Change>) -> Result<()> {
        let Self { transaction, node, clock, request, invalidated, changes, is_condition_checked } = self;
        if !is_condition_checked {
            return Err(Error::internal("a write did not check its preconditions"));
        }
        let recorded = changes.into_iter().chain(change).filter(|change| !change.is_unchanged());
        let now = clock.now();
        let recorded: Vec<_> = recorded.map(|change| change.into_entry(&request, Outcome::Success, now)).collect();
        // An invalidation is the last statement, because other ones wait for it until COMMIT.
        let staged = recorded.iter().map(stage);
        let last = staged.fold(Sql::default(), Sql::then).then(last);
        let rows = transaction.commit(&last).await.map_err(|failure| match failure {
            CommitFailure::RolledBack(error) => error.into(),
            CommitFailure::Unknown(cause) => outcome_unknown(&node, &request, !invalidated.is_empty(), cause),
        })?;
        let committed = since_boot();
        node.db.writes().record_success();
        if !recorded.is_empty() {
            node.db.pulse().notify_staged();
        }
        recorded.iter().for_each(|entry| entry.log(&request));
        if !invalidated.is_empty() {
            let row = rows.first().ok_or_else(|| Error::internal("an invalidation without a position"))?;
            let server: String = row.try_get(1)?;
            let invalidation = Stamp { server: server.into(), seq: row.try_get(0)? };
            node.confirm(&invalidated, &invalidation, committed).await;
        }
        Ok(())
    }
}

/// Error for a write whose outcome is unknown.
fn outcome_unknown(node: &Node, request: &RequestContext, invalidates: bool, cause: Option<sqlx::Error>) -> Error {
    // It may be committed.
    node.db.pulse().notify_staged();
    let error = if invalidates {
        Error::new(
            Code::RevocationUnconfirmed,
            "Whether this took effect is unknown, because the database's response was lost; send it again until you get a response",
        )
    } else {
        Error::outcome_unknown(request.idempotent_request.get().is_some())
    };
    match cause {
        Some(cause) => {
            node.db.handle_sql_error(&cause);
            error.caused_by(cause)
        }
        None => error.caused_by("COMMIT timed out"),
    }
}

/// SQL that stages an audit entry.
fn stage(entry: &ChangeEntry) -> Sql {
    let chain = Uuid::from_u128(entry.chain().as_u128()).to_string();
    let entry = entry.draft.to_text();
    Sql::insert("audit_staged (project_id, entry)", &[Literal::Text(&chain), Literal::Text(&entry)])
}
