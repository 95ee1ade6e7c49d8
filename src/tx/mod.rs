//! The one transaction through which every client's write goes.
//!
//! A handler begins a [`Tx`], takes effect through it, and ends with [`Tx::commit`], which alone makes the
//! effect last and asks for the [`Change`] to tell of it, in the log and in the audit trail. What every write must do
//! besides its effect is done here and nowhere else.
//!
//! A POST or PATCH goes through [`Writes::open`] or [`Tx::open`], which recognises a write that was sent
//! before and gives [`OnceTx`], whose commit keeps the answer. Only it makes a [`Once`], so a handler that
//! returns one cannot forget either.

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

/// Where writes begin.
#[derive(Clone, Debug)]
pub struct Writes {
    node: Arc<Node>,
    clock: Clock,
    is_audited: bool,
}

impl Writes {
    /// Writes to `node`'s database.
    pub fn new(node: Arc<Node>, clock: Clock) -> Self {
        Self { node, clock, is_audited: true }
    }

    /// The same, of which the audit trail tells nothing if not `is_audited`: what a benchmark compares with.
    pub fn audited(self, is_audited: bool) -> Self {
        Self { is_audited, ..self }
    }

    /// Begins the write that `request` asks for.
    pub async fn begin(&self, request: &Arc<RequestContext>) -> Result<Tx> {
        let (open, _) = Open::begin(&self.node.db, request, &Sql::default()).await?;
        Ok(self.tx(open, request))
    }

    /// Begins it and recognises it if it was sent before, in one round trip; else reads its body, or tells every one of
    /// its faults. For writes of which nothing has to be looked up first; the others [`Writes::begin`], and go on with
    /// [`Tx::open`].
    pub async fn open<T: Input>(&self, request: &Arc<RequestContext>, body: JsonBody<T>) -> Result<Opened<T>> {
        self.claim(request, Some(body.meaning())).await?.read(body)
    }

    /// Tells of what was tried and refused, in the audit trail alone.
    pub async fn refused(&self, request: &RequestContext, change: Change) -> Result<()> {
        self.tell(request, change, Outcome::Failed).await
    }

    /// Tells, in the audit trail alone, of what was done without a write.
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

/// One write under way. Dropped without [`Tx::commit`], it has no effect.
#[derive(Debug)]
pub struct Tx {
    open: Open,
    node: Arc<Node>,
    clock: Clock,
    request: Arc<RequestContext>,
    recalled: Vec<Subject>,
    /// What is told of besides the change that it is committed with.
    also: Vec<Change>,
    is_audited: bool,
    /// Whether the request has no preconditions, or they were checked: without that nothing is committed.
    is_condition_checked: bool,
}

/// A write that is done once however often it is sent, before it is judged.
#[derive(Debug)]
pub enum Opened<T> {
    /// It is sent for the first time, or without a key.
    First(OnceTx, T),
    /// It was done before: this is what was answered.
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
    /// The request that it is about.
    pub fn request(&self) -> &Arc<RequestContext> {
        &self.request
    }

    /// The connection, inside the transaction.
    pub fn db(&mut self) -> &mut PgConnection {
        self.open.db()
    }

    /// Whether the request has preconditions that are not checked yet.
    pub fn is_conditional(&self) -> bool {
        !self.is_condition_checked
    }

    /// Checks the request's preconditions against the item as it is before the write. Every write of an item calls this
    /// or [`Tx::waive_conditions`]; commit fails if neither was called and there are preconditions.
    pub fn require_match(&mut self, item: &impl Versioned) -> Result<()> {
        if self.is_conditional()
            && let Some(conditions) = self.request.conditions.get()
        {
            conditions.check_write(&item.etag())?;
            self.is_condition_checked = true;
        }
        Ok(())
    }

    /// Ignores the preconditions, because the write was done before: whoever repeats a DELETE gets the same response,
    /// although the item has changed (RFC 9110 §13.1.1).
    pub fn waive_conditions(&mut self) {
        self.is_condition_checked = true;
    }

    /// Does what `call` says, or fails as it does.
    pub async fn run(&mut self, call: Call) -> Result<()> {
        call.run(self.db()).await?.map_err(|word| Error::internal(format!("a call said '{word}'")))
    }

    /// To be called with whatever a credential rests on and this write changes. Nothing that servers have cached
    /// of it is trusted by any of them when the write is answered. Every change of what a credential may do
    /// goes through here: a revocation, a narrowing, and a widening too, since nothing cached ends by itself.
    pub fn recall(&mut self, subject: Subject) {
        self.recalled.push(subject);
    }

    /// Recognises a write that was sent before; else reads its body, or tells every one of its faults.
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

