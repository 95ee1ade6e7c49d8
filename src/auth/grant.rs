//! First arguments of handlers. Each type states who may call, and its value proves that the caller may.
//!
//! The route table takes the access policy from the type, and the gate enforces it. A handler without such an argument
//! does not compile:
//!
//! ```compile_fail,E0277
//! use axum::extract::State;
//! use cloudapi::{base::error::Result, http::{api::Api, response::Json}, server::state::App};
//!
//! async fn open_to_all(State(_app): State<App>) -> Result<Json<String>> {
//!     Ok(Json("all keys".to_owned()))
//! }
//!
//! let table: Api<App> = Api::new().get("/v1/leak", open_to_all, "List all keys");
//! ```
//!
//! With a grant as its first argument, the handler compiles:
//!
//! ```
//! use axum::extract::State;
//! use cloudapi::{auth::grant::Grant, base::{error::Result, identity::scope::of}};
//! use cloudapi::{http::{api::Api, response::Json}, server::state::App};
//!
//! async fn guarded(_grant: Grant<of::KeysRead>, State(_app): State<App>) -> Result<Json<String>> {
//!     Ok(Json("your keys".to_owned()))
//! }
//!
//! let table: Api<App> = Api::new().get("/v1/keep", guarded, "List your keys");
//! ```

use std::{marker::PhantomData, sync::Arc};

use axum::{
    extract::{FromRef, FromRequestParts},
    http::request::Parts,
};
use futures_util::FutureExt;
use sqlx::PgConnection;

use super::{bearer::Authenticator, revocation::node::Node, watch::AccessWatch};
use crate::{
    auth::credentials::members,
    base::{
        error::{Code, Error, Result},
        id::{Id, ProjectId, SessionId, UserId},
        identity::{
            access_policy::{ANY_KIND, AccessPolicy, SelfAccess},
            caller::Caller,
            role::Role,
            scope::ScopeType,
            secret::SecretKind,
            tenant::{Membership, Tenant},
        },
        runtime::request::RequestContext,
    },
    db::{Call, Pool, ProjectItem},
    http::describe::Access,
};

/// Kinds of credential that may call.
pub trait CallerPolicy: Send + Sync + 'static {
    /// Accepted kinds.
    const KINDS: &'static [SecretKind];
    /// Rule for a credential that acts on itself.
    const SELF_ACCESS: SelfAccess = SelfAccess::Standard;
    /// Whether the caller must be an owner of the project.
    const OWNER: bool = false;
}

/// A session, a key or a token.
#[derive(Debug)]
pub enum AnyCredential {}
impl CallerPolicy for AnyCredential {
    const KINDS: &'static [SecretKind] = ANY_KIND;
}

/// A session, a key or a token. A credential without the scope may still act on itself.
#[derive(Debug)]
pub enum AnyCredentialOrSelf {}
impl CallerPolicy for AnyCredentialOrSelf {
    const KINDS: &'static [SecretKind] = ANY_KIND;
    const SELF_ACCESS: SelfAccess = SelfAccess::ScopeNotRequired;
}

/// A session, or a key that acts on itself.
#[derive(Debug)]
pub enum SessionOrKeySelf {}
impl CallerPolicy for SessionOrKeySelf {
    const KINDS: &'static [SecretKind] = &[SecretKind::Session, SecretKind::Key];
    const SELF_ACCESS: SelfAccess = SelfAccess::KeySelfOnly;
}

/// A key or a token.
#[derive(Debug)]
pub enum KeyOrToken {}
impl CallerPolicy for KeyOrToken {
    const KINDS: &'static [SecretKind] = &[SecretKind::Key, SecretKind::Token];
}

/// A session or a key.
#[derive(Debug)]
pub enum SessionOrKey {}
impl CallerPolicy for SessionOrKey {
    const KINDS: &'static [SecretKind] = &[SecretKind::Session, SecretKind::Key];
}

/// A session of one of the project's owners.
#[derive(Debug)]
pub enum OwnerOnly {}
impl CallerPolicy for OwnerOnly {
    const KINDS: &'static [SecretKind] = &[SecretKind::Session];
    const OWNER: bool = true;
}

/// A session only.
#[derive(Debug)]
pub enum SessionOnly {}
impl CallerPolicy for SessionOnly {
    const KINDS: &'static [SecretKind] = &[SecretKind::Session];
}

