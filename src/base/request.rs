//! Context of the HTTP request that is being served.

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

/// Context of one request: created at the edge, filled by the layers on the way in, read on the way out. Commands and the
/// server's own actions also have a context.
#[derive(Debug)]
pub struct RequestContext {
    /// Request id: in `X-Request-Id`, in each problem document and in each log line about the request.
    pub id: RequestId,
    /// Trace context: from the client's `traceparent`, or a new trace.
    pub trace: TraceContext,
    /// Origin.
    pub origin: Origin,
    /// Client address, if any: the peer's, or the one that a trusted proxy reports.
    pub client: Option<IpAddr>,
    /// Unmodified user agent of the client. It must not be stored in this form.
    pub user_agent: Option<Box<str>>,
    /// Route, once it is known.
    pub route: OnceLock<Route>,
    /// Caller, once authenticated.
    pub caller: OnceLock<Arc<Caller>>,
    /// Project of the request, once it is known. A session's request names it.
    pub project: OnceLock<ProjectId>,
    /// Bearer secret of the caller, which seals stored responses.
    pub secret: OnceLock<Secret>,
    /// Identity of the write, if it has an `Idempotency-Key`.
    pub intent: OnceLock<Intent>,
    /// Preconditions, if the route concerns an item and the request has some.
    pub conditions: OnceLock<Conditions>,
    /// Whether the client has disconnected. `left` is notified when it does.
    is_left: AtomicBool,
    left: Notify,
    /// Task that must end before the response is sent.
    unsettled: Mutex<Option<JoinHandle<()>>>,
    /// Whether a part of the request may be committed.
    commit_sent: AtomicBool,
}

/// Origin of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Client.
    Client,
    /// Command of the operator, with the name of the operator's account on that machine.
    Operator(Option<String>),
    /// The server.
    System,
}

/// Route of the route table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Path template, such as `/v1/keys/{key_id}`.
    pub template: &'static str,
    /// Compact identifier, used where the text would be too long: the CRC-32 of method and template.
    pub number: u32,
    /// Index in the table, from 0, by which its metrics are found. It can differ between versions.
    pub place: usize,
}

/// Guard that marks the client as waiting for the response until it is dropped.
#[derive(Debug)]
pub struct Awaited(Arc<RequestContext>);

impl Awaited {
    /// Marks the client of this request as waiting.
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
    /// Creates the context of a client's request.
    pub fn new(client: Option<IpAddr>, user_agent: Option<Box<str>>) -> Self {
        Self { client, user_agent, ..Self::from(Origin::Client) }
    }

    /// Creates the context of a command. `name` is the account that runs it.
    pub fn operator(name: Option<String>) -> Self {
        Self::from(Origin::Operator(name))
    }

    /// Creates the context of an action of the server.
    pub fn system() -> Self {
        Self::from(Origin::System)
    }

    /// Sets the trace context.
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

    /// Sets whether a COMMIT was sent that may have taken effect. After that, the request must not be executed again.
    pub fn set_commit_sent(&self, sent: bool) {
        self.commit_sent.store(sent, Ordering::Release);
    }

    /// Returns whether a part of the request may be committed.
    pub fn is_commit_sent(&self) -> bool {
        self.commit_sent.load(Ordering::Acquire)
    }

    /// Delays the response until `task` has ended.
    pub fn settle_with(&self, task: JoinHandle<()>) {
        *self.unsettled.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
    }

    /// Waits for the task that must end before the response is sent.
    pub async fn settled(&self) {
        let task = self.unsettled.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            // If the task failed, there is nothing more to wait for.
            let _ = task.await;
        }
    }

    /// Runs `work` while the client waits for the response, and cancels it when the client disconnects. Use it for slow
    /// work before a write; the write continues after the client disconnects.
    pub async fn while_awaited<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let mut left = pin!(self.left.notified());
        // From here on, a disconnect notifies `left`. An earlier one is visible in `is_left`.
        left.as_mut().enable();
        if !self.is_left.load(Ordering::Acquire) {
            tokio::select! {
                () = left => {}
                done = work => return done,
            }
        }
        Err(Error::new(Code::Timeout, "The client disconnected before the response; send the request again"))
    }
}
