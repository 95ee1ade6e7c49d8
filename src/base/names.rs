//! The names of each part of the API: the prefixes of its ids, its scopes, and the actions that the audit trail, events
//! and webhooks record. A new slice adds one group. [`super::id`], [`super::identity::scope`] and [`super::action`] define
//! the types.

/// Calls the macro `$define` with all names. Scopes are displayed in this order.
macro_rules! names {
    ($define:ident) => {
        $define! {
            projects {
                ids {
                    /// Project.
                    Project as ProjectId = "proj", "a project", "proj_8f2c4";
                }
                scopes {
                    ProjectsRead = "projects:read";
                    ProjectsWrite = "projects:write";
                }
                actions {
                    ProjectCreated = "project.created", Event, "A project was created.";
                    ProjectUpdated = "project.updated", Event, "A project's name or metadata changed.";
                    ProjectSuspended = "project.suspended", Event, "A project was suspended; its keys and tokens are rejected.";
                    ProjectResumed = "project.resumed", Event, "A project was resumed; its keys and tokens work again.";
                    ProjectArchived = "project.archived", Event, "A project was archived.";
                    ProjectDeleted = "project.deleted", Event, "A project was deleted with everything in it.";
                    ProjectQuotaChanged = "project.quota_changed", Event, "The operator changed a project's monthly quotas.";
                }
            }
            keys {
                ids {
                    /// API key.
                    Key as KeyId = "key", "a key", "key_7d1";
                }
                scopes {
                    KeysRead = "keys:read";
                    KeysWrite = "keys:write";
                }
                actions {
                    KeyCreated = "key.created", Event, "A key was created.";
                    KeyUpdated = "key.updated", Event, "A key's settings changed.";
                    KeyRotated = "key.rotated", Event, "A key got a new secret.";
                    KeyRevoked = "key.revoked", Event, "A key was revoked, with every token issued by it.";
                }
            }
            tokens {
                ids {
                    /// Scoped token.
                    Token as TokenId = "tok", "a token", "tok_2c9";
                }
                scopes {
                    TokensRead = "tokens:read";
                    TokensWrite = "tokens:write";
                    TokensIntrospect = "tokens:introspect";
                }
                actions {
                    TokenCreated = "token.created", Event, "A token was issued.";
                    TokenRevoked = "token.revoked", Event, "A token was revoked.";
                }
            }
            users {
                ids {
                    /// User.
                    User as UserId = "usr", "a user", "usr_8f2";
                    /// Invitation to a project.
                    Invitation as InvitationId = "inv", "an invitation", "inv_3e7";
                }
                scopes {
                    UsersRead = "users:read";
                    UsersWrite = "users:write";
                }
                actions {
                    UserInvited = "user.invited", Event, "A user was invited to a project.";
                    UserJoined = "user.joined", Event, "An invited user became a member of a project.";
                    UserUpdated = "user.updated", Event, "A member's role changed.";
                    UserRemoved = "user.removed", Event, "A member was removed from a project, or an invitation was withdrawn.";
                    UserPasswordChanged = "user.password_changed", AuditTrail, "A user changed their password.";
                }
            }
            sessions {
                ids {
                    /// Session.
                    Session as SessionId = "sess", "a session", "sess_5b1";
                }
                scopes {}
                actions {
                    SessionCreated = "session.created", AuditTrail, "A user signed in.";
                    SessionRefused = "session.refused", AuditTrail, "A sign-in attempt failed.";
                    SessionRevoked = "session.revoked", AuditTrail, "A session was revoked.";
                    SessionReauthenticated = "session.reauthenticated", AuditTrail, "The user of a session proved again who they are.";
                    SignInLinkCreated = "sign_in_link.created", AuditTrail, "A link was created that signs a user in once.";
                    RequestDenied = "request.denied", AuditTrail, "Requests were rejected with 401 or 403; one entry counts those of a minute.";
                }
            }
            usage {
                ids {}
                scopes {
                    UsageRead = "usage:read";
                }
                actions {
                    QuotaWarning = "quota.warning", Event, "A project's usage this month reached 80 % of its included requests or its limit.";
                    QuotaReached = "quota.reached", Event, "A project's usage this month reached its included requests or its limit.";
                    UsageImported = "usage.imported", AuditTrail, "The operator imported the usage journal of a lost server.";
                    UsageForgotten = "usage.forgotten", AuditTrail, "The operator discarded the usage journal of a lost server.";
                }
            }
            audit_logs {
                ids {
                    /// Audit entry.
                    Audit as AuditId = "aud", "an audit entry", "aud_4d2";
                }
                scopes {
                    AuditRead = "audit:read";
                }
                actions {
                    AuditRead = "audit.read", AuditTrail, "The audit trail was read.";
                    AuditExported = "audit.exported", AuditTrail, "The audit trail was exported.";
                    AuditRedacted = "audit.redacted", AuditTrail, "The operator deleted an entry's content; its place in the hash chain remains.";
                    AuditRetentionApplied = "audit.retention_applied", AuditTrail, "Entries older than the retention period were removed, up to a signed anchor.";
                    AuditCheckpoint = "audit.checkpoint", Event, "The end of the audit trail was signed.";
                    AuditUnreadable = "audit.unreadable", AuditTrail, "Something other than an entry was written to the trail's staging table, by someone with access to the database; its text is kept as found.";
                }
            }
            events {
                ids {
                    /// Event. It has the same number as its audit entry.
                    Event as EventId = "evt", "an event", "evt_4d2";
                }
                scopes {
                    EventsRead = "events:read";
                }
                actions {}
            }
            webhooks {
                ids {
                    /// Webhook.
                    Webhook as WebhookId = "wh", "a webhook", "wh_6a3";
                    /// Delivery of one event to one webhook.
                    Delivery as DeliveryId = "dlv", "a delivery", "dlv_1c8";
                }
                scopes {
                    WebhooksRead = "webhooks:read";
                    WebhooksWrite = "webhooks:write";
                }
                actions {
                    WebhookCreated = "webhook.created", Event, "A webhook was created.";
                    WebhookUpdated = "webhook.updated", Event, "A webhook's settings changed.";
                    WebhookSecretRotated = "webhook.secret_rotated", Event, "A webhook got a new signing secret.";
                    WebhookDisabled = "webhook.disabled", Event, "A webhook was disabled because its receiver kept failing or answered 410 Gone.";
                    WebhookDeleted = "webhook.deleted", Event, "A webhook was deleted.";
                    WebhookTested = "webhook.tested", Event, "A test event was requested for one webhook.";
                    DeliveryRetried = "delivery.retried", AuditTrail, "A retry of a delivery was requested.";
                }
            }
            resources {
                ids {
                    /// Cloud resource.
                    Resource as ResourceId = "res", "a resource", "res_5d7";
                    /// Operation on a resource.
                    Operation as OperationId = "op", "an operation", "op_8c4";
                }
                scopes {
                    ComputeRead = "compute:read";
                    ComputeWrite = "compute:write";
                    StorageRead = "storage:read";
                    StorageWrite = "storage:write";
                    NetworkRead = "network:read";
                    NetworkWrite = "network:write";
                }
                actions {
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
                }
            }
            deployment {
                ids {
                    /// HTTP request.
                    Request as RequestId = "req", "a request", "req_9c0e1";
                }
                scopes {}
                actions {
                    DeploymentBootstrapped = "deployment.bootstrapped", AuditTrail, "The operator created the first owner and project.";
                    DeploymentKeyReplaced = "deployment.key_replaced", AuditTrail, "The operator replaced the deployment's secret key.";
                    DemoLoaded = "demo.loaded", AuditTrail, "The examples of the API reference were loaded.";
                }
            }
        }
    };
}
pub(crate) use names;
