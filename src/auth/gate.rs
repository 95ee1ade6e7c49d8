//! The gate in front of every handler: establishes who calls and whether their kind of credential
//! and its scopes will do, in the contract's order, before anything of the request is read.

use std::{
    convert::Infallible,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    body::HttpBody,
    extract::Request,
    http::{HeaderName, request::Parts},
    response::{IntoResponse, Response},
};
use tokio_util::task::TaskTracker;
use tower::{Layer, Service};

use super::{
    bearer::Authenticator,
    limits::{Limits, Standing},
};
use crate::{
    base::{
        caller::Caller,
        error::{Code, Error, Result},
        intent::{IdempotencyKey, Intent},
        need::{Itself, Need},
        request::RequestContext,
        secret::SecretKind,
        tenant::ProjectStatus,
    },
    http::{describe::Operation, extract::refuse_strays, load::Slot},
};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The layer for one route.
#[derive(Clone, Debug)]
pub struct GateLayer(Arc<Rules>);

/// What a gate goes by.
#[derive(Debug)]
struct Rules {
    operation: Arc<Operation>,
    authenticator: Authenticator,
    limits: Arc<Limits>,
    writes: TaskTracker,
}

impl GateLayer {
    /// The gate that `operation` asks for. Writes are done in tasks of `writes`.
    pub fn new(
        operation: Arc<Operation>,
        authenticator: Authenticator,
        limits: Arc<Limits>,
        writes: TaskTracker,
    ) -> Self {
        Self(Arc::new(Rules { operation, authenticator, limits, writes }))
    }
}

impl Rules {
    /// Whether the request may pass. `standing` is set where a rate limit applies.
    async fn check(&self, head: &Parts, has_body: bool, standing: &mut Option<Standing>) -> Result<()> {
        let context: &Arc<RequestContext> =
            head.extensions.get().ok_or_else(|| Error::internal("a request without a context reached the gate"))?;
        let _ = context.route.set(self.operation.path);
        match self.operation.need {
            Need::Public => {}
            Need::SignIn => self.limits.sign_in_from(context.client)?,
            Need::Session | Need::Scoped { .. } => {
                let caller = self.authenticate(context, head).await?;
                admit(caller, self.operation.need, head.uri.path(), context.client)?;
                *standing = self.limits.use_of(caller);
                standing.as_ref().map_or(Ok(()), Standing::require)?;
            }
        }
        if self.operation.answer.once
            && let Some(key) = idempotency_key(head)?
        {
            let intent = Intent::new(key, head.method.as_str(), head.uri.path(), head.uri.query().unwrap_or_default());
            let _ = context.intent.set(intent);
        }
        refuse_strays(&self.operation, head, has_body)
    }

    /// Lets a handler do its work. A read ends when its client goes: hyper drops what it is waiting for. A write
    /// comes to its end in a task of its own, committed or not at all, and gives its connection back clean.
    async fn run(
        &self,
        slot: Option<Slot>,
        answer: impl Future<Output = std::result::Result<Response, Infallible>> + Send + 'static,
    ) -> Response {
        if self.operation.is_read() {
            let Ok(response) = answer.await;
            return response;
        }
        let work = async move {
            let answer = answer.await;
            // Taken for as long as there is work, whether or not somebody waits for it.
            drop(slot);
            answer
        };
        match self.writes.spawn(work).await {
            Ok(Ok(response)) => response,
            // Its panic is told where those of reads are.
            Err(ended) => match ended.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(ended) => Error::internal(ended).into_response(),
            },
        }
    }

    async fn authenticate<'a>(&self, context: &'a RequestContext, head: &Parts) -> Result<&'a Caller> {
        let caller = match self.authenticator.authenticate(&head.headers).await {
            Ok((caller, secret)) => {
                let _ = context.secret.set(secret);
                caller
            }
            Err(error) => {
                // Guessing is bounded; a valid credential from the same address is not held up by it.
                if is_failed_authentication(&error) {
                    self.limits.failure_from(context.client)?;
                }
                return Err(error);
            }
        };
        // Set before it is judged: what is refused with 403 was asked by somebody.
        let caller = context.caller.get_or_init(|| caller);
        if let Some(project) = caller.project_id() {
            let _ = context.project.set(project);
        }
        Ok(caller)
    }
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

