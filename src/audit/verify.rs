//! Verifies an export line by line, without a database: detects entries that were changed, removed, inserted or moved
//! since they were sealed.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    chain::{self, GENESIS, Hash},
    checkpoint::{Signed, Statement},
    line::{EntryLine, Line, RedactedLine, SignedText},
    model::DEPLOYMENT,
    verdict::{Broken, Intact, KeyFrom, PublicKey},
};
use crate::base::{
    action::Action,
    clock::Timestamp,
    hex,
    id::{AuditId, Id, ProjectId},
};

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
const REMEMBERED: usize = 10_000;

/// Verifies the lines of an export in order.
#[derive(Debug)]
pub struct Verifier {
    key: Option<(PublicKey, KeyFrom)>,
    /// External checkpoints by entry number that were not reached yet.
    held: BTreeMap<i64, Vec<Signed>>,
    found: usize,
    removed: usize,
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
    unnamed: BTreeMap<i64, (AuditId, u64)>,
    recent: BTreeMap<i64, Hash>,
    end: Option<Signed>,
}

impl Verifier {
    /// Trusts `key`, or else the key that signed the first of the external checkpoints `held`.
    pub fn new(key: Option<PublicKey>, held: Vec<Signed>) -> Self {
        let key = key.map(|key| (key, KeyFrom::Given));
        let key = key.or_else(|| held.first().map(|checkpoint| (checkpoint.public_key, KeyFrom::Checkpoint)));
        let mut by_number: BTreeMap<i64, Vec<Signed>> = BTreeMap::new();
        // A checkpoint of an empty trail matches every trail.
        for checkpoint in held.into_iter().filter(|checkpoint| checkpoint.seq > 0) {
            by_number.entry(checkpoint.seq).or_default().push(checkpoint);
        }
        Self {
            key,
            held: by_number,
            found: 0,
            removed: 0,
            line: 0,
            chain: None,
            anchor: 0,
            seq: 0,
            hash: GENESIS,
            id: Id::FIRST,
            entries: 0,
            redacted: 0,
            unnamed: BTreeMap::new(),
            recent: BTreeMap::new(),
            end: None,
        }
    }

    /// Verifies the next line, without the newline.
    pub fn take(&mut self, line: &[u8]) -> Result<(), Broken> {
        self.line += 1;
        if self.end.is_some() {
            return Err(self.broken("follows the last line, the checkpoint"));
        }
        match Line::read(line).map_err(|error| self.broken(error.to_string()))? {
            Line::Anchor(anchor) => self.anchor(anchor),
            Line::Entry(entry) => self.entry(entry),
            Line::Redacted(redacted) => self.redacted(&redacted),
            Line::Checkpoint(checkpoint) => self.end_at(checkpoint),
        }
    }

    /// Ends a file whose last line has no newline.
    pub fn cut_off(mut self) -> Broken {
        self.line += 1;
        self.broken("does not end with a newline, or is too long; the export is probably truncated, export again")
    }

    /// Ends the file.
    pub fn finish(self) -> Result<Intact, Broken> {
        let Some(end) = &self.end else {
            return Err(self
                .broken("the file ends without its last line, the checkpoint; the export is truncated, export again"));
        };
        let key_from = self.key.map_or(KeyFrom::Export, |(_, from)| from);
        Ok(Intact {
            project_id: (end.project_id != DEPLOYMENT).then_some(end.project_id),
            entries: self.entries,
            redacted: self.redacted,
            removed_up_to: self.anchor,
            seq: self.seq,
            hash: hex::encode(&self.hash),
            signed_at: end.made_at,
            public_key: hex::encode(&end.public_key),
            key_from,
            checkpoints_found: self.found,
            checkpoints_removed: self.removed,
        })
    }

    fn anchor(&mut self, anchor: Signed) -> Result<(), Broken> {
        if self.line > 1 {
            return Err(self.broken("is an anchor, which is allowed in the first line only"));
        }
        self.belongs(anchor.project_id)?;
        self.signed(&anchor)?;
        (self.anchor, self.seq, self.hash) = (anchor.seq, anchor.seq, anchor.hash);
        // Checkpoints about removed entries prove nothing anymore, except one about the last removed entry.
        let kept = self.held.split_off(&anchor.seq);
        self.removed = std::mem::replace(&mut self.held, kept).into_values().map(|same| same.len()).sum();
        self.hold_against()
    }

    fn entry(&mut self, entry: EntryLine) -> Result<(), Broken> {
        let content = self.content(&entry.payload)?;
        let place = self.follows(content.seq, content.id, entry.prev_hash)?;
        self.belongs(content.project_id).map_err(|broken| place.mark(broken))?;
        let payload_hash = chain::payload_hash(&entry.salt, &entry.payload);
        self.links(&place, payload_hash, entry.hash)?;
        match content.action.parse() {
            Ok(Action::AuditRedacted) => self.redaction(&place, &content)?,
            Ok(Action::AuditCheckpoint) => self.checkpoint_within(&place, &content)?,
            _ => {}
        }
        Ok(())
    }

