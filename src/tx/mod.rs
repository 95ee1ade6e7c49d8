//! The transaction that every write of a client uses.
//!
//! A handler begins a [`Tx`], executes its effect through it, and ends with [`Tx::commit`]. Only `commit` makes the
//! effect durable, and it requires the [`Change`] for the log and the audit trail. What every write must do besides its
//! effect is implemented here and nowhere else.
//!
//! A POST or PATCH uses [`Writes::open`] or [`Tx::open`], which recognizes a repeated write and returns [`OnceTx`],
//! whose commit also stores the response. Only `OnceTx` creates a [`Once`], so a handler that returns one cannot omit
//! either.

mod at_once;
mod change;
pub mod idempotency;
mod open;
mod seal;

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
};

use axum::response::{IntoResponse, Response};
use serde_json::Value;
use sqlx::{PgConnection, Row, postgres::PgRow};
use uuid::Uuid;

pub use at_once::Effect;
pub use change::Change;
use idempotency::{Claim, Claimed};
use open::{CommitFailure, Literal, Open, Sql};

use crate::{
    audit::{self, model::Outcome},
    auth::node::{Node, texts},
    base::{
        clock::{Clock, Timestamp, since_boot},
        error::{Code, Error, Result},
        etag::Versioned,
        request::RequestContext,
        schema::Input,
        subject::Subject,
    },
    db::{Call, Stamp, sqlstate},
    http::{
        describe::{Answer, AnswerShape},
        extract::JsonBody,
    },
};

/// Entry point of writes.
#[derive(Clone, Debug)]
pub struct Writes {
    node: Arc<Node>,
    clock: Clock,
    is_audited: bool,
}

impl Writes {
    /// Creates the entry point for `node`'s database.
    pub fn new(node: Arc<Node>, clock: Clock) -> Self {
        Self { node, clock, is_audited: true }
    }

    /// Turns the audit trail on or off. Off is for benchmarks only.
    pub fn audited(self, is_audited: bool) -> Self {
        Self { is_audited, ..self }
    }

    /// Begins the write of `request`.
    pub async fn begin(&self, request: &Arc<RequestContext>) -> Result<Tx> {
        let (open, _) = Open::begin(&self.node.db, request, &Sql::default()).await?;
        Ok(self.tx(open, request))
    }

    /// Begins the write and recognizes it if it is a repetition, in one round trip. Otherwise validates its body and
    /// reports every fault. For writes that need no read first; others use [`Writes::begin`], and then [`Tx::open`].
    pub async fn open<T: Input>(&self, request: &Arc<RequestContext>, body: JsonBody<T>) -> Result<Opened<T>> {
        self.claim(request, Some(body.meaning())).await?.read(body)
    }

    /// Records a refused attempt, only in the audit trail.
    pub async fn refused(&self, request: &RequestContext, change: Change) -> Result<()> {
        self.tell(request, change, Outcome::Failed).await
    }

    /// Records an action without a write, only in the audit trail.
    pub async fn done(&self, request: &RequestContext, change: Change) -> Result<()> {
        self.tell(request, change, Outcome::Success).await
    }

    async fn tell(&self, request: &RequestContext, change: Change, outcome: Outcome) -> Result<()> {
        if !self.is_audited {
            return Ok(());
        }
        let draft = change.draft(request, outcome, self.clock.now());
        let mut db = self.node.db.acquire_for_write().await?;
        request.set_commit_sent(true);
        audit::repo::stage(&mut db, &[(change.chain(), draft)]).await.map_err(|error| {
            request.set_commit_sent(sqlstate::may_have_committed(&error));
            error.into()
        })
    }

    async fn claim(&self, request: &Arc<RequestContext>, body: Option<&Value>) -> Result<Opened<()>> {
        match Claim::of(request, body)? {
            Some(claim) => self.open_claimed(request, claim).await,
            None => Ok(Opened::unclaimed(self.begin(request).await?)),
        }
    }

    async fn open_claimed(&self, request: &Arc<RequestContext>, claim: Claim) -> Result<Opened<()>> {
        let (open, rows) = Open::begin(&self.node.db, request, &claim.sql(self.clock.now())).await?;
        self.tx(open, request).judge(claim, &rows).await
    }

    fn tx(&self, open: Open, request: &Arc<RequestContext>) -> Tx {
        Tx {
            open,
            node: Arc::clone(&self.node),
            clock: self.clock.clone(),
            request: Arc::clone(request),
            recalled: Vec::new(),
            also: Vec::new(),
            is_audited: self.is_audited,
            is_condition_checked: request.conditions.get().is_none(),
        }
    }
}

/// A write in progress. Dropped without [`Tx::commit`], it has no effect.
#[derive(Debug)]
pub struct Tx {
    open: Open,
    node: Arc<Node>,
    clock: Clock,
    request: Arc<RequestContext>,
    recalled: Vec<Subject>,
    /// Changes to record in addition to the one passed to commit.
    also: Vec<Change>,
    is_audited: bool,
    /// Whether the request has no preconditions, or they were checked. Otherwise commit fails.
    is_condition_checked: bool,
}

