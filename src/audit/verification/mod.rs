//! Verifies an export line by line, without a database: detects entries that were changed, removed, inserted or moved
//! since they were sealed.

mod entry;
pub mod report;

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    chain::{
        self, GENESIS, Hash,
        checkpoint::{SignedStatement, Statement},
        line::{EntryLine, Line, RedactedLine, SignedText},
    },
    model::DEPLOYMENT,
};
use crate::base::{
    action::Action,
    hex,
    id::{AuditId, Id, ProjectId},
};
use entry::{EntryContent, EntryPosition};
use report::{KeySource, PublicKey, VerifyError, VerifyReport};

/// Required members of a payload. A newer version may add others.
const MEMBERS: [&str; 13] = [
    "action",
    "actor",
    "changes",
    "id",
    "occurred_at",
    "outcome",
    "project_id",
    "request_id",
    "seq",
    "source_ip",
    "target",
    "traceparent",
    "user_agent",
];
/// Number of recent hashes that are kept. A checkpoint in the trail covers an entry shortly before it.
const MAX_RECENT_HASHES: usize = 10_000;

/// Verifies the lines of an export in order.
#[derive(Debug)]
pub struct Verifier {
    key: Option<(PublicKey, KeySource)>,
    /// External checkpoints by entry number that were not reached yet.
    held_checkpoints: BTreeMap<i64, Vec<SignedStatement>>,
    matched_checkpoints: usize,
    removed_checkpoints: usize,
    line: u64,
    /// Project of the trail, known after the first line that names it.
    chain: Option<ProjectId>,
    /// Number of the anchored entry; 0 if there is no anchor.
    anchor: i64,
    seq: i64,
    hash: Hash,
    id: AuditId,
    entries: u64,
    redacted: u64,
    /// Redacted entries whose redaction was not reached yet, with their line numbers.
    unmatched_redactions: BTreeMap<i64, (AuditId, u64)>,
    recent_hashes: BTreeMap<i64, Hash>,
    end: Option<SignedStatement>,
}

impl Verifier {
    /// Trusts `key`, or else the key that signed the first of the external `checkpoints`.
    pub fn new(key: Option<PublicKey>, checkpoints: Vec<SignedStatement>) -> Self {
        let key = key.map(|key| (key, KeySource::Given));
        let key = key.or_else(|| checkpoints.first().map(|checkpoint| (checkpoint.public_key, KeySource::Checkpoint)));
        let mut by_seq: BTreeMap<i64, Vec<SignedStatement>> = BTreeMap::new();
        // A checkpoint of an empty trail matches every trail.
        for checkpoint in checkpoints.into_iter().filter(|checkpoint| checkpoint.seq > 0) {
            by_seq.entry(checkpoint.seq).or_default().push(checkpoint);
        }
        Self {
            key,
            held_checkpoints: by_seq,
            matched_checkpoints: 0,
            removed_checkpoints: 0,
            line: 0,
            chain: None,
            anchor: 0,
            seq: 0,
            hash: GENESIS,
            id: Id::FIRST,
            entries: 0,
            redacted: 0,
            unmatched_redactions: BTreeMap::new(),
            recent_hashes: BTreeMap::new(),
            end: None,
        }
    }

    /// Verifies the next line, without the newline.
    pub fn push_line(&mut self, line: &[u8]) -> Result<(), VerifyError> {
        self.line += 1;
        if self.end.is_some() {
            return Err(self.error("follows the last line, the checkpoint"));
        }
        match Line::parse(line).map_err(|error| self.error(error.to_string()))? {
            Line::Anchor(anchor) => self.check_anchor(anchor),
            Line::Entry(entry) => self.check_entry(entry),
            Line::Redacted(redacted) => self.check_redacted(&redacted),
            Line::Checkpoint(checkpoint) => self.check_end(checkpoint),
        }
    }

    /// Ends a file whose last line has no newline.
    pub fn truncated(mut self) -> VerifyError {
        self.line += 1;
        self.error("does not end with a newline, or is too long; the export is probably truncated, export again")
    }

    /// Ends the file.
    pub fn finish(self) -> Result<VerifyReport, VerifyError> {
        let Some(end) = &self.end else {
            return Err(self
                .error("the file ends without its last line, the checkpoint; the export is truncated, export again"));
        };
        let key_from = self.key.map_or(KeySource::Export, |(_, from)| from);
        Ok(VerifyReport {
            project_id: (end.project_id != DEPLOYMENT).then_some(end.project_id),
            entries: self.entries,
            redacted: self.redacted,
            removed_up_to: self.anchor,
            seq: self.seq,
            hash: hex::encode(&self.hash),
            signed_at: end.made_at,
            public_key: hex::encode(&end.public_key),
            key_from,
            checkpoints_found: self.matched_checkpoints,
            checkpoints_removed: self.removed_checkpoints,
        })
    }

