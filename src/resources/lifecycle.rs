//! How resources and operations stand, and which follows which: a table without input or output.
//!
//! ```text
//! resource:   pending → provisioning → active ⇄ updating     any → failed     active, failed → deleting → deleted
//! operation:  queued → running → succeeded | failed | canceled
//! ```

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! words {
    ($(#[$doc:meta])* pub enum $name:ident { $($(#[$of:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, sqlx::Type)]
        #[serde(rename_all = "lowercase")]
        #[sqlx(type_name = "text", rename_all = "lowercase")]
        #[schemars(inline)]
        pub enum $name { $($(#[$of])* $variant,)* }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word as clients see it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

words! {
    /// Where a resource is in its life.
    pub enum Phase {
        /// It was asked for.
        Pending = "pending",
        /// It is being made.
        Provisioning = "provisioning",
        /// It is there, as it was asked for.
        Active = "active",
        /// It is being changed.
        Updating = "updating",
        /// It is not as it was asked for, and nobody is at work on that. It can be changed, mended or deleted.
        Failed = "failed",
        /// It is being deleted.
        Deleting = "deleting",
        /// It is gone.
        Deleted = "deleted",
    }
}

words! {
    /// What is done to a resource.
    pub enum OperationType {
        /// It is made.
        Create = "create",
        /// It is changed.
        Update = "update",
        /// It is deleted.
        Delete = "delete",
        /// An instance is turned on.
        Start = "start",
        /// An instance is turned off.
        Stop = "stop",
        /// An instance is turned off and on again.
        Reboot = "reboot",
        /// A volume is attached to an instance.
        Attach = "attach",
        /// A volume is detached from an instance.
        Detach = "detach",
        /// It is given another size.
        Resize = "resize",
        /// An object that was made elsewhere becomes a resource.
        Import = "import",
        /// It is looked at, and mended if it says so.
        Sync = "sync",
        /// It is brought back to what was asked for, after something else has changed it.
        Remediate = "remediate",
    }
}

words! {
    /// How an operation stands.
    pub enum OperationStatus {
        /// Nobody has begun it.
        Queued = "queued",
        /// It is under way.
        Running = "running",
        /// It has done what it was to do.
        Succeeded = "succeeded",
        /// It has not, and says why.
        Failed = "failed",
        /// It was given up because somebody asked for that, and what it had begun was undone.
        Canceled = "canceled",
    }
}

impl OperationStatus {
    /// Whether it will not change any more.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Canceled)
    }
}

/// How an operation ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As it was to end.
    Succeeded,
    /// With an error.
    Failed,
    /// Because somebody asked for that.
    Canceled,
}

impl End {
    /// As an operation's status.
    pub const fn status(self) -> OperationStatus {
        match self {
            Self::Succeeded => OperationStatus::Succeeded,
            Self::Failed => OperationStatus::Failed,
            Self::Canceled => OperationStatus::Canceled,
        }
    }
}

impl Phase {
    /// Whether an operation of this type may begin on a resource that stands so, and has an object at its provider or
    /// not. (That none other is under way is for the database to say.)
    pub const fn admits(self, operation: OperationType, has_object: bool) -> bool {
        use OperationType as T;
        match (operation, self) {
            (T::Create | T::Import, phase) => matches!(phase, Self::Pending),
            (T::Delete | T::Remediate, Self::Active | Self::Failed) => true,
            (_, Self::Active) => true,
            // What is broken may be mended by asking for something else; what was never made cannot.
            (_, Self::Failed) => has_object,
            _ => false,
        }
    }

    /// How the resource stands from when an operation on it is accepted; a creation's from when it is begun.
    pub const fn during(self, operation: OperationType) -> Self {
        use OperationType as T;
        match operation {
            T::Create | T::Import => Self::Provisioning,
            T::Delete => Self::Deleting,
            T::Sync => self,
            _ => Self::Updating,
        }
    }

    /// How it stands when an operation has ended that it stood like `self` before, and it has an object or not.
    pub const fn after(self, operation: OperationType, end: End, has_object: bool) -> Self {
        use OperationType as T;
        match (operation, end) {
            (T::Delete, End::Succeeded) => Self::Deleted,
            // What was canceled was undone, so there is nothing where there was nothing before.
            (T::Create | T::Import, End::Canceled) => Self::Failed,
            (_, End::Canceled) if !has_object => Self::Failed,
            (_, End::Canceled) => self,
            (_, End::Succeeded) => Self::Active,
            (_, End::Failed) => Self::Failed,
        }
    }

    /// Whether `later` may follow at once, by the diagram above.
    pub const fn may_become(self, later: Self) -> bool {
        match (self, later) {
            (Self::Deleted, _) => false,
            (_, Self::Failed)
            | (Self::Pending, Self::Provisioning)
            | (Self::Provisioning | Self::Updating | Self::Failed, Self::Active)
            | (Self::Active | Self::Failed, Self::Updating | Self::Deleting)
            // A deletion that was canceled before it was begun.
            | (Self::Deleting, Self::Active | Self::Deleted) => true,
            _ => false,
        }
    }
}
