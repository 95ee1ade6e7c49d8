//! Changes that writes make, as the audit trail and the log record them.

use serde::Serialize;

use crate::{
    audit::model::{self, Actor, Audited, Changes, DEPLOYMENT, Draft, Outcome, Target},
    base::{
        action::Action,
        id::{Id, Kind, ProjectId},
        identity::credential::CredentialStatus,
        runtime::{clock::Timestamp, request::RequestContext},
    },
};

/// A change: the action, its target and project, and the changed fields.
#[derive(Clone, Debug)]
pub struct Change {
    action: Action,
    target: Option<Target>,
    project: Option<ProjectId>,
    changes: Changes,
    actor: Option<Actor>,
    /// Whether nothing changed.
    is_unchanged: bool,
}

impl Change {
    /// Creates a change: `action` on `target`.
    pub fn new<K: Kind>(action: Action, target: Id<K>, project: Option<ProjectId>) -> Self {
        Self { project, ..Self::with_target(action, Some(Target::new(target))) }
    }

    /// Creates a change of the deployment as a whole, which has no target.
    pub fn for_deployment(action: Action) -> Self {
        Self::with_target(action, None)
    }

    /// Creates a change for `action` that was attempted and refused, because the presented credential is wrong.
    /// `target` is None if it is unknown.
    pub fn refused<K: Kind>(action: Action, target: Option<Id<K>>) -> Self {
        Self::with_target(action, target.map(Target::new))
    }

    fn with_target(action: Action, target: Option<Target>) -> Self {
        Self { action, target, project: None, changes: Changes::new(), actor: None, is_unchanged: false }
    }

    /// Records the creation of `thing`.
    #[must_use]
    pub fn created(mut self, thing: &impl Audited) -> Self {
        self.changes = model::members(thing);
        self
    }

    /// Records the update of `before` to `after`. Without a difference, the change is not recorded.
    #[must_use]
    pub fn updated<T: Audited>(mut self, before: &T, after: &T) -> Self {
        self.changes = model::difference(model::members(before), model::members(after));
        self.is_unchanged = self.changes.is_empty();
        self
    }

    /// Records the deletion of `thing`.
    #[must_use]
    pub fn deleted(mut self, thing: &impl Audited) -> Self {
        self.changes = model::difference(model::members(thing), Changes::new());
        self
    }

    /// Records the revocation of a credential with the status `before`. If it was revoked already, the change is not
    /// recorded.
    #[must_use]
    pub fn revoked(mut self, before: CredentialStatus) -> Self {
        self.is_unchanged = before == CredentialStatus::Revoked;
        self.with("status", [before, CredentialStatus::Revoked])
    }

    /// Adds a field. `value` is visible to everyone who can read the trail.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Serialize) -> Self {
        self.changes.insert(name.to_owned(), serde_json::to_value(value).unwrap_or_default());
        self
    }

    /// Sets the actor, who authenticated in the request itself.
    #[must_use]
    pub fn with_actor(mut self, actor: Actor) -> Self {
        self.actor = Some(actor);
        self
    }

    /// Reports whether nothing changed, so that nothing is recorded.
    pub(super) fn is_unchanged(&self) -> bool {
        self.is_unchanged
    }

    /// Builds the audit entry.
    pub(super) fn into_entry(self, request: &RequestContext, outcome: Outcome, now: Timestamp) -> ChangeEntry {
        let draft = Draft {
            action: self.action,
            actor: self.actor.unwrap_or_else(|| Actor::from_request(request)),
            changes: self.changes,
            occurred_at: now,
            outcome,
            request_id: Some(request.id),
            source_ip: request.client,
            target: self.target,
            traceparent: Some(request.trace.to_string()),
            user_agent: model::user_agent(request),
        };
        ChangeEntry { project: self.project, draft }
    }
}

/// Audit entry of a change.
#[derive(Debug)]
pub(super) struct ChangeEntry {
    project: Option<ProjectId>,
    /// Content of the entry.
    pub(super) draft: Draft,
}

impl ChangeEntry {
    /// Audit chain that the change is recorded in.
    pub(super) fn chain(&self) -> ProjectId {
        self.project.unwrap_or(DEPLOYMENT)
    }

    /// Logs the change once it is committed. Unlike request lines, these are never sampled.
    pub(super) fn log(&self, request: &RequestContext) {
        tracing::info!(
            target: "cloudapi::change",
            action = self.draft.action.as_str(),
            target_id = self.draft.target.as_ref().map(|target| target.id.as_str()),
            project_id = self.project.map(tracing::field::display),
            credential_id = request.caller.get().map(|caller| tracing::field::display(caller.credential_id())),
            request_id = %request.id,
            trace_id = %request.trace.trace_id(),
            "change committed"
        );
    }
}
