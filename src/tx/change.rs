//! What a write did, in the terms its readers use.

use serde::Serialize;

use crate::{
    audit::model::{self, Actor, Audited, Changes, DEPLOYMENT, Draft, Outcome, Target},
    base::{
        action::Action,
        clock::Timestamp,
        credential::CredentialStatus,
        id::{Id, Kind, ProjectId},
        request::RequestContext,
    },
    sessions::model::IssuedSession,
};

/// One change: what was done to which thing, in which project, and what is different now.
#[derive(Clone, Debug)]
pub struct Change {
    action: Action,
    target: Option<Target>,
    project: Option<ProjectId>,
    changes: Changes,
    actor: Option<Actor>,
    /// Whether it turned out to be none.
    is_void: bool,
}

impl Change {
    /// `action`, done to `target`.
    pub fn new<K: Kind>(action: Action, target: Id<K>, project: Option<ProjectId>) -> Self {
        Self { project, ..Self::untold(action, Some(Target::new(target))) }
    }

    /// `action`, done to the deployment as a whole: to nothing that has an id.
    pub fn to_deployment(action: Action) -> Self {
        Self::untold(action, None)
    }

    /// `action`, which was tried and refused, because what was shown for it is wrong. None if nobody can tell whom it
    /// would have been about.
    pub fn refused<K: Kind>(action: Action, target: Option<Id<K>>) -> Self {
        Self::untold(action, target.map(Target::new))
    }

    fn untold(action: Action, target: Option<Target>) -> Self {
        Self { action, target, project: None, changes: Changes::new(), actor: None, is_void: false }
    }

    /// A session that somebody was given.
    pub fn session(session: &IssuedSession) -> Self {
        Self::new(Action::SessionCreated, session.id, None).created(&session.view()).with("user", &session.user)
    }

    /// The same, which made `thing`.
    #[must_use]
    pub fn created(mut self, thing: &impl Audited) -> Self {
        self.changes = model::members(thing);
        self
    }

    /// The same, which made `before` into `after`. Where these are the same nothing is told.
    #[must_use]
    pub fn updated<T: Audited>(mut self, before: &T, after: &T) -> Self {
        self.changes = model::difference(model::members(before), model::members(after));
        self.is_void = self.changes.is_empty();
        self
    }

    /// The same, which removed `thing`.
    #[must_use]
    pub fn deleted(mut self, thing: &impl Audited) -> Self {
        self.changes = model::difference(model::members(thing), Changes::new());
        self
    }

    /// The same, which ended a credential that stood like `before`. Nothing is told of one that was ended already.
    #[must_use]
    pub fn revoked(mut self, before: CredentialStatus) -> Self {
        self.is_void = before == CredentialStatus::Revoked;
        self.with("status", [before, CredentialStatus::Revoked])
    }

    /// The same, with one more thing to know. `value` must be fit for everybody who may read the trail.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Serialize) -> Self {
        self.changes.insert(name.to_owned(), serde_json::to_value(value).unwrap_or_default());
        self
    }

    /// The same, done by `actor`, who has shown in the request itself who they are.
    #[must_use]
    pub fn by(mut self, actor: Actor) -> Self {
        self.actor = Some(actor);
        self
    }

    /// Whether it turned out to be none, of which there is nothing to tell.
    pub(super) fn is_void(&self) -> bool {
        self.is_void
    }

    /// Writes it to the log: unlike request lines, never sampled.
    pub(super) fn log(&self, request: &RequestContext) {
        tracing::info!(
            target: "cloudapi::change",
            action = self.action.as_str(),
            target_id = self.target.as_ref().map(|target| target.id.as_str()),
            project_id = self.project.map(tracing::field::display),
            credential_id = request.caller.get().map(|caller| tracing::field::display(caller.credential_id())),
            request_id = %request.id,
            trace_id = %request.trace.trace_id(),
            "changed"
        );
    }

    /// The chain that it is told in.
    pub(super) fn chain(&self) -> ProjectId {
        self.project.unwrap_or(DEPLOYMENT)
    }

    /// As the audit trail has it.
    pub(super) fn draft(&self, request: &RequestContext, outcome: Outcome, now: Timestamp) -> Draft {
        Draft {
            action: self.action,
            actor: self.actor.clone().unwrap_or_else(|| Actor::of(request)),
            changes: self.changes.clone(),
            occurred_at: now,
            outcome,
            request_id: Some(request.id),
            source_ip: request.client,
            target: self.target.clone(),
            traceparent: Some(request.trace.to_string()),
            user_agent: model::user_agent(request),
        }
    }
}
