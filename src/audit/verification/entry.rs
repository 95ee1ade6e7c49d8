//! The parts of an entry that verification needs.

use serde_json::Value;

use super::report::VerifyError;
use crate::{
    audit::model::DEPLOYMENT,
    base::{
        id::{AuditId, ProjectId},
        runtime::clock::Timestamp,
    },
};

/// Entry that is being verified.
#[derive(Debug)]
pub(super) struct EntryPosition {
    pub(super) seq: i64,
    pub(super) id: AuditId,
}

impl EntryPosition {
    pub(super) fn locate(&self, error: VerifyError) -> VerifyError {
        VerifyError { seq: Some(self.seq), id: Some(self.id), ..error }
    }
}

/// Content of an entry that matters for verification.
pub(super) struct EntryContent {
    pub(super) action: String,
    pub(super) project_id: ProjectId,
    pub(super) id: AuditId,
    pub(super) seq: i64,
    pub(super) target_id: Option<String>,
    pub(super) changes: Value,
}

impl EntryContent {
    pub(super) fn from_json(value: &Value) -> Option<Self> {
        let project_id = match value.get("project_id")? {
            Value::Null => DEPLOYMENT,
            id => id.as_str()?.parse().ok()?,
        };
        Timestamp::parse(value.get("occurred_at")?.as_str()?)?;
        Some(Self {
            action: value.get("action")?.as_str()?.to_owned(),
            project_id,
            id: value.get("id")?.as_str()?.parse().ok()?,
            seq: value.get("seq")?.as_i64()?,
            target_id: value.pointer("/target/id").and_then(Value::as_str).map(str::to_owned),
            changes: value.get("changes")?.clone(),
        })
    }
}
