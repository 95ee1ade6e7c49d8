//! The gate in front of every handler: authenticates the caller, and checks its limits, the kind of credential and its
//! scopes (`admission`), in the order of the API contract, before any of the body is read.

pub(crate) mod admission;
pub(crate) mod retry;

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{
    body::{Body, HttpBody},
    extract::Request,
    http::{HeaderName, request::Parts},
    response::{IntoResponse, Response},
};
use pin_project_lite::pin_project;
use tokio_util::task::TaskTracker;
use tower::{Layer, Service};

use super::{
    bearer::{Authenticator, CacheMiss, presented_secret},
    limits::{RateLimitStatus, RateLimiters, lookups::is_failure},
};
use crate::{
    auth::limits::quota::ExhaustedProjects,
    base::{
        error::{Code, Error, Result},
        etag::Preconditions,
        idempotency::{IdempotencyKey, IdempotentRequest},
        identity::{access_policy::AccessPolicy, caller::Caller, secret::Secret},
        runtime::request::{RequestContext, Route},
    },
    http::{
        describe::Operation,
        layers::concurrency::Slot,
        request::{
            body::reject_unexpected_body,
            extract::reject_unexpected_parameters,
            precondition::{self, preconditions_of},
        },
    },
};
use admission::{admit, require_recent_authentication};
use retry::{ReadRetry, RequestCopy, is_retryable};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Layer for one route.
#[derive(Clone, Debug)]
pub struct GateLayer(Arc<GateConfig>);

/// Configuration of a gate.
#[derive(Debug)]
struct GateConfig {
    operation: Arc<Operation>,
    route: Route,
    authenticator: Authenticator,
    limits: Arc<RateLimiters>,
    quota: Arc<ExhaustedProjects>,
    writes: TaskTracker,
}

impl GateLayer {
    /// The gate for `operation`. Writes run in tasks of `writes`.
    pub fn new(
        operation: Arc<Operation>,
        authenticator: Authenticator,
        limits: Arc<RateLimiters>,
        quota: Arc<ExhaustedProjects>,
        writes: TaskTracker,
    ) -> Self {
        let route = operation.route();
        Self(Arc::new(GateConfig { operation, route, authenticator, limits, quota, writes }))
    }
}

/// Result of checking a request.
enum Admission {
    /// The request is admitted. With the state of the rate limit, if one applies.
    Admitted(Option<RateLimitStatus>),
    /// The request is rejected.
    Rejected(Error, Option<RateLimitStatus>),
    /// The credential is not cached.
    Uncached(Secret, CacheMiss),
}

impl GateConfig {
    /// Checks a request as far as possible without waiting. For a cached credential, the check is complete.
    fn check(&self, head: &Parts) -> Admission {
        let checked = || -> Result<Admission> {
            let context = context_of(head)?;
            let _ = context.route.set(self.route);
            match self.operation.policy {
                AccessPolicy::Public => {}
                AccessPolicy::SignIn => self.limits.record_sign_in(context.client)?,
                AccessPolicy::Session | AccessPolicy::Scoped { .. } => {
                    let secret = presented_secret(head).map_err(|error| self.count_failure(context, error))?;
                    return Ok(match self.authenticator.cached(&secret) {
                        Ok(caller) => self.admit(context, head, Some((caller, secret))),
                        Err(miss) => Admission::Uncached(secret, miss),
                    });
                }
            }
            Ok(self.admit(context, head, None))
        };
        checked().unwrap_or_else(|error| Admission::Rejected(error, None))
    }

    /// Continues with a request whose credential has to be read from the database.
    async fn check_uncached(&self, head: &Parts, secret: Secret, miss: CacheMiss) -> Admission {
        let checked = async {
            let context = context_of(head)?;
            let caller = self.limits.look_up(&self.authenticator, &secret, miss, context.client).await?;
            Ok(self.admit(context, head, Some((caller, secret))))
        };
        checked.await.unwrap_or_else(|error| Admission::Rejected(error, None))
    }

