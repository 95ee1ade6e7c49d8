//! Result of verifying an export.

use serde::Serialize;

use crate::base::{
    id::{AuditId, ProjectId},
    runtime::clock::Timestamp,
};

/// Ed25519 public key.
pub type PublicKey = [u8; 32];

/// First error in an export.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct VerifyError {
    /// Number of the line, from 1.
    pub line: u64,
    /// Number of the entry in the chain, if known.
    pub seq: Option<i64>,
    /// ID of the entry, if known.
    pub id: Option<AuditId>,
    /// Description of the error.
    pub reason: String,
}

/// Source of the trusted public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeySource {
    /// The key was given on the command line.
    Given,
    /// The key signed an external checkpoint.
    Checkpoint,
    /// The key is the one in the export itself.
    Export,
}

/// Summary of an export without errors.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// Project, or `None` for the deployment's trail.
    pub project_id: Option<ProjectId>,
    /// Number of entries.
    pub entries: u64,
    /// Number of redacted entries.
    pub redacted: u64,
    /// Number of the last entry that was removed because of its age; 0 for none.
    pub removed_up_to: i64,
    /// Number of the last entry.
    pub seq: i64,
    /// Hash of the last entry.
    pub hash: String,
    /// Time of the final signature.
    pub signed_at: Timestamp,
    /// Public key of the final signature.
    pub public_key: String,
    /// Source of the public key.
    pub key_from: KeySource,
    /// Number of external checkpoints that match the trail.
    pub checkpoints_found: usize,
    /// Number of external checkpoints about entries that were removed because of their age.
    pub checkpoints_removed: usize,
}