    fn redacted(&mut self, redacted: &RedactedLine) -> Result<(), Broken> {
        let place = self.follows(redacted.seq, redacted.id, redacted.prev_hash)?;
        self.belongs(redacted.project_id.unwrap_or(DEPLOYMENT)).map_err(|broken| place.mark(broken))?;
        if !redacted.redacted {
            return Err(place.mark(self.broken("has no content, but is not marked as redacted")));
        }
        self.links(&place, redacted.payload_hash, redacted.hash)?;
        self.redacted += 1;
        self.unnamed.insert(redacted.seq, (redacted.id, self.line));
        Ok(())
    }

    /// Verifies an entry that records the redaction of an earlier one.
    fn redaction(&mut self, place: &Place, content: &Content) -> Result<(), Broken> {
        let (Some(seq), Some(target)) = (content.changes.get("seq").and_then(Value::as_i64), &content.target_id) else {
            return Err(place.mark(self.broken("records a redaction, but does not name the entry")));
        };
        if let Some((id, _)) = self.unnamed.get(&seq) {
            if id.to_string() != *target {
                let reason = format!("records the redaction of entry {seq} as {target}, but that entry is {id}");
                return Err(place.mark(self.broken(reason)));
            }
            self.unnamed.remove(&seq);
        }
        Ok(())
    }

    /// Verifies an entry that records a checkpoint: the hash signed then must be the hash in the trail now.
    fn checkpoint_within(&mut self, place: &Place, content: &Content) -> Result<(), Broken> {
        // The entry's changes omit the project: it is the project of the entry.
        let read: Option<SignedText> = serde_json::from_value(content.changes.clone()).ok();
        let signed = read.and_then(|text| text.signed(Statement::Checkpoint));
        let Some(checkpoint) = signed.map(|signed| Signed { project_id: content.project_id, ..signed }) else {
            return Err(place.mark(self.broken("records a checkpoint, but its content is invalid")));
        };
        self.belongs(checkpoint.project_id).map_err(|broken| place.mark(broken))?;
        self.signed(&checkpoint).map_err(|broken| place.mark(broken))?;
        match self.recent.get(&checkpoint.seq) {
            Some(hash) if *hash != checkpoint.hash => {
                let reason = format!(
                    "is a checkpoint of {}, when entry {} had another hash: the entries up to it were replaced since",
                    checkpoint.made_at, checkpoint.seq
                );
                Err(place.mark(self.broken(reason)))
            }
            None if checkpoint.seq > self.seq => {
                let reason = format!("is a checkpoint up to entry {}, which comes after it", checkpoint.seq);
                Err(place.mark(self.broken(reason)))
            }
            _ => Ok(()),
        }
    }

    fn end_at(&mut self, end: Signed) -> Result<(), Broken> {
        self.belongs(end.project_id)?;
        self.signed(&end)?;
        if end.seq != self.seq {
            let reason = format!(
                "signs the chain up to entry {}, but the last entry is {}: the chain was truncated or extended",
                end.seq, self.seq
            );
            return Err(self.broken(reason));
        }
        if end.hash != self.hash {
            return Err(self.broken(format!("does not sign the hash of entry {}: it was changed", self.seq)));
        }
        if let Some((&seq, &(id, line))) = self.unnamed.first_key_value() {
            let reason = "has no content, but no entry records its redaction".to_owned();
            return Err(Broken { line, seq: Some(seq), id: Some(id), reason });
        }
        if let Some(held) = self.held.values().flatten().next() {
            let seq = held.seq;
            let reason = format!(
                "ends the trail at entry {}, but a checkpoint of {} signs {seq}: the chain was truncated, or the export is older",
                self.seq, held.made_at
            );
            return Err(self.broken(reason));
        }
        self.end = Some(end);
        Ok(())
    }

    /// Verifies that an entry with this number, ID and previous hash comes next.
    fn follows(&mut self, seq: i64, id: AuditId, prev_hash: Hash) -> Result<Place, Broken> {
        let place = Place { seq, id };
        let before = self.seq;
        if seq != before + 1 {
            let reason = match seq {
                _ if seq > before + 1 && before == 0 => {
                    format!("is the first line, but the {} entries before it are missing", seq - 1)
                }
                _ if seq > before + 1 => format!("follows entry {before}: the entries between them are missing"),
                _ => format!("follows entry {before}: it was inserted or moved"),
            };
            return Err(place.mark(self.broken(reason)));
        }
        if id <= self.id {
            return Err(place.mark(self.broken(format!("has an id that is not above the previous one, {}", self.id))));
        }
        if prev_hash != self.hash {
            let reason = match before {
                0 => "cannot be the first entry: its prev_hash is not zero".to_owned(),
                _ if before == self.anchor => "does not follow the anchor: its prev_hash differs".to_owned(),
                _ => format!(
                    "does not follow entry {before}: its prev_hash is not that entry's hash; one of them was changed"
                ),
            };
            return Err(place.mark(self.broken(reason)));
        }
        Ok(place)
    }

