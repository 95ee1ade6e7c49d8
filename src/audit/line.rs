//! How a trail is written for whoever keeps a copy of it: one JSON object a line.
//!
//! An entry's line is its payload, byte for byte as it was hashed, with its salt and its two hashes put in before the
//! last brace. So nobody who checks it has to write JSON exactly as we do.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    chain::{Hash, Salt, payload_hash},
    checkpoint::{Signed, Statement},
    model::{DEPLOYMENT, Words},
    view::StoredEntry,
};
use crate::base::{
    action::{Action, Told},
    clock::Timestamp,
    hex,
    id::{AuditId, ProjectId},
};

/// One line.
#[derive(Debug)]
pub enum Line {
    /// Where the trail begins, if what was before is not kept any more.
    Anchor(Signed),
    /// An entry.
    Entry(EntryLine),
    /// What is left of an entry that was redacted.
    Redacted(RedactedLine),
    /// Where the export ends.
    Checkpoint(Signed),
}

/// An entry with its place in the chain.
#[derive(Debug, PartialEq, Eq)]
pub struct EntryLine {
    /// The bytes that were hashed.
    pub payload: Vec<u8>,
    /// What was hashed before them.
    pub salt: Salt,
    /// The hash of the entry before it.
    pub prev_hash: Hash,
    /// Its own.
    pub hash: Hash,
}

/// What is left of an entry that was redacted.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedactedLine {
    /// The entry.
    pub id: AuditId,
    /// Its number in the chain.
    pub seq: i64,
    /// The project; none for the deployment's chain.
    pub project_id: Option<ProjectId>,
    /// The hash of what was there.
    #[serde(with = "hex_bytes")]
    pub payload_hash: Hash,
    /// The hash of the entry before it.
    #[serde(with = "hex_bytes")]
    pub prev_hash: Hash,
    /// Its own.
    #[serde(with = "hex_bytes")]
    pub hash: Hash,
    /// Always true.
    pub redacted: bool,
}

/// A line that no export has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not written as an export writes it; was the file edited or formatted anew?")]
pub struct NotALine;

// What stands between the parts of an entry's line.
const SALT: &[u8] = b",\"salt\":\"";
const PREV_HASH: &[u8] = b"\",\"prev_hash\":\"";
const HASH: &[u8] = b"\",\"hash\":\"";
const END: &[u8] = b"\"}";
const MISFITS: &str = ",\"stored_as\":";

/// The line, without its end, of an entry as the database has it: whatever somebody may have made of it there.
pub fn stored(entry: &StoredEntry) -> Vec<u8> {
    let StoredEntry { id, seq, prev_hash, hash, payload_hash, .. } = entry;
    match (&entry.payload, &entry.salt) {
        (Some(payload), Some(salt)) => match misfits(entry, payload, salt) {
            misfits if misfits.is_empty() => entry_line(payload, salt, prev_hash, hash),
            misfits => {
                let said = payload.strip_suffix(b"}").unwrap_or(payload);
                let misfits = Value::Object(misfits).to_string();
                let marked = [said, MISFITS.as_bytes(), misfits.as_bytes(), b"}"].concat();
                entry_line(&marked, salt, prev_hash, hash)
            }
        },
        _ => redacted_line(*id, *seq, entry.project_id, [payload_hash, prev_hash, hash]),
    }
}