/// Proof that the caller's kind is one of `W`'s, and that a key or token has `S`. The roles of a session differ by
/// project, so it has `S` only in a project that [`Grant::in_project`] admits it to. If `S` stands for several scopes,
/// the handler calls [`Tenant::require`] for the needed one once the target is known.
#[derive(Debug)]
pub struct Grant<S, W = AnyCredential> {
    request: Arc<RequestContext>,
    caller: Arc<Caller>,
    /// Verifies a session's membership. None for a key or token.
    node: Option<Arc<Node>>,
    policy: PhantomData<fn() -> (S, W)>,
}

impl<S: ScopeType, W: CallerPolicy> Access for Grant<S, W> {
    const POLICY: AccessPolicy =
        AccessPolicy::Scoped { scopes: S::SCOPES, kinds: W::KINDS, self_access: W::SELF_ACCESS, owner: W::OWNER };
}

impl<S: ScopeType, W: CallerPolicy, St: Sync> FromRequestParts<St> for Grant<S, W>
where
    Arc<Node>: FromRef<St>,
{
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &St) -> Result<Self> {
        let (request, caller) = authenticated_caller(parts)?;
        let node = matches!(*caller, Caller::Session { .. }).then(|| Arc::from_ref(state));
        Ok(Self { request, caller, node, policy: PhantomData })
    }
}

impl<S: ScopeType, W: CallerPolicy> Grant<S, W> {
    /// The request.
    pub fn request(&self) -> &Arc<RequestContext> {
        &self.request
    }

    /// The authenticated caller.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Admits the caller to a project: a session to the project that it names, a key or token to its own project, which
    /// it may name too. Any other project is not found. `db` must not be in a transaction: if it leads to another
    /// PostgreSQL server than the node's heartbeats, it is replaced by a new connection.
    pub async fn in_project(&self, db: &mut PgConnection, named: Option<&str>) -> Result<Tenant> {
        self.authorize(db, named, false).await
    }

    /// Like [`Grant::in_project`], on a connection that is used only if the caller is a session.
    pub async fn in_project_on(&self, pool: &Pool, named: Option<&str>) -> Result<Tenant> {
        match self.in_own_project(named)? {
            Some(tenant) => Ok(tenant),
            None => self.in_project(&mut *pool.acquire().await?, named).await,
        }
    }

    /// Like [`Grant::in_project`], for a write. The membership is locked until the transaction of `db` ends, so a role
    /// that was just removed cannot be used.
    pub async fn in_project_for_write(&self, db: &mut PgConnection, named: Option<&str>) -> Result<Tenant> {
        self.authorize(db, named, true).await
    }

    /// Admits a key or token to its own project, which it may name, without a database query. None for a session.
    pub fn in_own_project(&self, named: Option<&str>) -> Result<Option<Tenant>> {
        match &*self.caller {
            Caller::Session { .. } => Ok(None),
            Caller::Key { project_id, scopes, .. } | Caller::Token { project_id, scopes, .. } => {
                let is_own = named.is_none_or(|named| named.parse() == Ok(*project_id));
                is_own.then(|| Some(Tenant::from_credential(*project_id, *scopes))).ok_or_else(Error::not_found)
            }
        }
    }

    /// Makes `call` conditional on the membership that admitted the caller to `tenant`, if it was a membership: a role
    /// that was removed since cannot be used.
    pub fn require_still(&self, tenant: Tenant, call: Call) -> Call {
        match (&*self.caller, tenant.membership()) {
            (Caller::Session { user_id, .. }, Some(Membership { role, .. })) => {
                call.check_with("require_membership", |call| call.bind(tenant.project_id()).bind(*user_id).bind(role))
            }
            _ => call,
        }
    }

    /// Admits the caller to the project that `item` belongs to. A key or token stays in its own project, where it
    /// does not find items of other projects.
    pub async fn in_project_of<K: ProjectItem>(&self, db: &mut PgConnection, item: Id<K>) -> Result<Tenant> {
        let owner = self.find_project_of(db, item).await?;
        self.in_project(db, owner.as_deref()).await
    }

    /// Like [`Grant::in_project_of`], for a write.
    pub async fn in_project_of_for_write<K: ProjectItem>(&self, db: &mut PgConnection, item: Id<K>) -> Result<Tenant> {
        let owner = self.find_project_of(db, item).await?;
        self.in_project_for_write(db, owner.as_deref()).await
    }

    /// A watch that checks, while a response is streamed, whether the caller may still access the project.
    pub fn watch(&self, authenticator: &Authenticator, tenant: Tenant) -> AccessWatch {
        AccessWatch::new(authenticator, &self.request, (S::SCOPES, Self::POLICY), tenant.project_id())
    }