fn is_failed_authentication(error: &Error) -> bool {
    matches!(error.code(), Code::MissingCredentials | Code::InvalidToken | Code::TokenExpired | Code::TokenRevoked)
}

/// Whether `caller` may call at all. What a session may do depends on the project, which is not
/// known yet; the handler's grant asks for it.
fn admit(caller: &Caller, need: Need, path: &str, client: Option<IpAddr>) -> Result<()> {
    if !need.kinds().contains(&caller.kind()) {
        return Err(Error::new(
            Code::CredentialKindNotAllowed,
            format!("This cannot be done with a {}; use a {}", kind_name(caller.kind()), kind_names(need.kinds())),
        ));
    }
    if !caller.bounds().is_none_or(|bounds| bounds.allow(client)) {
        let from = client.map_or_else(|| "an unknown address".to_owned(), |address| address.to_string());
        return Err(Error::new(
            Code::IpNotAllowed,
            format!(
                "This credential may not be used from {from}; use it from one of its key's allowed_ips, or have those changed"
            ),
        ));
    }
    require_active(caller)?;
    let Need::Scoped { scope, itself, .. } = need else { return Ok(()) };
    let scopes = match caller {
        Caller::Session { .. } => return Ok(()),
        Caller::Key { scopes, .. } | Caller::Token { scopes, .. } => scopes,
    };
    let names_itself = || path.split('/').any(|segment| segment == caller.credential_id());
    match itself {
        Itself::WithoutScope if names_itself() => Ok(()),
        Itself::KeyOnlyItself if names_itself() => Ok(()),
        Itself::KeyOnlyItself => Err(Error::new(
            Code::CredentialKindNotAllowed,
            "A key can do this to itself only; name its own id, or use a session (sess_…)",
        )),
        _ if scopes.contains(scope) => Ok(()),
        _ => Err(insufficient_scope(scope)),
    }
}

/// A project that is not active has no working key or token.
fn require_active(caller: &Caller) -> Result<()> {
    let (code, status) = match caller.project_status() {
        None | Some(ProjectStatus::Active) => return Ok(()),
        Some(status @ ProjectStatus::Suspended) => (Code::ProjectSuspended, status),
        Some(status @ ProjectStatus::Archived) => (Code::ProjectArchived, status),
    };
    let status = status.as_str();
    Err(Error::new(
        code,
        format!("The project is {status}, so its keys and tokens do not work; an owner can resume it"),
    ))
}

/// The refusal of a credential that lacks `scope`.
pub fn insufficient_scope(scope: crate::base::scope::Scope) -> Error {
    Error::new(
        Code::InsufficientScope,
        format!("This needs the scope '{scope}', which your credential does not have here; use one that has it"),
    )
    .needing(scope)
}

fn kind_name(kind: SecretKind) -> &'static str {
    match kind {
        SecretKind::Session => "session (sess_…)",
        SecretKind::Key => "key (sk_live_…)",
        SecretKind::Token => "token (cap_…)",
        SecretKind::Invitation => "invitation (inv_…)",
    }
}

fn kind_names(kinds: &[SecretKind]) -> String {
    kinds.iter().copied().map(kind_name).collect::<Vec<_>>().join(" or a ")
}

impl<S> Layer<S> for GateLayer {
    type Service = Gate<S>;

    fn layer(&self, inner: S) -> Gate<S> {
        Gate { rules: Arc::clone(&self.0), inner }
    }
}

/// The service that [`GateLayer`] makes.
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
    type Future = Pin<Box<dyn Future<Output = std::result::Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<std::result::Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let rules = Arc::clone(&self.rules);
        // The one that is ready goes, its clone stays.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        Box::pin(async move {
            let has_body = !request.body().is_end_stream();
            let (head, body) = request.into_parts();
            let slot = head.extensions.get::<Slot>().cloned();
            let mut standing = None;
            let mut response = match rules.check(&head, has_body, &mut standing).await {
                Ok(()) => rules.run(slot, inner.call(Request::from_parts(head, body))).await,
                Err(error) => error.into_response(),
            };
            if let Some(standing) = standing {
                standing.write(response.headers_mut());
            }
            Ok(response)
        })
    }
}