    /// The checks that follow authentication.
    fn admit(&self, context: &RequestContext, head: &Parts, credential: Option<(Arc<Caller>, Secret)>) -> Admission {
        let mut rate_limit = None;
        let admitted = || -> Result<()> {
            if let Some((caller, secret)) = credential {
                let _ = context.secret.set(secret);
                // Set before the checks, so that a request that is rejected with 403 is attributed to its caller.
                let caller = context.caller.get_or_init(|| caller);
                if let Some(project) = caller.project_id() {
                    let _ = context.project.set(project);
                }
                admit(caller, self.operation.policy, head.uri.path(), context.client)?;
                if self.operation.needs_recent_authentication {
                    require_recent_authentication(caller, self.authenticator.clock.now())?;
                }
                caller.project_id().map_or(Ok(()), |project| self.quota.require(project))?;
                rate_limit = self.limits.record_use(caller);
                rate_limit.as_ref().map_or(Ok(()), RateLimitStatus::require)?;
            }
            if self.operation.response.is_idempotent()
                && let Some(key) = idempotency_key(head)?
            {
                let write = IdempotentRequest::new(key, head.method.as_str(), head.uri.path());
                let _ = context.idempotent_request.set(write);
            }
            if self.operation.conditional
                && let Some(preconditions) = preconditions_of(&head.headers)?
            {
                let _ = context.preconditions.set(preconditions);
            }
            reject_unexpected_parameters(&self.operation, head)
        };
        match admitted() {
            Ok(()) => Admission::Admitted(rate_limit),
            Err(error) => Admission::Rejected(error, rate_limit),
        }
    }

    /// The error for a request without a well-formed credential.
    fn count_failure(&self, context: &RequestContext, error: Error) -> Error {
        // Limits guessing. A valid credential from the same address is not affected.
        if is_failure(error.code()) { self.limits.record_failure(context.client).err().unwrap_or(error) } else { error }
    }

    /// Runs a write in its own task. The write then always ends, committed or rolled back, and returns its connection
    /// clean, although hyper drops the response future when the client disconnects.
    async fn write(
        &self,
        (context, slot): WriteParts,
        future: impl Future<Output = std::result::Result<Response, Infallible>> + Send + 'static,
    ) -> Response {
        let work = async move {
            let response = future.await;
            if let Some(context) = context {
                context.wait_for_pending_task().await;
            }
            // Held as long as the work runs, even if no client waits for it.
            drop(slot);
            response
        };
        match self.writes.spawn(work).await {
            Ok(Ok(response)) => response,
            // A panic is logged in the same place as those of reads.
            Err(ended) => match ended.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(ended) => Error::internal(ended).into_response(),
            },
        }
    }

    /// State to retry a read, if it can fail because of the database.
    fn read_retry<S: Clone>(&self, inner: &S, head: &Parts) -> Option<Box<ReadRetry<S>>> {
        let reads_database = self.operation.policy != AccessPolicy::Public && self.operation.body.is_none();
        reads_database.then(|| Box::new(ReadRetry::new(inner, head, &self.authenticator.node.db)))
    }

    /// Runs a write, and retries it once if it failed only because of its connection.
    async fn write_with_retry<S>(self: &Arc<Self>, mut inner: S, head: Parts, body: Body) -> Response
    where
        S: Service<Request, Response = Response, Error = Infallible> + Send + 'static,
        S::Future: Send,
    {
        let (request, copy) = RequestCopy::tee(head, body);
        let response = self.write(write_parts(&copy), inner.call(request)).await;
        if !is_retryable(&self.authenticator.node.db, copy.context(), &response) {
            return response;
        }
        let response = self.write(write_parts(&copy), inner.call(copy.into_request())).await;
        is_retryable(&self.authenticator.node.db, None, &response);
        response
    }
}

/// Parts of a request that outlive it, until its write has ended.
type WriteParts = (Option<Arc<RequestContext>>, Option<Slot>);

fn write_parts(copy: &RequestCopy) -> WriteParts {
    (copy.context().cloned(), copy.slot())
}

fn context_of(head: &Parts) -> Result<&Arc<RequestContext>> {
    head.extensions.get().ok_or_else(|| Error::internal("a request without a context reached the gate"))
}

fn idempotency_key(head: &Parts) -> Result<Option<IdempotencyKey>> {
    let mut values = head.headers.get_all(&IDEMPOTENCY_KEY).iter();
    let (Some(value), other) = (values.next(), values.next()) else { return Ok(None) };
    let key = value.to_str().ok().and_then(IdempotencyKey::parse).filter(|_| other.is_none());
    key.map(Some).ok_or_else(|| {
        Error::new(
            Code::InvalidIdempotencyKey,
            "The Idempotency-Key must be 1 to 255 visible ASCII characters, bare or in quotes; send a UUID, for example",
        )
    })
}

impl<S> Layer<S> for GateLayer {
    type Service = Gate<S>;

    fn layer(&self, inner: S) -> Gate<S> {
        Gate { config: Arc::clone(&self.0), inner }
    }
}

