//! The gate in front of every handler: authenticates the caller and checks the kind of credential and its scopes, in the
//! order of the API contract, before any of the body is read.

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
    admission::admit,
    again::{Again, Copy, is_curable},
    bearer::{Authenticator, Look, bearer_secret},
    limits::{Limits, Standing},
    lookup_limits::is_failure,
};
use crate::{
    base::{
        caller::Caller,
        error::{Code, Error, Result},
        etag::Conditions,
        intent::{IdempotencyKey, Intent},
        need::Need,
        request::{RequestContext, Route},
        secret::Secret,
    },
    http::{
        condition::{self, conditions_of},
        describe::Operation,
        extract::refuse_stray_parameters,
        load::Slot,
        reading::refuse_stray_body,
    },
    usage::quota::Quota,
};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Layer for one route.
#[derive(Clone, Debug)]
pub struct GateLayer(Arc<Rules>);

/// Configuration of a gate.
#[derive(Debug)]
struct Rules {
    operation: Arc<Operation>,
    route: Route,
    authenticator: Authenticator,
    limits: Arc<Limits>,
    quota: Arc<Quota>,
    writes: TaskTracker,
}

impl GateLayer {
    /// The gate for `operation`. Writes run in tasks of `writes`.
    pub fn new(
        operation: Arc<Operation>,
        authenticator: Authenticator,
        limits: Arc<Limits>,
        quota: Arc<Quota>,
        writes: TaskTracker,
    ) -> Self {
        let route = operation.route();
        Self(Arc::new(Rules { operation, route, authenticator, limits, quota, writes }))
    }
}

/// Result of checking a request.
enum Judged {
    /// The request is admitted. With the state of the rate limit, if one applies.
    Passed(Option<Standing>),
    /// The request is rejected.
    Refused(Error, Option<Standing>),
    /// The credential is not cached.
    Unknown(Secret, Look),
}

impl Rules {
    /// Checks a request as far as possible without waiting. For a cached credential, the check is complete.
    fn judge(&self, head: &Parts) -> Judged {
        let judged = || -> Result<Judged> {
            let context = context_of(head)?;
            let _ = context.route.set(self.route);
            match self.operation.need {
                Need::Public => {}
                Need::SignIn => self.limits.sign_in_from(context.client)?,
                Need::Session | Need::Scoped { .. } => {
                    let secret = bearer_secret(&head.headers).map_err(|error| self.failed(context, error))?;
                    return Ok(match self.authenticator.cached(&secret) {
                        Ok(caller) => self.admit(context, head, Some((caller, secret))),
                        Err(look) => Judged::Unknown(secret, look),
                    });
                }
            }
            Ok(self.admit(context, head, None))
        };
        judged().unwrap_or_else(|error| Judged::Refused(error, None))
    }

    /// Continues with a request whose credential has to be read from the database.
    async fn judge_unknown(&self, head: &Parts, secret: Secret, look: Look) -> Judged {
        let judged = async {
            let context = context_of(head)?;
            let caller = self.limits.look_up(&self.authenticator, &secret, look, context.client).await?;
            Ok(self.admit(context, head, Some((caller, secret))))
        };
        judged.await.unwrap_or_else(|error| Judged::Refused(error, None))
    }

    /// The checks that follow authentication.
    fn admit(&self, context: &RequestContext, head: &Parts, shown: Option<(Arc<Caller>, Secret)>) -> Judged {
        let mut standing = None;
        let admitted = || -> Result<()> {
            if let Some((caller, secret)) = shown {
                let _ = context.secret.set(secret);
                // Set before the checks, so that a request that is rejected with 403 is attributed to its caller.
                let caller = context.caller.get_or_init(|| caller);
                if let Some(project) = caller.project_id() {
                    let _ = context.project.set(project);
                }
                admit(caller, self.operation.need, head.uri.path(), context.client)?;
                caller.project_id().map_or(Ok(()), |project| self.quota.require(project))?;
                standing = self.limits.use_of(caller);
                standing.as_ref().map_or(Ok(()), Standing::require)?;
            }
            if self.operation.answer.once
                && let Some(key) = idempotency_key(head)?
            {
                let query = head.uri.query().unwrap_or_default();
                let _ = context.intent.set(Intent::new(key, head.method.as_str(), head.uri.path(), query));
            }
            if self.operation.conditional
                && let Some(conditions) = conditions_of(&head.headers)?
            {
                let _ = context.conditions.set(conditions);
            }
            refuse_stray_parameters(&self.operation, head)
        };
        match admitted() {
            Ok(()) => Judged::Passed(standing),
            Err(error) => Judged::Refused(error, standing),
        }
    }

    /// The error for a request without a well-formed credential.
    fn failed(&self, context: &RequestContext, error: Error) -> Error {
        // Limits guessing. A valid credential from the same address is not affected.
        if is_failure(error.code()) { self.limits.failure_from(context.client).err().unwrap_or(error) } else { error }
    }

