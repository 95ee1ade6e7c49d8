//! What a write did, in the terms its readers use.

use crate::base::{
    action::Action,
    id::{Id, Kind, ProjectId},
    request::RequestContext,
};

/// One change: what was done to which thing, in which project.
#[derive(Clone, Debug)]
pub struct Change {
    action: Action,
    target: String,
    project: Option<ProjectId>,
}

impl Change {
    /// `action`, done to `target`.
    pub fn new<K: Kind>(action: Action, target: Id<K>, project: Option<ProjectId>) -> Self {
        Self { action, target: target.to_string(), project }
    }

    /// Writes it to the log: unlike request lines, never sampled.
    pub(super) fn log(&self, request: &RequestContext) {
        tracing::info!(
            target: "cloudapi::change",
            action = self.action.as_str(),
            target_id = %self.target,
            project_id = self.project.map(tracing::field::display),
            credential_id = request.caller.get().map(|caller| tracing::field::display(caller.credential_id())),
            request_id = %request.id,
            trace_id = %request.trace.trace_id(),
            "changed"
        );
    }
}