/// What is stored beside what an entry says, and is not what it says: somebody has changed it, so that the entry is found
/// where it does not belong, or not found where it does.
fn misfits(entry: &StoredEntry, payload: &[u8], salt: &[u8]) -> Map<String, Value> {
    let Ok(Value::Object(said)) = serde_json::from_slice(payload) else { return Map::new() };
    let Words { action, actor_id, target_id } = Words::of(&said);
    let told = |action: &str| action.parse().map(|action: Action| action.told());
    let is_event = told(&action).map(|told| told == Told::AsEvent && said.get("outcome") == Some(&json!("success")));
    let payload_hash: Option<Hash> = salt.try_into().ok().map(|salt| payload_hash(salt, payload));
    let stored_and_said = [
        ("id", json!(entry.id), said.get("id").cloned()),
        ("seq", json!(entry.seq), said.get("seq").cloned()),
        ("action", json!(entry.action), Some(json!(action))),
        ("actor_id", json!(entry.actor_id), Some(json!(actor_id))),
        ("target_id", json!(entry.target_id), Some(json!(target_id))),
        // What a newer version calls an event is not known here.
        ("is_event", json!(entry.is_event), Some(json!(is_event.unwrap_or(entry.is_event)))),
        ("payload_hash", json!(hex::encode(&entry.payload_hash)), payload_hash.map(|hash| json!(hex::encode(&hash)))),
    ];
    let misfits = stored_and_said.into_iter().filter(|(_, stored, said)| said.as_ref() != Some(stored));
    misfits.map(|(name, stored, _)| (name.to_owned(), stored)).collect()
}

fn entry_line(payload: &[u8], salt: &[u8], prev_hash: &[u8], hash: &[u8]) -> Vec<u8> {
    let mut line = Vec::with_capacity(payload.len() + 256);
    line.extend_from_slice(payload.strip_suffix(b"}").unwrap_or(payload));
    for (name, value) in [(SALT, salt), (PREV_HASH, prev_hash), (HASH, hash)] {
        line.extend_from_slice(name);
        line.extend_from_slice(hex::encode(value).as_bytes());
    }
    line.extend_from_slice(END);
    line
}

fn redacted_line(id: AuditId, seq: i64, project: ProjectId, hashes: [&[u8]; 3]) -> Vec<u8> {
    let project = if project == DEPLOYMENT { "null".to_owned() } else { format!("\"{project}\"") };
    let [payload_hash, prev_hash, hash] = hashes.map(hex::encode);
    format!(
        r#"{{"id":"{id}","seq":{seq},"project_id":{project},"payload_hash":"{payload_hash}","prev_hash":"{prev_hash}","hash":"{hash}","redacted":true}}"#
    )
    .into_bytes()
}

/// The line, without its end, that says where the trail begins.
pub fn anchor(anchor: SignedText) -> Vec<u8> {
    // Nothing but texts and numbers.
    serde_json::to_vec(&AnchorLine { anchor }).unwrap_or_default()
}

/// The line, without its end, that says where it ends.
pub fn checkpoint(checkpoint: SignedText) -> Vec<u8> {
    serde_json::to_vec(&CheckpointLine { checkpoint }).unwrap_or_default()
}

impl EntryLine {
    fn read(line: &[u8]) -> Option<Self> {
        let rest = line.strip_suffix(END)?;
        let (rest, hash) = last_hex(rest, HASH)?;
        let (rest, prev_hash) = last_hex(rest, PREV_HASH)?;
        let (rest, salt) = last_hex(rest, SALT)?;
        Some(Self { payload: [rest, b"}"].concat(), salt, prev_hash, hash })
    }
}

/// What comes before `name`, and the bytes in hexadecimal after it, to the end.
fn last_hex<'a, const N: usize>(text: &'a [u8], name: &[u8]) -> Option<(&'a [u8], [u8; N])> {
    let (rest, digits) = text.split_at_checked(text.len().checked_sub(2 * N)?)?;
    Some((rest.strip_suffix(name)?, hex::decode(std::str::from_utf8(digits).ok()?)?))
}

impl Line {
    /// Reads a line, without its end.
    pub fn read(line: &[u8]) -> Result<Self, NotALine> {
        let read = if line.starts_with(b"{\"anchor\":") {
            let read = serde_json::from_slice(line).ok();
            read.and_then(|AnchorLine { anchor }: AnchorLine<SignedText>| anchor.signed(Statement::Anchor))
                .map(Self::Anchor)
        } else if line.starts_with(b"{\"checkpoint\":") {
            let read = serde_json::from_slice(line).ok();
            read.and_then(|CheckpointLine { checkpoint }: CheckpointLine<SignedText>| {
                checkpoint.signed(Statement::Checkpoint)
            })
            .map(Self::Checkpoint)
        } else if line.ends_with(b",\"redacted\":true}") {
            serde_json::from_slice(line).ok().map(Self::Redacted)
        } else {
            EntryLine::read(line).map(Self::Entry)
        };
        let read = read.ok_or(NotALine)?;
        // A line that says the same in other words may say something else to another reader.
        if read.to_bytes() == line { Ok(read) } else { Err(NotALine) }
    }

    fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Entry(EntryLine { payload, salt, prev_hash, hash }) => entry_line(payload, salt, prev_hash, hash),
            Self::Redacted(redacted) => {
                let RedactedLine { id, seq, project_id, payload_hash, prev_hash, hash, .. } = redacted;
                redacted_line(*id, *seq, project_id.unwrap_or(DEPLOYMENT), [payload_hash, prev_hash, hash])
            }
            Self::Anchor(signed) => anchor(SignedText::of(signed)),
            Self::Checkpoint(signed) => checkpoint(SignedText::of(signed)),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AnchorLine<S> {
    anchor: S,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckpointLine<S> {
    checkpoint: S,
}

/// A signed end of a chain, as it is written: whoever has it can check it with the key alone.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SignedText {
    /// The project; null for the deployment's chain.
    pub project_id: Option<ProjectId>,
    /// The number of the last entry that it covers.
    pub seq: i64,
    /// That entry's hash, in hexadecimal.
    pub hash: String,
    /// When it was signed.
    pub made_at: Timestamp,
    /// The key that it can be checked with (Ed25519), in hexadecimal.
    pub public_key: String,
    /// The signature, in hexadecimal.
    pub signature: String,
}

impl SignedText {
    /// As it is written.
    pub fn of(signed: &Signed) -> Self {
        Self {
            project_id: (signed.project_id != DEPLOYMENT).then_some(signed.project_id),
            seq: signed.seq,
            hash: hex::encode(&signed.hash),
            made_at: signed.made_at,
            public_key: hex::encode(&signed.public_key),
            signature: hex::encode(&signed.signature),
        }
    }

    /// What it says, if it is written as we write it.
    pub fn signed(&self, statement: Statement) -> Option<Signed> {
        Some(Signed {
            statement,
            project_id: self.project_id.unwrap_or(DEPLOYMENT),
            seq: self.seq,
            hash: hex::decode(&self.hash)?,
            made_at: self.made_at,
            public_key: hex::decode(&self.public_key)?,
            signature: hex::decode(&self.signature)?,
        })
    }
}

/// Bytes in hexadecimal, for serde.
mod hex_bytes {
    use serde::{Deserialize, Deserializer, de};

    use crate::base::hex;

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
        hex::decode(&String::deserialize(deserializer)?).ok_or_else(|| de::Error::custom("is no hash"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: &str = concat!(
        r#"{"action":"key.created","user_agent":null,"salt":"000102030405060708090a0b0c0d0e0f","#,
        r#""prev_hash":"0000000000000000000000000000000000000000000000000000000000000000","#,
        r#""hash":"abababababababababababababababababababababababababababababababab"}"#
    );

    #[test]
    fn an_entrys_line_holds_the_bytes_that_were_hashed() {
        let Ok(Line::Entry(entry)) = Line::read(ENTRY.as_bytes()) else { panic!("is an entry") };
        assert_eq!(entry.payload, br#"{"action":"key.created","user_agent":null}"#);
        assert_eq!((entry.salt[1], entry.prev_hash, entry.hash), (1, [0; 32], [0xab; 32]));
        assert_eq!(Line::Entry(entry).to_bytes(), ENTRY.as_bytes());
    }

    #[test]
    fn a_line_in_other_words_is_none() {
        for line in [
            String::new(),
            "{}".into(),
            format!("{ENTRY} "),
            ENTRY.replace("\"salt\":", "\"salt\": "),
            ENTRY.replace("abab", "ABAB"),
            ENTRY.replace("0001", "001"),
            r#"{"checkpoint":{}}"#.into(),
            r#"{"id":"aud_1","seq":1,"project_id":null,"redacted":true}"#.into(),
        ] {
            assert_eq!(Line::read(line.as_bytes()).err(), Some(NotALine), "{line}");
        }
    }
}