/// A write that is executed once however often it is sent, after its claim.
#[derive(Debug)]
pub enum Opened<T> {
    /// First request, or a request without a key.
    First(OnceTx, T),
    /// Repeated request, with the stored response.
    Again(Response),
}

impl Opened<()> {
    fn unclaimed(tx: Tx) -> Self {
        Self::First(OnceTx { tx, claim: None }, ())
    }

    fn read<T: Input>(self, body: JsonBody<T>) -> Result<Opened<T>> {
        match self {
            Self::First(tx, ()) => Ok(Opened::First(tx, body.validate()?)),
            Self::Again(answer) => Ok(Opened::Again(answer)),
        }
    }
}

impl Tx {
    /// Request of the write.
    pub fn request(&self) -> &Arc<RequestContext> {
        &self.request
    }

    /// Connection, inside the transaction.
    pub fn db(&mut self) -> &mut PgConnection {
        self.open.db()
    }

    /// Reports whether the request has unchecked preconditions.
    pub fn is_conditional(&self) -> bool {
        !self.is_condition_checked
    }

    /// Checks the request's preconditions against the item before the write. Every write of an item calls this or
    /// [`Tx::waive_conditions`]; commit fails if neither was called and there are preconditions.
    pub fn require_match(&mut self, item: &impl Versioned) -> Result<()> {
        if self.is_conditional()
            && let Some(conditions) = self.request.conditions.get()
        {
            conditions.check_write(&item.etag())?;
            self.is_condition_checked = true;
        }
        Ok(())
    }

    /// Ignores the preconditions, because the write was executed before: a repeated DELETE gets the same response,
    /// although the item has changed (RFC 9110 §13.1.1).
    pub fn waive_conditions(&mut self) {
        self.is_condition_checked = true;
    }

    /// Executes `call`.
    pub async fn run(&mut self, call: Call) -> Result<()> {
        call.run(self.db())
            .await?
            .map_err(|word| Error::internal(format!("a SQL function returned the unexpected result '{word}'")))
    }

    /// Invalidates cache entries that depend on `subject`. Call this for everything that a credential depends on and
    /// this write changes. Once the write has its response, no server trusts such entries. Every change of what a
    /// credential may do must call this: revocations, reductions, and extensions too, because cache entries do not
    /// expire.
    pub fn recall(&mut self, subject: Subject) {
        self.recalled.push(subject);
    }

    /// Recognizes a repeated write. Otherwise validates its body and reports every fault.
    pub async fn open<T: Input>(mut self, body: JsonBody<T>) -> Result<Opened<T>> {
        let opened = match Claim::of(&self.request, Some(body.meaning()))? {
            Some(claim) => {
                let rows = self.open.run(&claim.sql(self.clock.now())).await?;
                self.judge(claim, &rows).await?
            }
            None => Opened::unclaimed(self),
        };
        opened.read(body)
    }

    /// Adds a change to record besides the one passed to commit, for requests that change two things.
    pub fn also(&mut self, change: Change) {
        self.also.push(change);
    }

    async fn judge(mut self, claim: Claim, rows: &[PgRow]) -> Result<Opened<()>> {
        let (request, node) = (Arc::clone(&self.request), Arc::clone(&self.node));
        match claim.judge(&node, self.db(), rows, request.secret.get()).await? {
            Claimed::First(claim) => Ok(Opened::First(OnceTx { tx: self, claim: Some(claim) }, ())),
            Claimed::Again(answer, recall) => {
                // The replay makes the same promise as the first response. Its connection is not needed for the wait.
                drop(self);
                if let Some(recall) = recall {
                    node.confirm(&[], &recall, since_boot()).await;
                }
                Ok(Opened::Again(answer))
            }
        }
    }

    /// Commits the effect, records `change`, and returns the response that may now be sent.
    pub async fn commit<R>(self, change: Change, reply: R) -> Result<R> {
        self.finish(Some(change)).await?;
        Ok(reply)
    }

    /// Like [`Tx::commit`], for a write that changed nothing and has nothing to record. Invalidations still apply: a
    /// repeated revocation waits like the first one.
    pub async fn commit_unchanged<R>(self, reply: R) -> Result<R> {
        self.finish(None).await?;
        Ok(reply)
    }

    async fn finish(self, change: Option<Change>) -> Result<()> {
        let recall = match self.recalled.is_empty() {
            true => Sql::default(),
            false => Sql::call_stamped("recall", &[Literal::Texts(&texts(&self.recalled))]),
        };
        self.commit_with(recall, change).await
    }