    /// Verifies the hash of an entry and makes it the last entry.
    fn links(&mut self, place: &Place, payload_hash: Hash, hash: Hash) -> Result<(), Broken> {
        let chain = self.chain;
        if chain::entry_hash(&self.hash, chain.unwrap_or(DEPLOYMENT), place.seq, &payload_hash) != hash {
            return Err(place.mark(self.broken("has a hash that does not match its content: it was changed")));
        }
        (self.seq, self.id, self.hash) = (place.seq, place.id, hash);
        self.entries += 1;
        self.recent.insert(place.seq, hash);
        if self.recent.len() > REMEMBERED {
            self.recent.pop_first();
        }
        self.hold_against().map_err(|broken| place.mark(broken))
    }

    /// Compares external checkpoints about the current entry with it.
    fn hold_against(&mut self) -> Result<(), Broken> {
        for held in self.held.remove(&self.seq).unwrap_or_default() {
            self.belongs(held.project_id)?;
            if held.hash != self.hash {
                let reason = format!(
                    "does not have the hash that a checkpoint of {} signs: the entries up to it were replaced since",
                    held.made_at
                );
                return Err(self.broken(reason));
            }
            self.found += 1;
        }
        Ok(())
    }

    /// Verifies that a line belongs to the same trail as the lines before it.
    fn belongs(&mut self, project_id: ProjectId) -> Result<(), Broken> {
        match self.chain {
            None => self.chain = Some(project_id),
            Some(chain) if chain == project_id => {}
            Some(chain) => {
                let name = |id: ProjectId| if id == DEPLOYMENT { "the deployment".to_owned() } else { id.to_string() };
                return Err(self.broken(format!("belongs to {}, but the trail to {}", name(project_id), name(chain))));
            }
        }
        Ok(())
    }

    /// Verifies a signature and its key.
    fn signed(&mut self, signed: &Signed) -> Result<(), Broken> {
        // Without a trusted key, the first key in the export is used, and all signatures must have the same one.
        let (key, from) = *self.key.get_or_insert((signed.public_key, KeyFrom::Export));
        if signed.public_key != key {
            let whose = match from {
                KeyFrom::Given => "the given key",
                KeyFrom::Checkpoint => "the key of the given checkpoint",
                KeyFrom::Export => "the key of earlier signatures",
            };
            let (other, key) = (hex::encode(&signed.public_key), hex::encode(&key));
            return Err(self.broken(format!("is signed with the key {other}, not with {whose}, {key}")));
        }
        if !signed.is_genuine() {
            return Err(self.broken("has an invalid signature: it was changed, or signed with another key"));
        }
        Ok(())
    }

    fn content(&self, payload: &[u8]) -> Result<Content, Broken> {
        let value: Value =
            serde_json::from_slice(payload).map_err(|error| self.broken(format!("is not valid JSON: {error}")))?;
        if let Some(misfits) = value.get("stored_as") {
            return Err(self.broken(format!("is stored with columns that differ from its content: {misfits}")));
        }
        // Parsers differ in how they read duplicate member names.
        let canonical = serde_json::to_vec(&value).unwrap_or_default();
        let has_all = MEMBERS.iter().all(|member| value.get(member).is_some());
        if canonical != payload || !has_all {
            return Err(self.broken("is not in the canonical form of entries: all members, sorted, without spaces"));
        }
        Content::of(&value).ok_or_else(|| self.broken("has a member of the wrong type"))
    }

    fn broken(&self, reason: impl Into<String>) -> Broken {
        Broken { line: self.line, seq: None, id: None, reason: reason.into() }
    }
}

/// Entry that is being verified.
#[derive(Debug)]
struct Place {
    seq: i64,
    id: AuditId,
}

impl Place {
    fn mark(&self, broken: Broken) -> Broken {
        Broken { seq: Some(self.seq), id: Some(self.id), ..broken }
    }
}

/// Content of an entry that matters for verification.
struct Content {
    action: String,
    project_id: ProjectId,
    id: AuditId,
    seq: i64,
    target_id: Option<String>,
    changes: Value,
}

impl Content {
    fn of(value: &Value) -> Option<Self> {
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
