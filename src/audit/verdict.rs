//! What came of checking an export.

use serde::Serialize;

use crate::base::{
    clock::Timestamp,
    id::{AuditId, ProjectId},
};

/// A public key (Ed25519).
pub type PublicKey = [u8; 32];

/// The first thing that is wrong.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Broken {
    /// In which line, counted from 1.
    pub line: u64,
    /// At which number of the chain, as far as that is known.
    pub seq: Option<i64>,
    /// At which entry, as far as that is known.
    pub id: Option<AuditId>,
    /// What it is.
    pub reason: String,
}

/// Whose word on the key was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyFrom {
    /// It was named by whoever checks.
    Given,
    /// It is the one that a checkpoint held elsewhere was signed with.
    Checkpoint,
    /// It is the one that the export names itself.
    Export,
}

/// What an export that is whole comes to.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Intact {
    /// Whose trail it is; none for the deployment's.
    pub project_id: Option<ProjectId>,
    /// How many entries are in it.
    pub entries: u64,
    /// How many of them are redacted.
    pub redacted: u64,
    /// The number of the last entry that was removed because of its age; 0 for none.
    pub removed_up_to: i64,
    /// The number of the last entry.
    pub seq: i64,
    /// Its hash.
    pub hash: String,
    /// When that was signed.
    pub signed_at: Timestamp,
    /// By which key.
    pub public_key: String,
    /// How that key is known.
    pub key_from: KeyFrom,
    /// How many checkpoints held elsewhere were found again.
    pub checkpoints_found: usize,
    /// How many are about entries that were removed because of their age.
    pub checkpoints_removed: usize,
}
