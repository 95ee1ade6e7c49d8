//! What a write did, in the terms its readers use.

use crate::base::{
    id::{Id, Kind, ProjectId},
    request::RequestContext,
};

/// One change: what was done to which thing, in which project.
#[derive(Clone, Debug)]
pub struct Change {
    action: &'static str,
    target: String,
    project: Option<ProjectId>,
}

impl Change {
    /// `action` is a thing and a past participle, such as `key.created`.
    pub fn new<K: Kind>(action: &'static str, target: Id<K>, project: Option<ProjectId>) -> Self {
        Self { action, target: target.to_string(), project }
    }

    /// Writes it to the log: unlike request lines, never sampled.
    pub(super) fn log(&self, request: &RequestContext) {
        tracing::info!(
            target: "cloudapi::change",
            action = self.action,
            target_id = %self.target,
            project_id = self.project.map(tracing::field::display),
            credential_id = request.caller.get().map(|caller| tracing::field::display(caller.credential_id())),
            request_id = %request.id,
            trace_id = %request.trace.trace_id(),
            "changed"
        );
    }
}
