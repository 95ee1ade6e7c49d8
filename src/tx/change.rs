//! What a write did, in the terms its readers use.

use serde::Serialize;

use crate::{
    audit::model::{self, Actor, Audited, Changes, DEPLOYMENT, Draft, Outcome, Target},
    base::{
        action::Action,
        clock::Timestamp,
        id::{Id, Kind, ProjectId},
        request::RequestContext,
    },
};

/// One change: what was done to which thing, in which project, and what is different now.
#[derive(Clone, Debug)]
pub struct Change {
    action: Action,
    target: Target,
    project: Option<ProjectId>,
    changes: Changes,
    actor: Option<Actor>,
}

impl Change {
    /// `action`, done to `target`.
    pub fn new<K: Kind>(action: Action, target: Id<K>, project: Option<ProjectId>) -> Self {
        Self { action, target: Target::new(target), project, changes: Changes::new(), actor: None }
    }

    /// The same, which made `thing`.
    #[must_use]
    pub fn created(mut self, thing: &impl Audited) -> Self {
        self.changes = model::members(thing);
        self
    }

    /// The same, which made `before` into `after`.
    #[must_use]
    pub fn updated<T: Audited>(mut self, before: &T, after: &T) -> Self {
        self.changes = model::difference(model::members(before), model::members(after));
        self
    }

    /// The same, which removed `thing`.
    #[must_use]
    pub fn deleted(mut self, thing: &impl Audited) -> Self {
        self.changes = model::difference(model::members(thing), Changes::new());
        self
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

    /// Writes it to the log: unlike request lines, never sampled.
    pub(super) fn log(&self, request: &RequestContext) {
        tracing::info!(
            target: "cloudapi::change",
            action = self.action.as_str(),
            target_id = %self.target.id,
            project_id = self.project.map(tracing::field::display),
            credential_id = request.caller.get().map(|caller| tracing::field::display(caller.credential_id())),
            request_id = %request.id,
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
            target: Some(self.target.clone()),
            user_agent: model::user_agent(request),
        }
    }
}
