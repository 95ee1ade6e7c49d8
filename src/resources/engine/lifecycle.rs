//! Phases of resources and statuses of operations, and their transitions: a table without input or output.
//!
//! ```text
//! resource:   pending → provisioning → active ⇄ updating     any → failed     active, failed → deleting → deleted
//! operation:  queued → running → succeeded | failed | canceled
//! ```

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! text_enum {
    ($(#[$doc:meta])* pub enum $name:ident { $($(#[$of:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, sqlx::Type)]
        #[serde(rename_all = "lowercase")]
        #[sqlx(type_name = "text", rename_all = "lowercase")]
        #[schemars(inline)]
        pub enum $name { $($(#[$of])* $variant,)* }

        impl $name {
            /// All variants.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Name as clients see it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

text_enum! {
    /// Phase of a resource in its life cycle.
    pub enum Phase {
        /// Accepted, not started.
        Pending = "pending",
        /// Being created.
        Provisioning = "provisioning",
        /// Exists and matches its spec.
        Active = "active",
        /// Being changed.
        Updating = "updating",
        /// Does not match its spec, and no operation is in progress. The resource can be changed, remediated or
        /// deleted.
        Failed = "failed",
        /// Being deleted.
        Deleting = "deleting",
        /// Deleted.
        Deleted = "deleted",
    }
}

text_enum! {
    /// Type of an operation on a resource.
    pub enum OperationType {
        /// Create the object.
        Create = "create",
        /// Change the object.
        Update = "update",
        /// Delete the object.
        Delete = "delete",
        /// Turn an instance on.
        Start = "start",
        /// Turn an instance off.
        Stop = "stop",
        /// Turn an instance off and on again.
        Reboot = "reboot",
        /// Attach a volume to an instance.
        Attach = "attach",
        /// Detach a volume from an instance.
        Detach = "detach",
        /// Change the size.
        Resize = "resize",
        /// Turn an object that was created elsewhere into a resource.
        Import = "import",
        /// Read the object, and remediate drift if the resource has `reconcile: enforce`.
        Sync = "sync",
        /// Change the object back to the spec after it was changed outside this server.
        Remediate = "remediate",
    }
}

text_enum! {
    /// Status of an operation.
    pub enum OperationStatus {
        /// Not started.
        Queued = "queued",
        /// In progress.
        Running = "running",
        /// Completed.
        Succeeded = "succeeded",
        /// Failed; `error` gives the reason.
        Failed = "failed",
        /// Canceled on request, and reverted.
        Canceled = "canceled",
    }
}

impl OperationStatus {
    /// Whether the status is final.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Canceled)
    }
}

/// Outcome of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationOutcome {
    /// Completed.
    Succeeded,
    /// Failed with an error.
    Failed,
    /// Canceled on request.
    Canceled,
}

impl OperationOutcome {
    /// Returns the status of an operation with this outcome.
    pub const fn status(self) -> OperationStatus {
        match self {
            Self::Succeeded => OperationStatus::Succeeded,
            Self::Failed => OperationStatus::Failed,
            Self::Canceled => OperationStatus::Canceled,
        }
    }
}

impl Phase {
    /// Whether an operation of this type may start on a resource in this phase, with or without an object at its
    /// provider. The database ensures that no other operation is in progress.
    pub const fn allows(self, operation: OperationType, has_object: bool) -> bool {
        use OperationType as T;
        match (operation, self) {
            (T::Create | T::Import, phase) => matches!(phase, Self::Pending),
            (T::Delete | T::Remediate, Self::Active | Self::Failed) => true,
            (_, Self::Active) => true,
            // A failed resource can be fixed by changing its spec, unless it was never created.
            (_, Self::Failed) => has_object,
            _ => false,
        }
    }

    /// Phase from when an operation is accepted; for a creation, from when it starts.
    pub const fn during(self, operation: OperationType) -> Self {
        use OperationType as T;
        match operation {
            T::Create | T::Import => Self::Provisioning,
            T::Delete => Self::Deleting,
            T::Sync => self,
            _ => Self::Updating,
        }
    }

    /// Phase after an operation has ended, where `self` is the phase before it.
    pub const fn after(self, operation: OperationType, end: OperationOutcome, has_object: bool) -> Self {
        use OperationType as T;
        match (operation, end) {
            (T::Delete, OperationOutcome::Succeeded) => Self::Deleted,
            // A canceled operation was reverted, so without an object before there is none now.
            (T::Create | T::Import, OperationOutcome::Canceled) => Self::Failed,
            (_, OperationOutcome::Canceled) if !has_object => Self::Failed,
            (_, OperationOutcome::Canceled) => self,
            (_, OperationOutcome::Succeeded) => Self::Active,
            (_, OperationOutcome::Failed) => Self::Failed,
        }
    }

    /// Whether `later` may follow directly, as in the diagram above.
    pub const fn can_become(self, later: Self) -> bool {
        match (self, later) {
            (Self::Deleted, _) => false,
            (_, Self::Failed)
            | (Self::Pending, Self::Provisioning)
            | (Self::Provisioning | Self::Updating | Self::Failed, Self::Active)
            | (Self::Active | Self::Failed, Self::Updating | Self::Deleting)
            // A deletion that was canceled before it started.
            | (Self::Deleting, Self::Active | Self::Deleted) => true,
            _ => false,
        }
    }
}
