//! The interface between the engine and a provider: one small trait without SQL or HTTP (docs/drivers.md).
//!
//! A driver keeps no state. Each call may be made twice, by two servers, or reach the provider after the server that
//! made it has died. The engine therefore checks before it acts, by the tags that every object carries. A driver never
//! waits until an object is ready: it reports the object's current state and is called again.

use std::{collections::BTreeMap, fmt, pin::Pin, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{
    base::id::{OperationId, ResourceId},
    resources::kinds::{Kind, Power, spec::Spec},
};

/// Future result of a call to a provider.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Result of a call to a provider.
pub type Result<T> = std::result::Result<T, DriverError>;

/// Provider, as the engine sees it.
pub trait Driver: fmt::Debug + Send + Sync {
    /// Capabilities of the provider.
    fn capabilities(&self) -> &Capabilities;

    /// The parts of `spec` that the provider does not support; empty if it supports all of them. Makes no call to the
    /// provider.
    fn validate(&self, spec: &Spec) -> Vec<Unsupported>;

    /// Creates an object with the order's tags. The operation's id is the client token: if the provider supports client
    /// tokens, a second call with the same token returns the object of the first call.
    fn create<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<Object>>;

    /// Reads the current state of an object; `None` if it does not exist.
    fn read<'a>(&'a self, kind: Kind, reference: &'a str) -> BoxFuture<'a, Result<Option<Object>>>;

    /// Starts to change an object to match `order`, including its tags. May be called again while the change is in
    /// progress and after it is complete. Does not change power; see [`Driver::action`].
    fn update<'a>(&'a self, reference: &'a str, order: &'a Order) -> BoxFuture<'a, Result<()>>;

    /// Executes an action on an object, or starts to. Turning on an object that is on is not an error.
    fn action<'a>(&'a self, kind: Kind, reference: &'a str, action: Action) -> BoxFuture<'a, Result<()>>;

    /// Starts to delete an object. A missing object is not an error.
    fn delete<'a>(&'a self, kind: Kind, reference: &'a str) -> BoxFuture<'a, Result<()>>;

    /// Returns a page of objects, in any order that is stable between pages.
    fn list_owned<'a>(&'a self, query: &'a ListQuery) -> BoxFuture<'a, Result<ObjectPage>>;
}

/// Capabilities of a provider.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Capabilities {
    /// Whether the provider is a simulation.
    pub simulated: bool,
    /// Whether the provider can import objects that were created elsewhere.
    pub import: bool,
    /// Capabilities for each supported kind.
    pub kinds: Vec<KindCapabilities>,
}

impl Capabilities {
    /// Capabilities for `kind`; `None` if the provider does not support it.
    pub fn of(&self, kind: Kind) -> Option<&KindCapabilities> {
        self.kinds.iter().find(|capabilities| capabilities.kind == kind)
    }
}

/// Capabilities of a provider for one kind of resource.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct KindCapabilities {
    /// Kind of the resource.
    pub kind: Kind,
    /// Supported actions.
    pub actions: Vec<ActionType>,
    /// Names of the spec members that can change after creation.
    pub updatable: Vec<&'static str>,
    /// Names of the available sizes.
    pub sizes: Vec<String>,
    /// Names of the available images.
    pub images: Vec<String>,
    /// Whether sizes and images can also be given as the provider's own identifiers.
    pub native_terms: bool,
}

/// Action on a resource, other than a change of its spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum ActionType {
    /// Turn on.
    Start,
    /// Turn off.
    Stop,
    /// Turn off and on again.
    Reboot,
    /// Attach a volume.
    Attach,
    /// Detach a volume.
    Detach,
    /// Change the size.
    Resize,
}

/// Action that a driver executes on an object. All other actions are changes of the spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Turn on or off.
    Power(Power),
    /// Turn off and on again.
    Reboot,
}

/// Part of a spec that a provider does not support.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    /// Spec member that needs the unsupported capability.
    pub member: &'static str,
    /// What the provider does not support, and what it supports.
    pub detail: String,
}

