//! Links staged entries into chains. Pure functions; the sealer reads the input and writes the output.

use std::{collections::HashMap, time::Duration};

use rand::RngExt;
use serde_json::{Value, json};

use super::{
    GENESIS, Hash, Salt,
    checkpoint::{SignedStatement, Signer, Statement},
    entry_hash, payload_hash,
};
use crate::{
    audit::model::{DEPLOYMENT, Draft, IndexedColumns, Outcome, StagedEntry, Target},
    base::{
        action::{Action, Recorded},
        hex,
        id::{AuditId, ProjectId},
        runtime::clock::Timestamp,
    },
};

/// Number of entries after which a checkpoint is created.
pub const CHECKPOINT_ENTRIES: i64 = 1000;
/// Age of the oldest entry without a checkpoint at which a checkpoint is created.
pub const CHECKPOINT_AGE: Duration = Duration::from_secs(60);

/// End of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainEnd {
    /// Number of the last entry.
    pub seq: i64,
    /// Hash of the last entry.
    pub hash: Hash,
    /// Maximum, over all entries, by which the time in an ID was later than `occurred_at`, in milliseconds.
    pub latest_by: i64,
    /// Maximum, over all entries, by which the time in an ID was earlier than `occurred_at`, in milliseconds.
    pub earliest_by: i64,
    /// Number of entries after the last checkpoint, not counting the entries that record checkpoints.
    pub uncovered: i64,
    /// Time since which there are such entries.
    pub uncovered_since: Option<Timestamp>,
}

impl Default for ChainEnd {
    fn default() -> Self {
        Self { seq: 0, hash: GENESIS, latest_by: 0, earliest_by: 0, uncovered: 0, uncovered_since: None }
    }
}

/// Entry in its chain.
#[derive(Clone, Debug)]
pub struct LinkedEntry {
    /// Project of the chain.
    pub project_id: ProjectId,
    /// ID of the entry.
    pub id: AuditId,
    /// Number in the chain.
    pub seq: i64,
    /// Content of the entry.
    pub payload: Vec<u8>,
    /// Salt that is hashed before the payload.
    pub salt: Salt,
    /// Hash of salt and payload.
    pub payload_hash: Hash,
    /// Hash of the previous entry.
    pub prev_hash: Hash,
    /// Hash of this entry.
    pub hash: Hash,
    /// Values that lists are filtered by.
    pub columns: IndexedColumns,
    /// Action, if this version knows it.
    pub action: Option<Action>,
    /// Whether the entry is an event.
    pub is_event: bool,
}

impl LinkedEntry {
    /// Returns the entry that this one redacts, and its project.
    pub fn redacts(&self) -> Option<(ProjectId, AuditId)> {
        let redacted = self.columns.target_id.as_deref().filter(|_| self.action == Some(Action::AuditRedacted))?;
        Some((self.project_id, redacted.parse().ok().filter(|redacted| *redacted < self.id)?))
    }
}

/// Links one batch of entries.
#[derive(Debug)]
pub struct Linker<'a> {
    signer: &'a Signer,
    now: Timestamp,
    ids: IdGenerator,
    /// Chain ends, as read from the database and advanced by this batch.
    pub ends: HashMap<ProjectId, ChainEnd>,
    /// Linked entries, in the order of their IDs.
    pub entries: Vec<LinkedEntry>,
    /// New checkpoints, each with the ID of the entry that records it.
    pub checkpoints: Vec<(AuditId, SignedStatement)>,
}

impl<'a> Linker<'a> {
    /// Continues at `now` after the entry `last`. A chain that is not in `ends` begins at 1.
    pub fn new(signer: &'a Signer, now: Timestamp, last: AuditId, ends: HashMap<ProjectId, ChainEnd>) -> Self {
        Self { signer, now, ids: IdGenerator::after(last, now), ends, entries: Vec::new(), checkpoints: Vec::new() }
    }