    fn check_anchor(&mut self, anchor: SignedStatement) -> Result<(), VerifyError> {
        if self.line > 1 {
            return Err(self.error("is an anchor, which is allowed in the first line only"));
        }
        self.check_project(anchor.project_id)?;
        self.check_signature(&anchor)?;
        (self.anchor, self.seq, self.hash) = (anchor.seq, anchor.seq, anchor.hash);
        // Checkpoints about removed entries prove nothing anymore, except one about the last removed entry.
        let remaining = self.held_checkpoints.split_off(&anchor.seq);
        self.removed_checkpoints = std::mem::replace(&mut self.held_checkpoints, remaining)
            .into_values()
            .map(|checkpoints| checkpoints.len())
            .sum();
        self.check_held_checkpoints()
    }

    fn check_entry(&mut self, entry: EntryLine) -> Result<(), VerifyError> {
        let content = self.parse_content(&entry.payload)?;
        let position = self.check_order(content.seq, content.id, entry.prev_hash)?;
        self.check_project(content.project_id).map_err(|error| position.locate(error))?;
        let payload_hash = chain::payload_hash(&entry.salt, &entry.payload);
        self.append(&position, payload_hash, entry.hash)?;
        match content.action.parse() {
            Ok(Action::AuditRedacted) => self.check_redaction(&position, &content)?,
            Ok(Action::AuditCheckpoint) => self.check_checkpoint_entry(&position, &content)?,
            _ => {}
        }
        Ok(())
    }

    fn check_redacted(&mut self, redacted: &RedactedLine) -> Result<(), VerifyError> {
        let position = self.check_order(redacted.seq, redacted.id, redacted.prev_hash)?;
        self.check_project(redacted.project_id.unwrap_or(DEPLOYMENT)).map_err(|error| position.locate(error))?;
        if !redacted.redacted {
            return Err(position.locate(self.error("has no content, but is not marked as redacted")));
        }
        self.append(&position, redacted.payload_hash, redacted.hash)?;
        self.redacted += 1;
        self.unmatched_redactions.insert(redacted.seq, (redacted.id, self.line));
        Ok(())
    }

    /// Verifies an entry that records the redaction of an earlier one.
    fn check_redaction(&mut self, position: &EntryPosition, content: &EntryContent) -> Result<(), VerifyError> {
        let (Some(seq), Some(target)) = (content.changes.get("seq").and_then(Value::as_i64), &content.target_id) else {
            return Err(position.locate(self.error("records a redaction, but does not name the entry")));
        };
        if let Some((id, _)) = self.unmatched_redactions.get(&seq) {
            if id.to_string() != *target {
                let reason = format!("records the redaction of entry {seq} as {target}, but that entry is {id}");
                return Err(position.locate(self.error(reason)));
            }
            self.unmatched_redactions.remove(&seq);
        }
        Ok(())
    }

    /// Verifies an entry that records a checkpoint: the hash signed then must be the hash in the trail now.
    fn check_checkpoint_entry(&mut self, position: &EntryPosition, content: &EntryContent) -> Result<(), VerifyError> {
        // The entry's changes omit the project: it is the project of the entry.
        let read: Option<SignedText> = serde_json::from_value(content.changes.clone()).ok();
        let signed = read.and_then(|text| text.to_statement(Statement::Checkpoint));
        let Some(checkpoint) = signed.map(|signed| SignedStatement { project_id: content.project_id, ..signed }) else {
            return Err(position.locate(self.error("records a checkpoint, but its content is invalid")));
        };
        self.check_project(checkpoint.project_id).map_err(|error| position.locate(error))?;
        self.check_signature(&checkpoint).map_err(|error| position.locate(error))?;
        match self.recent_hashes.get(&checkpoint.seq) {
            Some(hash) if *hash != checkpoint.hash => {
                let reason = format!(
                    "is a checkpoint of {}, when entry {} had another hash: the entries up to it were replaced since",
                    checkpoint.made_at, checkpoint.seq
                );
                Err(position.locate(self.error(reason)))
            }
            None if checkpoint.seq > self.seq => {
                let reason = format!("is a checkpoint up to entry {}, which comes after it", checkpoint.seq);
                Err(position.locate(self.error(reason)))
            }
            _ => Ok(()),
        }
    }

    fn check_end(&mut self, end: SignedStatement) -> Result<(), VerifyError> {
        self.check_project(end.project_id)?;
        self.check_signature(&end)?;
        if end.seq != self.seq {
            let reason = format!(
                "signs the chain up to entry {}, but the last entry is {}: the chain was truncated or extended",
                end.seq, self.seq
            );
            return Err(self.error(reason));
        }
        if end.hash != self.hash {
            return Err(self.error(format!("does not sign the hash of entry {}: it was changed", self.seq)));
        }
        if let Some((&seq, &(id, line))) = self.unmatched_redactions.first_key_value() {
            let reason = "has no content, but no entry records its redaction".to_owned();
            return Err(VerifyError { line, seq: Some(seq), id: Some(id), reason });
        }
        if let Some(checkpoint) = self.held_checkpoints.values().flatten().next() {
            let seq = checkpoint.seq;
            let reason = format!(
                "ends the trail at entry {}, but a checkpoint of {} signs {seq}: the chain was truncated, or the export is older",
                self.seq, checkpoint.made_at
            );
            return Err(self.error(reason));
        }
        self.end = Some(end);
        Ok(())
    }