    /// Runs a write in its own task. The write then always ends, committed or rolled back, and returns its connection
    /// clean, although hyper drops the response future when the client disconnects.
    async fn write(
        &self,
        (context, slot): Kept,
        answer: impl Future<Output = std::result::Result<Response, Infallible>> + Send + 'static,
    ) -> Response {
        let work = async move {
            let answer = answer.await;
            if let Some(context) = context {
                context.settled().await;
            }
            // Held as long as the work runs, even if no client waits for it.
            drop(slot);
            answer
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
    fn again<S: Clone>(&self, inner: &S, head: &Parts) -> Option<Box<Again<S>>> {
        let reads_database = self.operation.need != Need::Public && self.operation.body.is_none();
        reads_database.then(|| Box::new(Again::new(inner, head, &self.authenticator.node.db)))
    }

    /// Runs a write, and retries it once if it failed only because of its connection.
    async fn write_again<S>(self: &Arc<Self>, mut inner: S, head: Parts, body: Body) -> Response
    where
        S: Service<Request, Response = Response, Error = Infallible> + Send + 'static,
        S::Future: Send,
    {
        let (request, copy) = Copy::of(head, body);
        let response = self.write(kept(&copy), inner.call(request)).await;
        if !is_curable(&self.authenticator.node.db, copy.context(), &response) {
            return response;
        }
        let response = self.write(kept(&copy), inner.call(copy.into_request())).await;
        is_curable(&self.authenticator.node.db, None, &response);
        response
    }
}

/// Parts of a request that outlive it, until its write has ended.
type Kept = (Option<Arc<RequestContext>>, Option<Slot>);

fn kept(copy: &Copy) -> Kept {
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
        Gate { rules: Arc::clone(&self.0), inner }
    }
}

/// The service that [`GateLayer`] creates.
#[derive(Clone, Debug)]
pub struct Gate<S> {
    rules: Arc<Rules>,
    inner: S,
}

impl<S> Service<Request> for Gate<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Gated<S>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<std::result::Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let (head, body) = request.into_parts();
        // An unexpected body is detected only when its first byte arrives or it ends.
        let may_have_stray_body = self.rules.operation.body.is_none() && !body.is_end_stream();
        let unknown = match self.rules.judge(&head) {
            Judged::Refused(error, standing) => return Gated::Refused { answer: Some((error, standing)) },
            // The path of most requests, without a boxed future.
            Judged::Passed(standing)
                if self.rules.operation.is_read() && !may_have_stray_body && conditions(&head).is_none() =>
            {
                let again = self.rules.again(&self.inner, &head);
                return Gated::Read { answer: self.inner.call(Request::from_parts(head, body)), standing, again };
            }
            Judged::Passed(standing) => Err(standing),
            Judged::Unknown(secret, look) => Ok((secret, look)),
        };
        let rules = Arc::clone(&self.rules);
        // The service that is ready is used, and its clone is kept.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        Gated::Other {
            answer: Box::pin(async move {
                let judged = match unknown {
                    Ok((secret, look)) => rules.judge_unknown(&head, secret, look).await,
                    Err(standing) => Judged::Passed(standing),
                };
                let standing = match judged {
                    Judged::Passed(standing) => standing,
                    Judged::Refused(error, standing) => return with_standing(error.into_response(), standing),
                    Judged::Unknown(..) => {
                        return Error::internal("a database lookup returned no decision").into_response();
                    }
                };
                let body = match may_have_stray_body {
                    true => refuse_stray_body(&rules.operation, &head, body).await,
                    false => Ok(body),
                };
                let body = match body {
                    Ok(body) => body,
                    Err(error) => return with_standing(error.into_response(), standing),
                };
                if !rules.operation.is_read() {
                    return with_standing(rules.write_again(inner, head, body).await, standing);
                }
                let conditions = conditions(&head).cloned();
                let again = rules.again(&inner, &head);
                let answer = inner.call(Request::from_parts(head, body));
                let Ok(response) = Gated::Read { answer, standing, again }.await;
                match conditions {
                    Some(conditions) => condition::apply(&conditions, response),
                    None => response,
                }
            }),
        }
    }
}

fn conditions(head: &Parts) -> Option<&Conditions> {
    head.extensions.get::<Arc<RequestContext>>()?.conditions.get()
}

fn with_standing(mut response: Response, standing: Option<Standing>) -> Response {
    if let Some(standing) = standing {
        standing.write(response.headers_mut());
    }
    response
}

pin_project! {
    /// A response future.
    #[project = GatedProject]
    #[allow(missing_docs, reason = "the macro takes no comments on fields")]
    pub enum Gated<S: Service<Request>> {
        /// Response to an admitted read.
        Read { #[pin] answer: S::Future, standing: Option<Standing>, again: Option<Box<Again<S>>> },
        /// Response to a rejected request.
        Refused { answer: Option<(Error, Option<Standing>)> },
        /// Any other response.
        Other { answer: Pin<Box<dyn Future<Output = Response> + Send>> },
    }
}

impl<S: Service<Request, Response = Response, Error = Infallible>> Future for Gated<S> {
    type Output = std::result::Result<Response, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(match self.project() {
            GatedProject::Read { mut answer, standing, again } => loop {
                let Ok(response) = ready!(answer.as_mut().poll(cx));
                match again.take() {
                    Some(again) if again.is_of_use(&response) => answer.set(again.send()),
                    _ => break with_standing(response, standing.take()),
                }
            },
            GatedProject::Refused { answer } => match answer.take() {
                Some((error, standing)) => with_standing(error.into_response(), standing),
                None => Error::internal("a response future was polled after completion").into_response(),
            },
            GatedProject::Other { answer } => ready!(answer.as_mut().poll(cx)),
        }))
    }
}