    async fn find_project_of<K: ProjectItem>(&self, db: &mut PgConnection, item: Id<K>) -> Result<Option<String>> {
        if self.caller.project_id().is_some() {
            return Ok(None);
        }
        let owner: Option<ProjectId> = sqlx::query_scalar(K::PROJECT_OF).bind(item).fetch_optional(db).await?;
        Ok(Some(owner.ok_or_else(Error::not_found)?.to_string()))
    }

    async fn authorize(&self, db: &mut PgConnection, named: Option<&str>, for_write: bool) -> Result<Tenant> {
        if let Some(tenant) = self.in_own_project(named)? {
            return Ok(tenant);
        }
        let named: Option<ProjectId> = named.map(|id| id.parse().unwrap_or(Id::NIL));
        match &*self.caller {
            Caller::Session { user_id, .. } => {
                let project = named.ok_or_else(|| {
                    Error::new(
                        Code::ProjectRequired,
                        "A session has access to several projects; name one as 'project_id', in the body of a POST, otherwise in the query string",
                    )
                })?;
                let node = self.node.as_deref().ok_or_else(|| Error::internal("a session's grant without a node"))?;
                let membership =
                    membership(node, db, project, *user_id, for_write).await?.ok_or_else(Error::not_found)?;
                let _ = self.request.project.set(project);
                let tenant = Tenant::from_membership(project, membership);
                if !tenant.scopes().contains_any(S::SCOPES) {
                    return Err(Error::insufficient_scope(S::SCOPES));
                }
                if W::OWNER && membership.role != Role::Owner {
                    return Err(Error::new(
                        Code::InsufficientScope,
                        format!(
                            "Only an owner of the project may do this, and your role is {}; ask an owner",
                            membership.role
                        ),
                    ));
                }
                Ok(tenant)
            }
            Caller::Key { .. } | Caller::Token { .. } => {
                Err(Error::internal("a key or token reached the session branch"))
            }
        }
    }
}

/// A user's membership in a project, read from the PostgreSQL server of the node's heartbeats.
async fn membership(
    node: &Node,
    db: &mut PgConnection,
    project: ProjectId,
    user: UserId,
    for_write: bool,
) -> Result<Option<Membership>> {
    if for_write {
        let read =
            node.read_verified_in_transaction(db, move |db| members::lock_membership_of(db, project, user).boxed());
        return read.await.map(|read| read.value);
    }
    node.read_verified_on(db, move |db| members::membership_of(db, project, user).boxed()).await
}

/// A session, with any role.
#[derive(Debug)]
pub struct Session {
    /// The request.
    pub request: Arc<RequestContext>,
    /// The session.
    pub id: SessionId,
    /// The session's user.
    pub user_id: UserId,
}

impl Access for Session {
    const POLICY: AccessPolicy = AccessPolicy::Session;
}

impl<St: Sync> FromRequestParts<St> for Session {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &St) -> Result<Self> {
        let (request, caller) = authenticated_caller(parts)?;
        match *caller {
            Caller::Session { id, user_id, .. } => Ok(Self { request, id, user_id }),
            _ => Err(Error::internal("the gate let a key or token through to a session's route")),
        }
    }
}

/// A client that signs in, rate limited by address.
#[derive(Debug)]
pub struct SignInClient {
    /// The request.
    pub request: Arc<RequestContext>,
}

impl Access for SignInClient {
    const POLICY: AccessPolicy = AccessPolicy::SignIn;
}

impl<St: Sync> FromRequestParts<St> for SignInClient {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &St) -> Result<Self> {
        context(parts).map(|request| Self { request })
    }
}

/// Any client, without a credential.
#[derive(Debug)]
pub struct Public {
    /// The request.
    pub request: Arc<RequestContext>,
}

impl Access for Public {
    const POLICY: AccessPolicy = AccessPolicy::Public;
}

impl<St: Sync> FromRequestParts<St> for Public {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &St) -> Result<Self> {
        context(parts).map(|request| Self { request })
    }
}

fn context(parts: &Parts) -> Result<Arc<RequestContext>> {
    parts.extensions.get().cloned().ok_or_else(|| Error::internal("a request without a context reached a handler"))
}

fn authenticated_caller(parts: &Parts) -> Result<(Arc<RequestContext>, Arc<Caller>)> {
    let request = context(parts)?;
    let caller = request.caller.get().cloned();
    let caller = caller.ok_or_else(|| Error::internal("a route that requires a credential is not behind the gate"))?;
    Ok((request, caller))
}
