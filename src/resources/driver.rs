//! What a provider must be able to do: one small trait, with neither SQL nor HTTP in it (docs/drivers.md).
//!
//! A driver keeps no state and promises little. Each call may be made twice, by two servers, or come to its provider
//! after the server that made it has died; the engine looks before it acts, and what it looks for are the tags
//! that every object carries. A driver never waits for an object to be ready: it says how the object stands, and is asked again.

use std::{collections::BTreeMap, fmt, pin::Pin, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{
    kind::{Kind, Power},
    spec::Spec,
};
use crate::base::id::{OperationId, ResourceId};

/// What a call to a provider gives, some time.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a call to a provider gives.
pub type Result<T> = std::result::Result<T, DriverError>;

/// A provider, as the engine sees it.
pub trait Driver: fmt::Debug + Send + Sync {
    /// What it can do.
    fn capabilities(&self) -> &Capabilities;

    /// What of `spec` it cannot do; nothing if it can do all of it. Asks nobody.
    fn validate(&self, spec: &Spec) -> Vec<Unsupported>;

    /// Makes an object, tagged with the order's tags, under the operation's id as client token: where the provider knows
    /// such tokens, a second call with the same one gives the first one's object.
    fn create<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<Object>>;

    /// How an object stands; none if there is none.
    fn read<'a>(&'a self, kind: Kind, reference: &'a str) -> BoxFuture<'a, Result<Option<Object>>>;

    /// Begins to make an object as `order` says, its tags included. May be called again while that goes on, and when it is
    /// done. Not for power, which is [`Driver::action`]'s.
    fn update<'a>(&'a self, reference: &'a str, order: &'a Order) -> BoxFuture<'a, Result<()>>;

    /// Does something to an object, or begins to. Turning on what is on is fine.
    fn action<'a>(&'a self, kind: Kind, reference: &'a str, action: Action) -> BoxFuture<'a, Result<()>>;

    /// Begins to delete an object. That there is none is fine.
    fn delete<'a>(&'a self, kind: Kind, reference: &'a str) -> BoxFuture<'a, Result<()>>;

    /// A page of objects, in any order that does not change between pages.
    fn list_owned<'a>(&'a self, query: &'a ListQuery) -> BoxFuture<'a, Result<ObjectPage>>;
}

/// What a provider can do.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Capabilities {
    /// Whether it only plays at being a provider.
    pub simulated: bool,
    /// Whether objects that were made elsewhere can be imported.
    pub import: bool,
    /// What it can do with each kind that it has.
    pub kinds: Vec<KindCapabilities>,
}

impl Capabilities {
    /// What it can do with `kind`; none if it has none of it.
    pub fn of(&self, kind: Kind) -> Option<&KindCapabilities> {
        self.kinds.iter().find(|capabilities| capabilities.kind == kind)
    }
}

/// What a provider can do with one kind of resource.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct KindCapabilities {
    /// The kind.
    pub kind: Kind,
    /// What can be done to one besides changing it.
    pub actions: Vec<ActionType>,
    /// Which members of its spec can be changed later.
    pub updatable: Vec<&'static str>,
    /// The words for sizes that there are.
    pub sizes: Vec<String>,
    /// The words for images that there are.
    pub images: Vec<String>,
    /// Whether sizes and images can also be named in the provider's own terms.
    pub native_terms: bool,
}

/// What can be done to a resource besides changing its spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum ActionType {
    /// Turn it on.
    Start,
    /// Turn it off.
    Stop,
    /// Turn it off and on again.
    Reboot,
    /// Attach a volume.
    Attach,
    /// Detach a volume.
    Detach,
    /// Give it another size.
    Resize,
}

/// What a driver does to an object itself; all else is a change of its spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Turns it on, or off.
    Power(Power),
    /// Turns it off and on again.
    Reboot,
}

/// Something that a provider cannot do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    /// The member of the spec that asks for it.
    pub member: &'static str,
    /// What it cannot do and what it can.
    pub detail: String,
}

/// Whose an object is. Every object that a driver makes carries them, in whatever way its provider tags things, beside
/// the provider's name in the operator's file: two deployments in one account never touch each other's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tags {
    /// The deployment: the id of its database.
    pub deployment: Uuid,
    /// The resource.
    pub resource: ResourceId,
}

/// What an object shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Whose it is.
    pub tags: Tags,
    /// The operation on whose behalf: the client token.
    pub operation: OperationId,
    /// What people call it.
    pub name: String,
    /// The client's own tags.
    pub labels: BTreeMap<String, String>,
    /// What it shall be, in the provider's own references.
    pub spec: Spec<String>,
}

/// Which objects to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListQuery {
    /// Of which kind.
    pub kind: Kind,
    /// Of which deployment.
    pub deployment: Uuid,
    /// Whose.
    pub of: Owned,
    /// Where to go on, as the page before has said.
    pub page: Option<String>,
}

/// Whose objects to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owned {
    /// Those of all resources.
    All,
    /// Those of one.
    Of(ResourceId),
    /// Those of no deployment's.
    Nobody,
}

/// A page of objects.
#[derive(Clone, Debug, Default)]
pub struct ObjectPage {
    /// The objects.
    pub objects: Vec<Object>,
    /// Where the next page begins; none after the last one.
    pub next: Option<String>,
}

/// A thing at a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// The provider's own name for it.
    pub reference: String,
    /// Whose it is, if it is any deployment's.
    pub tags: Option<Tags>,
    /// How it stands.
    pub state: ObjectState,
    /// Whether it runs; none for what cannot, and while that changes.
    pub power: Option<Power>,
    /// What it is.
    pub spec: Spec<String>,
    /// What else is to be known of it: addresses and the like. Never a secret.
    pub outputs: Map<String, Value>,
    /// Why it failed, if it did.
    pub reason: Option<String>,
}

/// How an object stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectState {
    /// It is being made or changed.
    Busy,
    /// It is there.
    Ready,
    /// It is of no use any more.
    Failed,
    /// It is on its way out.
    Deleting,
}

/// Why a provider did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct DriverError {
    /// What that means for the engine.
    pub kind: Refusal,
    /// The provider's own word for it, or one of ours.
    pub code: String,
    /// What happened, for people. Never a secret.
    pub message: String,
}

/// What an error means for the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It may be done next time: the provider was busy, or its answer was lost, so that it may even have been done.
    Retryable {
        /// The earliest time, if the provider has said so.
        after: Option<Duration>,
    },
    /// It can never be done so.
    Invalid,
    /// The operator's credentials do not allow it.
    Denied,
    /// What it was about is not there.
    NotFound,
    /// Something else is in the way, which may go.
    Conflict,
    /// The provider gives no more of it to this account.
    Exhausted,
    /// The provider has none of it at the moment.
    NoCapacity,
    /// The provider protects the object against it. Somebody has to lift that first.
    Protected,
}

impl Refusal {
    /// The word for it in a failed operation.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retryable { .. } => "provider_unavailable",
            Self::Invalid => "invalid",
            Self::Denied => "denied",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            // To a client, it makes no difference whose limit it is.
            Self::Exhausted | Self::NoCapacity => "exhausted",
            Self::Protected => "protected",
        }
    }
}

impl DriverError {
    /// An error that means `kind`.
    pub fn new(kind: Refusal, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind, code: code.into(), message: message.into() }
    }

    /// One after which it should be tried again.
    pub fn retryable(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Refusal::Retryable { after: None }, code, message)
    }
}
