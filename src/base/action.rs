//! What can be done here, in the words of the audit trail, of events and of webhooks.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Where an action is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// In the audit trail alone.
    InTheTrail,
    /// In the trail and as an event.
    AsEvent,
}

macro_rules! actions {
    ($($variant:ident = $text:literal, $told:ident, $doc:literal;)*) => {
        /// A thing and what was done to it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Action {
            $(#[doc = $doc] $variant,)*
        }

        impl Action {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// As it is written.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// Where it is told of.
            pub const fn told(self) -> Told {
                match self { $(Self::$variant => Told::$told,)* }
            }

            /// What it means, in a sentence.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $doc,)* }
            }
        }
    };
}

actions! {
    ProjectCreated = "project.created", AsEvent, "A project was made.";
    ProjectUpdated = "project.updated", AsEvent, "A project's name or metadata changed.";
    ProjectSuspended = "project.suspended", AsEvent, "A project's keys and tokens were stopped.";
    ProjectResumed = "project.resumed", AsEvent, "A project's keys and tokens work again.";
    ProjectArchived = "project.archived", AsEvent, "A project was put away.";
    ProjectDeleted = "project.deleted", AsEvent, "A project was deleted with everything in it.";
    ProjectQuotaChanged = "project.quota_changed", AsEvent, "The operator changed what a project's month includes or may reach.";
    KeyCreated = "key.created", AsEvent, "A key was made.";
    KeyUpdated = "key.updated", AsEvent, "A key's settings changed.";
    KeyRotated = "key.rotated", AsEvent, "A key was given another secret.";
    KeyRevoked = "key.revoked", AsEvent, "A key was ended, with all that was issued under it.";
    TokenCreated = "token.created", AsEvent, "A token was issued.";
    TokenRevoked = "token.revoked", AsEvent, "A token was ended, with all that was issued under it.";
    UserInvited = "user.invited", AsEvent, "Somebody was invited to a project.";
    UserJoined = "user.joined", AsEvent, "Somebody who was invited became a member.";
    UserUpdated = "user.updated", AsEvent, "A member was given another role.";
    UserRemoved = "user.removed", AsEvent, "Somebody was taken out of a project, or their invitation withdrawn.";
    UserPasswordChanged = "user.password_changed", InTheTrail, "A user changed their password.";
    SessionCreated = "session.created", InTheTrail, "A user signed in.";
    SessionRefused = "session.refused", InTheTrail, "An attempt to sign in failed.";
    SessionRevoked = "session.revoked", InTheTrail, "A session was ended.";
    RequestDenied = "request.denied", InTheTrail, "Requests were refused with 401 or 403, added up per minute.";
    QuotaWarning = "quota.warning", AsEvent, "A project's month has reached 80 % of what it includes or may reach.";
    QuotaReached = "quota.reached", AsEvent, "A project's month has reached all that it includes or may reach.";
    WebhookCreated = "webhook.created", AsEvent, "A webhook was made.";
    WebhookUpdated = "webhook.updated", AsEvent, "A webhook's settings changed.";
    WebhookSecretRotated = "webhook.secret_rotated", AsEvent, "A webhook was given another secret.";
    WebhookDisabled = "webhook.disabled", AsEvent, "A webhook was disabled, because its receiver kept failing or said that it is gone.";
    WebhookDeleted = "webhook.deleted", AsEvent, "A webhook was deleted.";
    WebhookTested = "webhook.tested", AsEvent, "A test event for one webhook was asked for.";
    DeliveryRetried = "delivery.retried", InTheTrail, "A delivery was asked for once more.";
    ResourceCreated = "resource.created", AsEvent, "A resource was asked for.";
    ResourceProvisioned = "resource.provisioned", AsEvent, "A resource is there, as it was asked for.";
    ResourceUpdateRequested = "resource.update_requested", AsEvent, "A change of a resource was asked for.";
    ResourceUpdated = "resource.updated", AsEvent, "A resource was changed.";
    ResourceFailed = "resource.failed", AsEvent, "An operation on a resource failed.";
    ResourceDeletionRequested = "resource.deletion_requested", AsEvent, "The deletion of a resource was asked for.";
    ResourceExpired = "resource.expired", AsEvent, "A resource's time was up, so it is being deleted.";
    ResourceDeleted = "resource.deleted", AsEvent, "A resource is gone.";
    ResourceImportRequested = "resource.import_requested", AsEvent, "An object that was made elsewhere is to become a resource.";
    ResourceImported = "resource.imported", AsEvent, "An object that was made elsewhere became a resource.";
    ResourceDrifted = "resource.drifted", AsEvent, "A resource is not as it was asked for any more: something else has changed or deleted it.";
    ResourceMended = "resource.mended", AsEvent, "A resource is again as it was asked for.";
    ResourceSyncRequested = "resource.sync_requested", InTheTrail, "A look at a resource was asked for.";
    OperationCanceled = "operation.canceled", AsEvent, "An operation was given up, and what it had begun was undone.";
    OperationCancelRequested = "operation.cancel_requested", InTheTrail, "It was asked that an operation be given up.";
    ResourceQuotaChanged = "project.resource_quota_changed", AsEvent, "The operator changed how many resources a project may have.";
    AuditRead = "audit.read", InTheTrail, "The audit trail was read.";
    AuditExported = "audit.exported", InTheTrail, "The audit trail was exported.";
    AuditRedacted = "audit.redacted", InTheTrail, "An entry's content was deleted by the operator; its place in the chain stays.";
    AuditTrimmed = "audit.trimmed", InTheTrail, "Entries older than what is kept were removed, up to a signed anchor.";
    AuditCheckpoint = "audit.checkpoint", AsEvent, "The end of the audit trail was signed.";
    AuditUnreadable = "audit.unreadable", InTheTrail, "Something was staged for the trail that is no entry, by somebody with access to the database; it is kept as it was found.";
    DeploymentBootstrapped = "deployment.bootstrapped", InTheTrail, "The operator made the first owner and project.";
    DeploymentKeyReplaced = "deployment.key_replaced", InTheTrail, "The operator gave the deployment's servers another key.";
    UsageImported = "usage.imported", InTheTrail, "The operator had the journal of a lost server counted.";
    UsageForgotten = "usage.forgotten", InTheTrail, "The operator gave up the journal of a lost server.";
    DemoLoaded = "demo.loaded", InTheTrail, "The published reference's examples were loaded.";
}

impl Action {
    /// Those that are told of as events.
    pub fn events() -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(|action| action.told() == Told::AsEvent)
    }
}

/// A text that is no action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an action")]
pub struct NotAnAction;

impl FromStr for Action {
    type Err = NotAnAction;

    fn from_str(text: &str) -> Result<Self, NotAnAction> {
        Self::ALL.iter().copied().find(|action| action.as_str() == text).ok_or(NotAnAction)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Action {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Action {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Action {
    fn schema_name() -> Cow<'static, str> {
        "Action".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let all: Vec<&str> = Self::ALL.iter().map(|action| action.as_str()).collect();
        json_schema!({ "type": "string", "enum": all })
    }
}