/// Owner of an object. A driver sets these tags on every object that it creates, as the provider's tags or labels,
/// together with the provider's configured name. They keep two deployments in one account from changing each other's
/// objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tags {
    /// Deployment: the id of its database.
    pub deployment: Uuid,
    /// Resource that owns the object.
    pub resource: ResourceId,
}

/// Desired state of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Owner of the object.
    pub tags: Tags,
    /// Operation that the call is part of; its id is the client token.
    pub operation: OperationId,
    /// Human-readable name.
    pub name: String,
    /// Labels of the resource.
    pub labels: BTreeMap<String, String>,
    /// Desired spec, with the provider's own references.
    pub spec: Spec<String>,
}

/// Filter and position of a list of objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListQuery {
    /// Kind of the objects.
    pub kind: Kind,
    /// Deployment that owns the objects.
    pub deployment: Uuid,
    /// Owners to include.
    pub owner: OwnerFilter,
    /// Cursor from the previous page; `None` for the first page.
    pub cursor: Option<String>,
}

/// Owners whose objects to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerFilter {
    /// All resources of the deployment.
    All,
    /// One resource.
    Resource(ResourceId),
    /// No deployment: objects without tags.
    Untagged,
}

/// Page of objects.
#[derive(Clone, Debug, Default)]
pub struct ObjectPage {
    /// Objects on this page.
    pub objects: Vec<Object>,
    /// Cursor of the next page; `None` on the last page.
    pub next: Option<String>,
}

/// Object at a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Provider's identifier of the object.
    pub reference: String,
    /// Owner of the object; `None` if it has no deployment's tags.
    pub tags: Option<Tags>,
    /// State of the object.
    pub state: ObjectState,
    /// Power state; `None` if the object has none, or while it changes.
    pub power: Option<Power>,
    /// Observed spec.
    pub spec: Spec<String>,
    /// Other observed properties, such as addresses. Never contains a secret.
    pub outputs: Map<String, Value>,
    /// Reason of a failure.
    pub reason: Option<String>,
}

/// State of an object at its provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectState {
    /// Being created or changed.
    Busy,
    /// Exists and can be used.
    Ready,
    /// Failed and unusable.
    Failed,
    /// Being deleted.
    Deleting,
}

/// Error of a call to a provider.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct DriverError {
    /// Class of the error, which decides how the engine reacts.
    pub kind: DriverErrorKind,
    /// Provider's error code, or one of this server's.
    pub code: String,
    /// Human-readable message. Never contains a secret.
    pub message: String,
}

/// Class of a driver error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverErrorKind {
    /// Retrying may succeed: the provider was busy, or its response was lost, so the call may even have been executed.
    Retryable {
        /// Minimum delay before a retry, if the provider specified one.
        after: Option<Duration>,
    },
    /// The request can never succeed in this form.
    Invalid,
    /// The operator's credentials do not permit the call.
    Denied,
    /// The object does not exist.
    NotFound,
    /// Another object or operation conflicts, possibly temporarily.
    Conflict,
    /// The account's limit at the provider is reached.
    Exhausted,
    /// The provider currently has no capacity.
    NoCapacity,
    /// The provider protects the object against this call. The protection must be removed there first.
    Protected,
}

impl DriverErrorKind {
    /// Error code in a failed operation.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retryable { .. } => "provider_unavailable",
            Self::Invalid => "invalid",
            Self::Denied => "denied",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            // For a client, the owner of the limit makes no difference.
            Self::Exhausted | Self::NoCapacity => "exhausted",
            Self::Protected => "protected",
        }
    }
}

impl DriverError {
    /// Creates an error of the class `kind`.
    pub fn new(kind: DriverErrorKind, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind, code: code.into(), message: message.into() }
    }

    /// Creates a retryable error.
    pub fn retryable(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(DriverErrorKind::Retryable { after: None }, code, message)
    }
}
