//! Actions: names and meanings, as the audit trail, events and webhooks use them.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Where an action is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// In the audit trail only.
    AuditTrail,
    /// In the audit trail and as an event.
    Event,
}

macro_rules! actions {
    ($($variant:ident = $text:literal, $recorded:ident, $doc:literal;)*) => {
        /// Recorded action: a type of object and what happened to it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Action {
            $(#[doc = $doc] $variant,)*
        }

        impl Action {
            /// All actions.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Name of the action.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// Where the action is recorded.
            pub const fn recorded(self) -> Recorded {
                match self { $(Self::$variant => Recorded::$recorded,)* }
            }

            /// Meaning, in one sentence.
            pub const fn description(self) -> &'static str {
                match self { $(Self::$variant => $doc,)* }
            }
        }
    };
}

actions! {
    ProjectCreated = "project.created", Event, "A project was created.";
    ProjectUpdated = "project.updated", Event, "A project's name or metadata changed.";
    ProjectSuspended = "project.suspended", Event, "A project was suspended; its keys and tokens are rejected.";
    ProjectResumed = "project.resumed", Event, "A project was resumed; its keys and tokens work again.";
    ProjectArchived = "project.archived", Event, "A project was archived.";
    ProjectDeleted = "project.deleted", Event, "A project was deleted with everything in it.";
    ProjectQuotaChanged = "project.quota_changed", Event, "The operator changed a project's monthly quotas.";
    KeyCreated = "key.created", Event, "A key was created.";
    KeyUpdated = "key.updated", Event, "A key's settings changed.";
    KeyRotated = "key.rotated", Event, "A key got a new secret.";
    KeyRevoked = "key.revoked", Event, "A key was revoked, with every token issued by it.";
    TokenCreated = "token.created", Event, "A token was issued.";
    TokenRevoked = "token.revoked", Event, "A token was revoked.";
    UserInvited = "user.invited", Event, "A user was invited to a project.";
    UserJoined = "user.joined", Event, "An invited user became a member of a project.";
    UserUpdated = "user.updated", Event, "A member's role changed.";
    UserRemoved = "user.removed", Event, "A member was removed from a project, or an invitation was withdrawn.";
    UserPasswordChanged = "user.password_changed", AuditTrail, "A user changed their password.";
    SessionCreated = "session.created", AuditTrail, "A user signed in.";
    SessionRefused = "session.refused", AuditTrail, "A sign-in attempt failed.";
    SessionRevoked = "session.revoked", AuditTrail, "A session was revoked.";
    RequestDenied = "request.denied", AuditTrail, "Requests were rejected with 401 or 403; one entry counts those of a minute.";
    QuotaWarning = "quota.warning", Event, "A project's usage this month reached 80 % of its included requests or its limit.";
    QuotaReached = "quota.reached", Event, "A project's usage this month reached its included requests or its limit.";
    WebhookCreated = "webhook.created", Event, "A webhook was created.";
    WebhookUpdated = "webhook.updated", Event, "A webhook's settings changed.";
    WebhookSecretRotated = "webhook.secret_rotated", Event, "A webhook got a new signing secret.";
    WebhookDisabled = "webhook.disabled", Event, "A webhook was disabled because its receiver kept failing or answered 410 Gone.";
    WebhookDeleted = "webhook.deleted", Event, "A webhook was deleted.";
    WebhookTested = "webhook.tested", Event, "A test event was requested for one webhook.";
    DeliveryRetried = "delivery.retried", AuditTrail, "A retry of a delivery was requested.";
    ResourceCreated = "resource.created", Event, "A resource was requested; its creation is in progress.";
    ResourceProvisioned = "resource.provisioned", Event, "A resource was created at its provider and matches its spec.";
    ResourceUpdateRequested = "resource.update_requested", Event, "A change to a resource was requested.";
    ResourceUpdated = "resource.updated", Event, "A resource was changed.";
    ResourceFailed = "resource.failed", Event, "An operation on a resource failed.";
    ResourceDeletionRequested = "resource.deletion_requested", Event, "The deletion of a resource was requested.";
    ResourceExpired = "resource.expired", Event, "A resource reached the end of its lifetime; its deletion is in progress.";
    ResourceDeleted = "resource.deleted", Event, "A resource was deleted.";
    ResourceImportRequested = "resource.import_requested", Event, "The import of an existing object was requested.";
    ResourceImported = "resource.imported", Event, "An existing object was imported as a resource.";
    ResourceDrifted = "resource.drifted", Event, "A resource differs from its spec: something else changed or deleted it.";
    ResourceRemediated = "resource.remediated", Event, "A resource matches its spec again after drift.";
    ResourceSyncRequested = "resource.sync_requested", AuditTrail, "The sync of a resource with its provider was requested.";
    OperationCanceled = "operation.canceled", Event, "An operation was canceled and its partial work was rolled back.";
    OperationCancelRequested = "operation.cancel_requested", AuditTrail, "The cancellation of an operation was requested.";
    ResourceQuotaChanged = "project.resource_quota_changed", Event, "The operator changed how many resources a project may have.";
    AuditRead = "audit.read", AuditTrail, "The audit trail was read.";
    AuditExported = "audit.exported", AuditTrail, "The audit trail was exported.";
    AuditRedacted = "audit.redacted", AuditTrail, "The operator deleted an entry's content; its place in the hash chain remains.";
    AuditRetentionApplied = "audit.retention_applied", AuditTrail, "Entries older than the retention period were removed, up to a signed anchor.";
    AuditCheckpoint = "audit.checkpoint", Event, "The end of the audit trail was signed.";
    AuditUnreadable = "audit.unreadable", AuditTrail, "Something other than an entry was written to the trail's staging table, by someone with access to the database; its text is kept as found.";
    DeploymentBootstrapped = "deployment.bootstrapped", AuditTrail, "The operator created the first owner and project.";
    DeploymentKeyReplaced = "deployment.key_replaced", AuditTrail, "The operator replaced the deployment's secret key.";
    UsageImported = "usage.imported", AuditTrail, "The operator imported the usage journal of a lost server.";
    UsageForgotten = "usage.forgotten", AuditTrail, "The operator discarded the usage journal of a lost server.";
    DemoLoaded = "demo.loaded", AuditTrail, "The examples of the API reference were loaded.";
}