    /// Has `change` told besides the one that this will be committed with: for what one request does to two things.
    pub fn also(&mut self, change: Change) {
        self.also.push(change);
    }

    async fn judge(mut self, claim: Claim, rows: &[PgRow]) -> Result<Opened<()>> {
        let (request, node) = (Arc::clone(&self.request), Arc::clone(&self.node));
        match claim.judge(&node, self.db(), rows, request.secret.get()).await? {
            Claimed::First(claim) => Ok(Opened::First(OnceTx { tx: self, claim: Some(claim) }, ())),
            Claimed::Again(answer, recall) => {
                // The replay promises what the first answer did. Its connection need not wait for that.
                drop(self);
                if let Some(recall) = recall {
                    node.confirm(&[], &recall, since_boot()).await;
                }
                Ok(Opened::Again(answer))
            }
        }
    }

    /// Makes the effect last, tells of `change`, and gives back the answer that may now be sent.
    pub async fn commit<R>(self, change: Change, reply: R) -> Result<R> {
        self.finish(Some(change)).await?;
        Ok(reply)
    }

    /// As [`Tx::commit`], for what turned out to change nothing, of which there is nothing to tell. What was recalled is
    /// recalled even so: who repeats a revocation waits like who asked for it first.
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

    /// Ends with `last`, which gives the number of the recall if there is something to recall.
    async fn commit_with(self, last: Sql, change: Option<Change>) -> Result<()> {
        let Self { open, node, clock, request, recalled, also, is_audited, is_condition_checked } = self;
        if !is_condition_checked {
            return Err(Error::internal("a write did not check its preconditions"));
        }
        let told: Vec<_> = also.into_iter().chain(change).filter(|change| !change.is_void()).collect();
        // A recall is done last: every other waits for it until COMMIT.
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
            let row = rows.first().ok_or_else(|| Error::internal("a recall without a number"))?;
            let server: String = row.try_get(1)?;
            let recall = Stamp { server: server.into(), seq: row.try_get(0)? };
            node.confirm(&recalled, &recall, committed).await;
        }
        Ok(())
    }
}

/// What is answered where nobody knows whether a write was committed.
fn unknown(node: &Node, request: &RequestContext, recalls: bool, cause: Option<sqlx::Error>) -> Error {
    let error = if recalls {
        Error::new(
            Code::RevocationUnconfirmed,
            "Whether this took effect is not known, because the database's answer was lost; send it again until it is answered",
        )
    } else {
        Error::outcome_unknown(request.intent.get().is_some())
    };
    match cause {
        Some(cause) => {
            node.db.note_sql(&cause);
            error.caused_by(cause)
        }
        None => error.caused_by("COMMIT was not answered in time"),
    }
}

/// What stages the entry that tells of `change`.
fn stage(change: &Change, request: &RequestContext, now: Timestamp) -> Sql {
    let chain = Uuid::from_u128(change.chain().as_u128()).to_string();
    let entry = change.draft(request, Outcome::Success, now).to_text();
    Sql::insert("audit_staged (project_id, entry)", &[Literal::Text(&chain), Literal::Text(&entry)])
}

/// A write under way whose answer is kept for whoever sends it again.
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
    /// Makes the effect and the answer last, tells of `change`, and gives back the answer.
    pub async fn commit<R: IntoResponse>(self, change: Change, reply: R) -> Result<Once<R>> {
        self.keep(Some(change), reply).await
    }

    /// As [`OnceTx::commit`], for what turned out to change nothing.
    pub async fn commit_unchanged<R: IntoResponse>(self, reply: R) -> Result<Once<R>> {
        self.keep(None, reply).await
    }

    async fn keep<R: IntoResponse>(self, change: Option<Change>, reply: R) -> Result<Once<R>> {
        let Self { tx, claim } = self;
        let answer = reply.into_response();
        let answer = match claim {
            Some(claim) => {
                // The record tells the recall's number, so one statement does both.
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

/// The answer `R` to a write that is done once: given for the first time, or again.
#[derive(Debug)]
pub struct Once<R> {
    answer: Response,
    of: std::marker::PhantomData<fn() -> R>,
}

impl<R> Once<R> {
    /// `answer`, which is kept, or was.
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

/// What a handler goes on with when a write is sent for the first time; when it was sent before, returns
/// from the handler with what was answered.
macro_rules! first {
    ($opened:expr) => {
        match $opened {
            $crate::tx::Opened::First(tx, value) => (tx, value),
            $crate::tx::Opened::Again(answer) => return Ok($crate::tx::Once::kept(answer)),
        }
    };
}
pub(crate) use first;
