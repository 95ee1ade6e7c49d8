//! What is known about the HTTP request being served, gathered along its way.

use std::{
    net::IpAddr,
    pin::pin,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{sync::Notify, task::JoinHandle};

use super::{
    caller::Caller,
    error::{Code, Error, Result},
    etag::Conditions,
    id::{ProjectId, RequestId},
    intent::Intent,
    secret::Secret,
    trace::TraceContext,
};

/// One request: made at the edge, filled in on the way in, read on the way out. A command's and the server's own doings
/// are told of like requests.
#[derive(Debug)]
pub struct RequestContext {
    /// Its id, in `X-Request-Id`, in each problem and in each log line about it.
    pub id: RequestId,
    /// Its place in a trace that may reach beyond us: the client's `traceparent`, or a trace that begins here.
    pub trace: TraceContext,
    /// Where it comes from.
    pub origin: Origin,
    /// The client's address, where there is one: the peer's, or what a trusted proxy says.
    pub client: Option<IpAddr>,
    /// What the client says that it is, as it says it: not fit to be kept.
    pub user_agent: Option<Box<str>>,
    /// The route, once one was found.
    pub route: OnceLock<Route>,
    /// Who is calling, once that is established.
    pub caller: OnceLock<Arc<Caller>>,
    /// The project the request turned out to be about: for a session, the one it names.
    pub project: OnceLock<ProjectId>,
    /// The secret they showed, for what is sealed to it.
    pub secret: OnceLock<Secret>,
    /// The write they mean, if it carries an `Idempotency-Key`.
    pub intent: OnceLock<Intent>,
    /// The preconditions, if the route has an item and the request carries some.
    pub conditions: OnceLock<Conditions>,
    /// Whether nobody waits for the answer any more, and who is to be told of that.
    is_left: AtomicBool,
    left: Notify,
    /// What must be done before the answer is given.
    unsettled: Mutex<Option<JoinHandle<()>>>,
    /// Whether something of it may be committed.
    commit_sent: AtomicBool,
}

/// Where a request comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A client.
    Client,
    /// The operator's command line, and whose account it is on that machine.
    Operator(Option<String>),
    /// The server itself.
    System,
}

/// A row of the route table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The path's template, such as `/v1/keys/{key_id}`.
    pub template: &'static str,
    /// The number that stands for it wherever its text would be too long: the CRC-32 of method and template.
    pub number: u32,
    /// Its place in the table, from 0: how figures about it are found. Another version may have it elsewhere.
    pub place: usize,
}

/// Says that somebody waits for the answer, until it is dropped.
#[derive(Debug)]
pub struct Awaited(Arc<RequestContext>);

impl Awaited {
    /// Somebody waits for the answer to this request.
    pub fn by_client(request: &Arc<RequestContext>) -> Self {
        Self(Arc::clone(request))
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.0.is_left.store(true, Ordering::Release);
        self.0.left.notify_waiters();
    }
}

impl RequestContext {
    /// A client's request of which nothing more is known yet.
    pub fn new(client: Option<IpAddr>, user_agent: Option<Box<str>>) -> Self {
        Self { client, user_agent, ..Self::from(Origin::Client) }
    }

    /// What a command does, run by whoever has this name on the machine.
    pub fn operator(name: Option<String>) -> Self {
        Self::from(Origin::Operator(name))
    }

    /// What the server does by itself.
    pub fn system() -> Self {
        Self::from(Origin::System)
    }

    /// The same, as a step of `trace`.
    #[must_use]
    pub fn in_trace(self, trace: TraceContext) -> Self {
        Self { trace, ..self }
    }

    fn from(origin: Origin) -> Self {
        Self {
            id: RequestId::new(),
            trace: TraceContext::begin(),
            origin,
            client: None,
            user_agent: None,
            route: OnceLock::new(),
            caller: OnceLock::new(),
            project: OnceLock::new(),
            secret: OnceLock::new(),
            intent: OnceLock::new(),
            conditions: OnceLock::new(),
            is_left: AtomicBool::new(false),
            left: Notify::new(),
            unsettled: Mutex::default(),
            commit_sent: AtomicBool::new(false),
        }
    }

    /// Notes whether a COMMIT was sent that may have taken effect. After one, the request must not be served again.
    pub fn set_commit_sent(&self, sent: bool) {
        self.commit_sent.store(sent, Ordering::Release);
    }

    /// Whether something of it may be committed.
    pub fn is_commit_sent(&self) -> bool {
        self.commit_sent.load(Ordering::Acquire)
    }

    /// Holds the answer back until `task` has ended.
    pub fn settle_with(&self, task: JoinHandle<()>) {
        *self.unsettled.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
    }

    /// Waits for what must be done before the answer is given.
    pub async fn settled(&self) {
        let task = self.unsettled.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            // Should it have failed, there is nothing more to wait for.
            let _ = task.await;
        }
    }

    /// Does `work` for as long as somebody waits for the answer. A write goes on when its client goes;
    /// this is for what comes before it and takes a while.
    pub async fn while_awaited<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let mut left = pin!(self.left.notified());
        // Whoever leaves from here on is heard of; whoever left before is seen.
        left.as_mut().enable();
        if !self.is_left.load(Ordering::Acquire) {
            tokio::select! {
                () = left => {}
                done = work => return done,
            }
        }
        Err(Error::new(Code::Timeout, "Nobody waited for the answer any more; send the request again"))
    }
}