/// Names of earlier releases. Sealed entries of the audit trail keep them.
const FORMER_NAMES: [(&str, Action); 2] =
    [("resource.mended", Action::ResourceRemediated), ("audit.trimmed", Action::AuditRetentionApplied)];

impl Action {
    /// Returns the current name of the action `name`, which may be a name of an earlier release. Returns an unknown
    /// name unchanged.
    pub fn current_name(name: &str) -> &str {
        FORMER_NAMES.iter().find(|(former, _)| *former == name).map_or(name, |(_, action)| action.as_str())
    }

    /// Returns the names of `actions` and their former names, which sealed entries keep and filters accept.
    pub fn names(actions: impl Iterator<Item = Self> + Clone) -> Vec<&'static str> {
        let former = FORMER_NAMES.iter().filter(|(_, renamed)| actions.clone().any(|action| action == *renamed));
        actions.clone().map(Self::as_str).chain(former.map(|(name, _)| *name)).collect()
    }

    /// Actions that are events.
    pub fn events() -> impl Iterator<Item = Self> + Clone {
        Self::ALL.iter().copied().filter(|action| action.recorded() == Recorded::Event)
    }
}

/// Error for a text that is not an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an action")]
pub struct ParseActionError;

impl FromStr for Action {
    type Err = ParseActionError;

    fn from_str(text: &str) -> Result<Self, ParseActionError> {
        let name = Self::current_name(text);
        Self::ALL.iter().copied().find(|action| action.as_str() == name).ok_or(ParseActionError)
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
        let all = Self::names(Self::ALL.iter().copied());
        json_schema!({ "type": "string", "enum": all })
    }
}
