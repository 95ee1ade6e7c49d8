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

use super::trace::TraceContext;
use crate::base::{
    error::{Code, Error, Result},
    etag::Preconditions,
    id::{ProjectId, RequestId},
    idempotency::IdempotentRequest,
    identity::{caller::Caller, secret::Secret},
};

/// Context of one request: created at the edge, filled by the layers on the way in, read on the way out. Commands and
/// the server's own actions also have a context.
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
    /// Whether the console makes the request, in the same process.
    pub is_console: bool,
    /// Route, once it is known.
    pub route: OnceLock<Route>,
    /// Caller, once authenticated.
    pub caller: OnceLock<Arc<Caller>>,
    /// Project of the request, once it is known. A session's request names it.
    pub project: OnceLock<ProjectId>,
    /// Bearer secret of the caller, which seals stored responses.
    pub secret: OnceLock<Secret>,
    /// Identity of the write, if it has an `Idempotency-Key`.
    pub idempotent_request: OnceLock<IdempotentRequest>,
    /// Preconditions, if the route concerns an item and the request has some.
    pub preconditions: OnceLock<Preconditions>,
    /// Whether the client has disconnected. `disconnected` is notified when it does.
    is_disconnected: AtomicBool,
    disconnected: Notify,
    /// Task that must end before the response is sent.
    pending_task: Mutex<Option<JoinHandle<()>>>,
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
    pub index: usize,
}

/// Guard that marks the client as waiting for the response until it is dropped.
#[derive(Debug)]
pub struct DisconnectGuard(Arc<RequestContext>);

impl DisconnectGuard {
    /// Marks the client of this request as waiting.
    pub fn new(request: &Arc<RequestContext>) -> Self {
        Self(Arc::clone(request))
    }
}

impl Drop for DisconnectGuard {
    fn drop(&mut self) {
        self.0.is_disconnected.store(true, Ordering::Release);
        self.0.disconnected.notify_waiters();
    }
}

impl RequestContext {
    /// Creates the context of a client's request.
    pub fn new(client: Option<IpAddr>, user_agent: Option<Box<str>>) -> Self {
        Self { client, user_agent, ..Self::with_origin(Origin::Client) }
    }

    /// Creates the context of a command. `name` is the account that runs it.
    pub fn operator(name: Option<String>) -> Self {
        Self::with_origin(Origin::Operator(name))
    }

    /// Creates the context of an action of the server.
    pub fn system() -> Self {
        Self::with_origin(Origin::System)
    }

    /// Sets the trace context.
    #[must_use]
    pub fn with_trace(self, trace: TraceContext) -> Self {
        Self { trace, ..self }
    }

    /// Sets whether the console makes the request.
    #[must_use]
    pub fn with_console(self, is_console: bool) -> Self {
        Self { is_console, ..self }
    }

    fn with_origin(origin: Origin) -> Self {
        Self {
            id: RequestId::new(),
            trace: TraceContext::new_root(),
            origin,
            client: None,
            user_agent: None,
            is_console: false,
            route: OnceLock::new(),
            caller: OnceLock::new(),
            project: OnceLock::new(),
            secret: OnceLock::new(),
            idempotent_request: OnceLock::new(),
            preconditions: OnceLock::new(),
            is_disconnected: AtomicBool::new(false),
            disconnected: Notify::new(),
            pending_task: Mutex::default(),
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
    pub fn delay_response_until(&self, task: JoinHandle<()>) {
        *self.pending_task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
    }

    /// Waits for the task that must end before the response is sent.
    pub async fn wait_for_pending_task(&self) {
        let task = self.pending_task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            // If the task failed, there is nothing more to wait for.
            let _ = task.await;
        }
    }

    /// Runs `work` while the client waits for the response, and cancels it when the client disconnects. Use it for slow
    /// work before a write; the write continues after the client disconnects.
    pub async fn while_connected<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let mut disconnected = pin!(self.disconnected.notified());
        // From here on, a disconnect notifies `disconnected`. An earlier one is visible in `is_disconnected`.
        disconnected.as_mut().enable();
        if !self.is_disconnected.load(Ordering::Acquire) {
            tokio::select! {
                () = disconnected => {}
                done = work => return done,
            }
        }
        Err(Error::new(Code::Timeout, "The client disconnected before the response; send the request again"))
    }
}