    /// Last ID that was assigned.
    pub fn last(&self) -> AuditId {
        self.ids.last()
    }

    /// Links an entry that was staged for a project.
    pub fn add(&mut self, project: ProjectId, staged: &str) {
        self.link(project, StagedEntry::parse(staged, self.now));
        let now = self.now;
        let end = self.ends.entry(project).or_default();
        end.uncovered += 1;
        end.uncovered_since.get_or_insert(now);
        if end.uncovered >= CHECKPOINT_ENTRIES {
            self.checkpoint(project);
        }
    }

    /// Creates the checkpoints that are due because of their age.
    pub fn checkpoint_due(&mut self) {
        let since = self.now.minus(CHECKPOINT_AGE);
        let is_due = |end: &ChainEnd| end.uncovered_since.is_some_and(|started| started <= since);
        let mut due: Vec<_> = self.ends.iter().filter(|(_, end)| is_due(end)).map(|(project, _)| *project).collect();
        // Sort, because the order of a hash map is random.
        due.sort_unstable();
        for project in due {
            self.checkpoint(project);
        }
    }

    fn checkpoint(&mut self, project: ProjectId) {
        let end = self.ends.entry(project).or_default();
        (end.uncovered, end.uncovered_since) = (0, None);
        let signed = self.signer.sign(Statement::Checkpoint, project, end.seq, end.hash, self.now);
        let Value::Object(changes) = json!({
            "hash": hex::encode(&signed.hash),
            "made_at": signed.made_at,
            "public_key": hex::encode(&signed.public_key),
            "seq": signed.seq,
            "signature": hex::encode(&signed.signature),
        }) else {
            return;
        };
        let target = (project != DEPLOYMENT).then(|| Target::new(project));
        let draft = Draft { target, ..Draft::by_system(Action::AuditCheckpoint, Outcome::Success, changes, self.now) };
        let id = self.link(project, StagedEntry::from_draft(draft));
        self.checkpoints.push((id, signed));
    }

    fn link(&mut self, project: ProjectId, staged: StagedEntry) -> AuditId {
        let StagedEntry { columns, occurred_at, is_success, members: mut entry } = staged;
        let id = self.ids.next();
        let end = self.ends.entry(project).or_default();
        let seq = end.seq + 1;
        entry.insert("id".into(), id.to_string().into());
        entry.insert("project_id".into(), (project != DEPLOYMENT).then(|| project.to_string()).into());
        entry.insert("seq".into(), seq.into());
        let payload = Value::Object(entry).to_string().into_bytes();
        let salt: Salt = rand::rng().random();
        let prev_hash = end.hash;
        let payload_hash = payload_hash(&salt, &payload);
        let hash = entry_hash(&prev_hash, project, seq, &payload_hash);
        let delay = self.ids.millis() - occurred_at.unix_millis();
        (end.seq, end.hash) = (seq, hash);
        end.latest_by = end.latest_by.max(delay);
        end.earliest_by = end.earliest_by.max(-delay);
        let action: Option<Action> = columns.action.parse().ok();
        let is_event = is_success && action.is_some_and(|action| action.recorded() == Recorded::Event);
        let project_id = project;
        self.entries.push(LinkedEntry {
            project_id,
            id,
            seq,
            payload,
            salt,
            payload_hash,
            prev_hash,
            hash,
            columns,
            action,
            is_event,
        });
        id
    }
}

/// IDs in the format of UUIDv7 (RFC 9562 §5.7). Each ID is greater than the previous one, even if the clock is set
/// back.
#[derive(Debug)]
struct IdGenerator {
    /// Last ID as one number: 48 bits of time and the 74 bits after them.
    last: u128,
    /// Lower bound of all IDs in this batch.
    min: u128,
}

const RANDOM_BITS: u32 = 74;
const LOW_BITS: u32 = 62;