    /// Verifies that an entry with this number, ID and previous hash comes next.
    fn check_order(&mut self, seq: i64, id: AuditId, prev_hash: Hash) -> Result<EntryPosition, VerifyError> {
        let position = EntryPosition { seq, id };
        let before = self.seq;
        if seq != before + 1 {
            let reason = match seq {
                _ if seq > before + 1 && before == 0 => {
                    format!("is the first line, but the {} entries before it are missing", seq - 1)
                }
                _ if seq > before + 1 => format!("follows entry {before}: the entries between them are missing"),
                _ => format!("follows entry {before}: it was inserted or moved"),
            };
            return Err(position.locate(self.error(reason)));
        }
        if id <= self.id {
            return Err(
                position.locate(self.error(format!("has an id that is not above the previous one, {}", self.id)))
            );
        }
        if prev_hash != self.hash {
            let reason = match before {
                0 => "cannot be the first entry: its prev_hash is not zero".to_owned(),
                _ if before == self.anchor => "does not follow the anchor: its prev_hash differs".to_owned(),
                _ => format!(
                    "does not follow entry {before}: its prev_hash is not that entry's hash; one of them was changed"
                ),
            };
            return Err(position.locate(self.error(reason)));
        }
        Ok(position)
    }

    /// Verifies the hash of an entry and makes it the last entry.
    fn append(&mut self, position: &EntryPosition, payload_hash: Hash, hash: Hash) -> Result<(), VerifyError> {
        let chain = self.chain;
        if chain::entry_hash(&self.hash, chain.unwrap_or(DEPLOYMENT), position.seq, &payload_hash) != hash {
            return Err(position.locate(self.error("has a hash that does not match its content: it was changed")));
        }
        (self.seq, self.id, self.hash) = (position.seq, position.id, hash);
        self.entries += 1;
        self.recent_hashes.insert(position.seq, hash);
        if self.recent_hashes.len() > MAX_RECENT_HASHES {
            self.recent_hashes.pop_first();
        }
        self.check_held_checkpoints().map_err(|error| position.locate(error))
    }

    /// Compares external checkpoints about the current entry with it.
    fn check_held_checkpoints(&mut self) -> Result<(), VerifyError> {
        for checkpoint in self.held_checkpoints.remove(&self.seq).unwrap_or_default() {
            self.check_project(checkpoint.project_id)?;
            if checkpoint.hash != self.hash {
                let reason = format!(
                    "does not have the hash that a checkpoint of {} signs: the entries up to it were replaced since",
                    checkpoint.made_at
                );
                return Err(self.error(reason));
            }
            self.matched_checkpoints += 1;
        }
        Ok(())
    }

    /// Verifies that a line belongs to the same trail as the lines before it.
    fn check_project(&mut self, project_id: ProjectId) -> Result<(), VerifyError> {
        match self.chain {
            None => self.chain = Some(project_id),
            Some(chain) if chain == project_id => {}
            Some(chain) => {
                let name = |id: ProjectId| if id == DEPLOYMENT { "the deployment".to_owned() } else { id.to_string() };
                return Err(self.error(format!("belongs to {}, but the trail to {}", name(project_id), name(chain))));
            }
        }
        Ok(())
    }

    /// Verifies a signature and its key.
    fn check_signature(&mut self, signed: &SignedStatement) -> Result<(), VerifyError> {
        // Without a trusted key, the first key in the export is used, and all signatures must have the same one.
        let (key, from) = *self.key.get_or_insert((signed.public_key, KeySource::Export));
        if signed.public_key != key {
            let source = match from {
                KeySource::Given => "the given key",
                KeySource::Checkpoint => "the key of the given checkpoint",
                KeySource::Export => "the key of earlier signatures",
            };
            let (other, key) = (hex::encode(&signed.public_key), hex::encode(&key));
            return Err(self.error(format!("is signed with the key {other}, not with {source}, {key}")));
        }
        if !signed.has_valid_signature() {
            return Err(self.error("has an invalid signature: it was changed, or signed with another key"));
        }
        Ok(())
    }

    fn parse_content(&self, payload: &[u8]) -> Result<EntryContent, VerifyError> {
        let value: Value =
            serde_json::from_slice(payload).map_err(|error| self.error(format!("is not valid JSON: {error}")))?;
        if let Some(mismatches) = value.get("stored_as") {
            return Err(self.error(format!("is stored with columns that differ from its content: {mismatches}")));
        }
        // Parsers differ in how they read duplicate member names.
        let canonical = serde_json::to_vec(&value).unwrap_or_default();
        let has_all = MEMBERS.iter().all(|member| value.get(member).is_some());
        if canonical != payload || !has_all {
            return Err(self.error("is not in the canonical form of entries: all members, sorted, without spaces"));
        }
        EntryContent::from_json(&value).ok_or_else(|| self.error("has a member of the wrong type"))
    }

    fn error(&self, reason: impl Into<String>) -> VerifyError {
        VerifyError { line: self.line, seq: None, id: None, reason: reason.into() }
    }
}