    /// Ends with `last`, which returns the position of the invalidation if there is one.
    async fn commit_with(self, last: Sql, change: Option<Change>) -> Result<()> {
        let Self { open, node, clock, request, recalled, also, is_audited, is_condition_checked } = self;
        if !is_condition_checked {
            return Err(Error::internal("a write did not check its preconditions"));
        }
        let told: Vec<_> = also.into_iter().chain(change).filter(|change| !change.is_void()).collect();
        // An invalidation is the last statement, because other ones wait for it until COMMIT.
        let now = clock.now();
        let staged = told.iter().filter(|_| is_audited).map(|change| stage(change, &request, now));
        let last = staged.fold(Sql::default(), Sql::then).then(last);
        let rows = open.commit(&last).await.map_err(|failure| match failure {
            CommitFailure::RolledBack(error) => error.into(),
            CommitFailure::Unknown(cause) => unknown(&node, &request, !recalled.is_empty(), cause),
        })?;
        let committed = since_boot();
        node.db.writes().succeeded();
        told.iter().for_each(|change| change.log(&request));
        if !recalled.is_empty() {
            let row = rows.first().ok_or_else(|| Error::internal("an invalidation without a position"))?;
            let server: String = row.try_get(1)?;
            let recall = Stamp { server: server.into(), seq: row.try_get(0)? };
            node.confirm(&recalled, &recall, committed).await;
        }
        Ok(())
    }
}

/// Error for a write whose outcome is unknown.
fn unknown(node: &Node, request: &RequestContext, recalls: bool, cause: Option<sqlx::Error>) -> Error {
    let error = if recalls {
        Error::new(
            Code::RevocationUnconfirmed,
            "Whether this took effect is unknown, because the database's response was lost; send it again until you get a response",
        )
    } else {
        Error::outcome_unknown(request.intent.get().is_some())
    };
    match cause {
        Some(cause) => {
            node.db.note_sql(&cause);
            error.caused_by(cause)
        }
        None => error.caused_by("COMMIT timed out"),
    }
}

/// SQL that stages the audit entry of `change`.
fn stage(change: &Change, request: &RequestContext, now: Timestamp) -> Sql {
    let chain = Uuid::from_u128(change.chain().as_u128()).to_string();
    let entry = change.draft(request, Outcome::Success, now).to_text();
    Sql::insert("audit_staged (project_id, entry)", &[Literal::Text(&chain), Literal::Text(&entry)])
}

/// A write in progress whose response is stored for repeated requests.
#[derive(Debug)]
pub struct OnceTx {
    tx: Tx,
    /// None for a write without a key.
    claim: Option<Claim>,
}

impl Deref for OnceTx {
    type Target = Tx;
    fn deref(&self) -> &Tx {
        &self.tx
    }
}

impl DerefMut for OnceTx {
    fn deref_mut(&mut self) -> &mut Tx {
        &mut self.tx
    }
}

impl OnceTx {
    /// Commits the effect and the stored response, records `change`, and returns the response.
    pub async fn commit<R: IntoResponse>(self, change: Change, reply: R) -> Result<Once<R>> {
        self.keep(Some(change), reply).await
    }

    /// Like [`OnceTx::commit`], for a write that changed nothing.
    pub async fn commit_unchanged<R: IntoResponse>(self, reply: R) -> Result<Once<R>> {
        self.keep(None, reply).await
    }

    async fn keep<R: IntoResponse>(self, change: Option<Change>, reply: R) -> Result<Once<R>> {
        let Self { tx, claim } = self;
        let answer = reply.into_response();
        let answer = match claim {
            Some(claim) => {
                // The record has the position of the invalidation, so one statement does both.
                let (answer, kept) = claim.keep(&tx.request, answer).await?;
                let keep = kept.sql(&tx.recalled, tx.clock.now());
                tx.commit_with(keep, change).await?;
                answer
            }
            None => {
                tx.finish(change).await?;
                answer
            }
        };
        Ok(Once::kept(answer))
    }
}

/// Response `R` of a write that is executed once: the first response, or its replay.
#[derive(Debug)]
pub struct Once<R> {
    answer: Response,
    of: std::marker::PhantomData<fn() -> R>,
}

impl<R> Once<R> {
    /// Wraps `answer`, which is stored or was replayed.
    pub fn kept(answer: Response) -> Self {
        Self { answer, of: std::marker::PhantomData }
    }
}

impl<R> IntoResponse for Once<R> {
    fn into_response(self) -> Response {
        self.answer
    }
}

impl<R: Answer> Answer for Once<R> {
    const SHAPE: AnswerShape = AnswerShape { once: true, ..R::SHAPE };
}

/// Continues in the handler if a write is sent for the first time. Otherwise returns the stored response from the
/// handler.
macro_rules! first {
    ($opened:expr) => {
        match $opened {
            $crate::tx::Opened::First(tx, value) => (tx, value),
            $crate::tx::Opened::Again(answer) => return Ok($crate::tx::Once::kept(answer)),
        }
    };
}
pub(crate) use first;