impl IdGenerator {
    fn after(last: AuditId, now: Timestamp) -> Self {
        let number = last.as_u128();
        let bits = |from: u32, count: u32| (number >> from) & ((1 << count) - 1);
        let last = bits(80, 48) << RANDOM_BITS | bits(64, 12) << LOW_BITS | bits(0, LOW_BITS);
        let millis = u128::try_from(now.unix_millis()).unwrap_or(0);
        // Leave the upper half free for IDs that follow in the same millisecond.
        let random = rand::rng().random::<u128>() >> (128 - RANDOM_BITS + 1);
        Self { last, min: millis << RANDOM_BITS | random }
    }

    fn next(&mut self) -> AuditId {
        self.last = (self.last + 1).max(self.min);
        self.last()
    }

    fn last(&self) -> AuditId {
        if self.last == 0 {
            return AuditId::FIRST;
        }
        let time = self.last >> RANDOM_BITS;
        let (high, low) = ((self.last >> LOW_BITS) & 0xfff, self.last & ((1 << LOW_BITS) - 1));
        AuditId::from_u128(time << 80 | 0x7 << 76 | high << 64 | 0b10 << LOW_BITS | low)
    }

    /// Time in the last ID, in milliseconds.
    fn millis(&self) -> i64 {
        i64::try_from(self.last >> RANDOM_BITS).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{audit::model::Changes, base::server_key::ServerKey};

    const PROJECT: ProjectId = ProjectId::from_u128(7);

    fn now() -> Timestamp {
        Timestamp::parse("2026-03-01T00:00:00Z").unwrap()
    }

    fn staged(occurred_at: Timestamp) -> String {
        Draft::by_system(Action::KeyCreated, Outcome::Success, Changes::new(), occurred_at).to_text()
    }

    fn payload(entry: &LinkedEntry) -> Value {
        serde_json::from_slice(&entry.payload).unwrap()
    }

    #[test]
    fn entries_are_linked_to_the_chain_of_their_project() {
        let signer = Signer::new(&ServerKey::generate());
        let begun = ChainEnd { seq: 41, hash: [9; 32], ..ChainEnd::default() };
        let mut linker = Linker::new(&signer, now(), AuditId::FIRST, [(PROJECT, begun)].into());
        for project in [PROJECT, DEPLOYMENT, PROJECT, DEPLOYMENT] {
            linker.add(project, &staged(now()));
        }
        let positions: Vec<_> = linker.entries.iter().map(|entry| (entry.project_id, entry.seq)).collect();
        assert_eq!(positions, [(PROJECT, 42), (DEPLOYMENT, 1), (PROJECT, 43), (DEPLOYMENT, 2)]);
        assert!(linker.entries.is_sorted_by(|a, b| a.id < b.id));
        let [first, begun, second, _] = linker.entries.as_slice() else { panic!() };
        assert_eq!((first.prev_hash, begun.prev_hash, second.prev_hash), ([9; 32], GENESIS, first.hash));
        assert_eq!(linker.ends[&PROJECT].hash, second.hash);
        for entry in &linker.entries {
            assert_eq!(entry.payload_hash, payload_hash(&entry.salt, &entry.payload));
            assert_eq!(entry.hash, entry_hash(&entry.prev_hash, entry.project_id, entry.seq, &entry.payload_hash));
            assert_eq!(payload(entry).to_string().as_bytes(), entry.payload);
        }
        assert_eq!(payload(first)["project_id"], PROJECT.to_string());
        assert_eq!((&payload(begun)["project_id"], &payload(begun)["seq"]), (&Value::Null, &json!(1)));
        assert_eq!(payload(second)["id"], second.id.to_string());
    }

    #[test]
    fn ids_are_uuid_v7_and_increase_when_the_clock_is_set_back() {
        let mut ids = IdGenerator::after(AuditId::FIRST, now());
        let first = ids.next();
        let uuid = uuid::Uuid::from_u128(first.as_u128());
        assert_eq!((uuid.get_version_num(), uuid.get_variant()), (7, uuid::Variant::RFC4122));
        let (seconds, nanos) = uuid.get_timestamp().unwrap().to_unix();
        assert_eq!((i64::try_from(seconds).unwrap(), nanos), (now().unix_seconds(), 0));
        let mut last = first;
        for clock in [now(), Timestamp::EARLIEST, now().plus(Duration::from_millis(1))] {
            let mut ids = IdGenerator::after(last, clock);
            for _ in 0..100 {
                let next = ids.next();
                assert!(next > last);
                last = next;
            }
        }
        // Carry from one part of the number to the next.
        let full = AuditId::from_u128(0x0123_4567_89ab_7fff_bfff_ffff_ffff_ffff);
        let next = IdGenerator::after(full, Timestamp::EARLIEST).next();
        assert_eq!(next.as_u128(), 0x0123_4567_89ac_7000_8000_0000_0000_0000);
    }

    #[test]
    fn maximum_difference_between_id_and_event_time_is_recorded() {
        let signer = Signer::new(&ServerKey::generate());
        let mut linker = Linker::new(&signer, now(), AuditId::FIRST, HashMap::new());
        linker.add(PROJECT, &staged(now().minus(Duration::from_millis(300))));
        linker.add(PROJECT, &staged(now().plus(Duration::from_millis(200))));
        linker.add(PROJECT, &staged(now()));
        assert_eq!((linker.ends[&PROJECT].latest_by, linker.ends[&PROJECT].earliest_by), (300, 200));
    }

    #[test]
    fn checkpoint_entry_follows_a_thousand_entries_or_a_minute() {
        let signer = Signer::new(&ServerKey::generate());
        let mut linker = Linker::new(&signer, now(), AuditId::FIRST, HashMap::new());
        (0..CHECKPOINT_ENTRIES).for_each(|_| linker.add(PROJECT, &staged(now())));
        let [(id, signed)] = linker.checkpoints.as_slice() else { panic!() };
        let [.., covered, entry] = linker.entries.as_slice() else { panic!() };
        assert!(signed.has_valid_signature());
        assert_eq!((signed.seq, signed.hash, signed.project_id), (CHECKPOINT_ENTRIES, covered.hash, PROJECT));
        assert_eq!((entry.id, entry.seq, entry.is_event), (*id, CHECKPOINT_ENTRIES + 1, true));
        assert_eq!(payload(entry)["changes"]["hash"], hex::encode(&covered.hash));
        // The entry of a checkpoint does not require another checkpoint.
        let ends = linker.ends;
        let later = now().plus(CHECKPOINT_AGE);
        let mut linker = Linker::new(&signer, later, AuditId::FIRST, ends);
        linker.checkpoint_due();
        assert_eq!(linker.checkpoints.len(), 0);
        linker.add(PROJECT, &staged(later));
        linker.checkpoint_due();
        assert_eq!(linker.checkpoints.len(), 0);
        let mut linker = Linker::new(&signer, later.plus(CHECKPOINT_AGE), AuditId::FIRST, linker.ends);
        linker.checkpoint_due();
        assert_eq!(linker.checkpoints.len(), 1);
    }

    #[test]
    fn only_successful_actions_that_are_published_are_events() {
        let signer = Signer::new(&ServerKey::generate());
        let mut linker = Linker::new(&signer, now(), AuditId::FIRST, HashMap::new());
        let draft = |action, outcome| Draft::by_system(action, outcome, Changes::new(), now()).to_text();
        linker.add(PROJECT, &draft(Action::KeyRevoked, Outcome::Success));
        linker.add(PROJECT, &draft(Action::KeyRevoked, Outcome::Failed));
        linker.add(PROJECT, &draft(Action::SessionCreated, Outcome::Success));
        linker.add(PROJECT, "nonsense");
        let events: Vec<_> = linker.entries.iter().map(|entry| entry.is_event).collect();
        assert_eq!(events, [true, false, false, false]);
    }
}