/// The service that [`GateLayer`] creates.
#[derive(Clone, Debug)]
pub struct Gate<S> {
    config: Arc<GateConfig>,
    inner: S,
}

impl<S> Service<Request> for Gate<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response;
    type Error = Infallible;
    type Future = GateFuture<S>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<std::result::Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let (head, body) = request.into_parts();
        // An unexpected body is detected only when its first byte arrives or it ends.
        let may_have_unexpected_body = self.config.operation.body.is_none() && !body.is_end_stream();
        let uncached = match self.config.check(&head) {
            Admission::Rejected(error, rate_limit) => {
                return GateFuture::Rejected { rejection: Some((error, rate_limit)) };
            }
            // The path of most requests, without a boxed future.
            Admission::Admitted(rate_limit)
                if self.config.operation.is_read() && !may_have_unexpected_body && preconditions(&head).is_none() =>
            {
                let retry = self.config.read_retry(&self.inner, &head);
                return GateFuture::Read {
                    future: self.inner.call(Request::from_parts(head, body)),
                    rate_limit,
                    retry,
                };
            }
            Admission::Admitted(rate_limit) => Err(rate_limit),
            Admission::Uncached(secret, miss) => Ok((secret, miss)),
        };
        let config = Arc::clone(&self.config);
        // The service that is ready is used, and its clone is kept.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        GateFuture::Other {
            future: Box::pin(async move {
                let admission = match uncached {
                    Ok((secret, miss)) => config.check_uncached(&head, secret, miss).await,
                    Err(rate_limit) => Admission::Admitted(rate_limit),
                };
                let rate_limit = match admission {
                    Admission::Admitted(rate_limit) => rate_limit,
                    Admission::Rejected(error, rate_limit) => {
                        return with_rate_limit(error.into_response(), rate_limit);
                    }
                    Admission::Uncached(..) => {
                        return Error::internal("a database lookup returned no decision").into_response();
                    }
                };
                let body = match may_have_unexpected_body {
                    true => reject_unexpected_body(&config.operation, &head, body).await,
                    false => Ok(body),
                };
                let body = match body {
                    Ok(body) => body,
                    Err(error) => return with_rate_limit(error.into_response(), rate_limit),
                };
                if !config.operation.is_read() {
                    return with_rate_limit(config.write_with_retry(inner, head, body).await, rate_limit);
                }
                let preconditions = preconditions(&head).cloned();
                let retry = config.read_retry(&inner, &head);
                let future = inner.call(Request::from_parts(head, body));
                let Ok(response) = GateFuture::Read { future, rate_limit, retry }.await;
                match preconditions {
                    Some(preconditions) => precondition::apply(&preconditions, response),
                    None => response,
                }
            }),
        }
    }
}

fn preconditions(head: &Parts) -> Option<&Preconditions> {
    head.extensions.get::<Arc<RequestContext>>()?.preconditions.get()
}

fn with_rate_limit(mut response: Response, rate_limit: Option<RateLimitStatus>) -> Response {
    if let Some(rate_limit) = rate_limit {
        rate_limit.write(response.headers_mut());
    }
    response
}

pin_project! {
    /// A response future.
    #[project = GateFutureProject]
    #[allow(missing_docs, reason = "the macro takes no comments on fields")]
    pub enum GateFuture<S: Service<Request>> {
        /// Response to an admitted read.
        Read { #[pin] future: S::Future, rate_limit: Option<RateLimitStatus>, retry: Option<Box<ReadRetry<S>>> },
        /// Response to a rejected request.
        Rejected { rejection: Option<(Error, Option<RateLimitStatus>)> },
        /// Any other response.
        Other { future: Pin<Box<dyn Future<Output = Response> + Send>> },
    }
}

impl<S: Service<Request, Response = Response, Error = Infallible>> Future for GateFuture<S> {
    type Output = std::result::Result<Response, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(match self.project() {
            GateFutureProject::Read { mut future, rate_limit, retry } => loop {
                let Ok(response) = ready!(future.as_mut().poll(cx));
                match retry.take() {
                    Some(retry) if retry.should_retry(&response) => future.set(retry.send()),
                    _ => break with_rate_limit(response, rate_limit.take()),
                }
            },
            GateFutureProject::Rejected { rejection } => match rejection.take() {
                Some((error, rate_limit)) => with_rate_limit(error.into_response(), rate_limit),
                None => Error::internal("a response future was polled after completion").into_response(),
            },
            GateFutureProject::Other { future } => ready!(future.as_mut().poll(cx)),
        }))
    }
}
