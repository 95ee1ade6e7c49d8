//! NDJSON format of an exported trail: one JSON object per line.
//!
//! The line of an entry is its payload, byte for byte as it was hashed, with its salt and its two hashes inserted
//! before the last brace. A verifier therefore does not have to produce the same JSON serialization as this server.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    Hash, Salt,
    checkpoint::{SignedStatement, Statement},
    payload_hash,
};
use crate::{
    audit::{
        model::{DEPLOYMENT, IndexedColumns},
        view::StoredEntry,
    },
    base::{
        action::{Action, Recorded},
        hex,
        id::{AuditId, ProjectId},
        runtime::clock::Timestamp,
    },
};

/// Line of an export.
#[derive(Debug)]
pub enum Line {
    /// Beginning of the trail, if older entries were removed.
    Anchor(SignedStatement),
    /// Entry.
    Entry(EntryLine),
    /// Rest of a redacted entry.
    Redacted(RedactedLine),
    /// End of the export.
    Checkpoint(SignedStatement),
}

/// Entry with its hashes.
#[derive(Debug, PartialEq, Eq)]
pub struct EntryLine {
    /// Hashed bytes.
    pub payload: Vec<u8>,
    /// Salt that is hashed before the payload.
    pub salt: Salt,
    /// Hash of the previous entry.
    pub prev_hash: Hash,
    /// Hash of this entry.
    pub hash: Hash,
}

/// Rest of a redacted entry.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedactedLine {
    /// ID of the entry.
    pub id: AuditId,
    /// Number in the chain.
    pub seq: i64,
    /// Project, or `None` for the deployment's chain.
    pub project_id: Option<ProjectId>,
    /// Hash of the deleted content.
    #[serde(with = "hex_bytes")]
    pub payload_hash: Hash,
    /// Hash of the previous entry.
    #[serde(with = "hex_bytes")]
    pub prev_hash: Hash,
    /// Hash of this entry.
    #[serde(with = "hex_bytes")]
    pub hash: Hash,
    /// Always `true`.
    pub redacted: bool,
}

/// Line that is not in the format of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not in the format of an export; if the file was edited or reformatted, export again")]
pub struct InvalidLine;

// Delimiters between the parts of an entry's line.
const SALT: &[u8] = b",\"salt\":\"";
const PREV_HASH: &[u8] = b"\",\"prev_hash\":\"";
const HASH: &[u8] = b"\",\"hash\":\"";
const END: &[u8] = b"\"}";
const MISMATCHES: &str = ",\"stored_as\":";

/// Line of an entry as it is in the database, without the newline. The line also shows columns that were manipulated.
pub fn entry(entry: &StoredEntry) -> Vec<u8> {
    let StoredEntry { id, seq, prev_hash, hash, payload_hash, .. } = entry;
    match (&entry.payload, &entry.salt) {
        (Some(payload), Some(salt)) => match column_mismatches(entry, payload, salt) {
            mismatches if mismatches.is_empty() => entry_line(payload, salt, prev_hash, hash),
            mismatches => {
                let body = payload.strip_suffix(b"}").unwrap_or(payload);
                let mismatches = Value::Object(mismatches).to_string();
                let marked = [body, MISMATCHES.as_bytes(), mismatches.as_bytes(), b"}"].concat();
                entry_line(&marked, salt, prev_hash, hash)
            }
        },
        _ => redacted_line(*id, *seq, entry.project_id, [payload_hash, prev_hash, hash]),
    }
}

/// Columns that differ from the payload. Somebody changed them, so that filters return the entry where it does not
/// belong, or miss it.
fn column_mismatches(entry: &StoredEntry, payload: &[u8], salt: &[u8]) -> Map<String, Value> {
    let Ok(Value::Object(parsed)) = serde_json::from_slice(payload) else { return Map::new() };
    let IndexedColumns { action, actor_id, target_id } = IndexedColumns::from_entry(&parsed);
    let visibility = |action: &str| action.parse().map(|action: Action| action.recorded());
    let is_event = visibility(&action)
        .map(|visibility| visibility == Recorded::Event && parsed.get("outcome") == Some(&json!("success")));
    let payload_hash: Option<Hash> = salt.try_into().ok().map(|salt| payload_hash(salt, payload));
    let columns = [
        ("id", json!(entry.id), parsed.get("id").cloned()),
        ("seq", json!(entry.seq), parsed.get("seq").cloned()),
        ("action", json!(entry.action), Some(json!(action))),
        ("actor_id", json!(entry.actor_id), Some(json!(actor_id))),
        ("target_id", json!(entry.target_id), Some(json!(target_id))),
        // This version does not know which actions of a newer version are events.
        ("is_event", json!(entry.is_event), Some(json!(is_event.unwrap_or(entry.is_event)))),
        ("payload_hash", json!(hex::encode(&entry.payload_hash)), payload_hash.map(|hash| json!(hex::encode(&hash)))),
    ];
    let mismatches = columns.into_iter().filter(|(_, stored, parsed)| parsed.as_ref() != Some(stored));
    mismatches.map(|(name, stored, _)| (name.to_owned(), stored)).collect()
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

/// Anchor line, without the newline.
pub fn anchor(anchor: SignedText) -> Vec<u8> {
    // Cannot fail: contains only strings and numbers.
    serde_json::to_vec(&AnchorLine { anchor }).unwrap_or_default()
}

/// Checkpoint line, without the newline.
pub fn checkpoint(checkpoint: SignedText) -> Vec<u8> {
    serde_json::to_vec(&CheckpointLine { checkpoint }).unwrap_or_default()
}

impl EntryLine {
    fn parse(line: &[u8]) -> Option<Self> {
        let rest = line.strip_suffix(END)?;
        let (rest, hash) = strip_hex_suffix(rest, HASH)?;
        let (rest, prev_hash) = strip_hex_suffix(rest, PREV_HASH)?;
        let (rest, salt) = strip_hex_suffix(rest, SALT)?;
        Some(Self { payload: [rest, b"}"].concat(), salt, prev_hash, hash })
    }
}

/// Splits `text` into the part before `name` and the hexadecimal bytes between `name` and the end.
fn strip_hex_suffix<'a, const N: usize>(text: &'a [u8], name: &[u8]) -> Option<(&'a [u8], [u8; N])> {
    let (rest, digits) = text.split_at_checked(text.len().checked_sub(2 * N)?)?;
    Some((rest.strip_suffix(name)?, hex::decode(std::str::from_utf8(digits).ok()?)?))
}

impl Line {
    /// Parses a line, without the newline.
    pub fn parse(line: &[u8]) -> Result<Self, InvalidLine> {
        let read = if line.starts_with(b"{\"anchor\":") {
            let read = serde_json::from_slice(line).ok();
            read.and_then(|AnchorLine { anchor }: AnchorLine<SignedText>| anchor.to_statement(Statement::Anchor))
                .map(Self::Anchor)
        } else if line.starts_with(b"{\"checkpoint\":") {
            let read = serde_json::from_slice(line).ok();
            read.and_then(|CheckpointLine { checkpoint }: CheckpointLine<SignedText>| {
                checkpoint.to_statement(Statement::Checkpoint)
            })
            .map(Self::Checkpoint)
        } else if line.ends_with(b",\"redacted\":true}") {
            serde_json::from_slice(line).ok().map(Self::Redacted)
        } else {
            EntryLine::parse(line).map(Self::Entry)
        };
        let read = read.ok_or(InvalidLine)?;
        // Accept only the canonical form: another parser could read a different form differently.
        if read.to_bytes() == line { Ok(read) } else { Err(InvalidLine) }
    }

    fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Entry(EntryLine { payload, salt, prev_hash, hash }) => entry_line(payload, salt, prev_hash, hash),
            Self::Redacted(redacted) => {
                let RedactedLine { id, seq, project_id, payload_hash, prev_hash, hash, .. } = redacted;
                redacted_line(*id, *seq, project_id.unwrap_or(DEPLOYMENT), [payload_hash, prev_hash, hash])
            }
            Self::Anchor(signed) => anchor(SignedText::from_statement(signed)),
            Self::Checkpoint(signed) => checkpoint(SignedText::from_statement(signed)),
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

/// Signed end of a chain. Can be verified with the public key only.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SignedText {
    /// Project; null for the deployment's chain.
    pub project_id: Option<ProjectId>,
    /// Number of the last entry that the signature covers.
    pub seq: i64,
    /// Hash of that entry, in hexadecimal.
    pub hash: String,
    /// Time of the signature.
    pub made_at: Timestamp,
    /// Ed25519 public key that verifies the signature, in hexadecimal.
    pub public_key: String,
    /// Ed25519 signature, in hexadecimal.
    pub signature: String,
}

impl SignedText {
    /// Converts a signed end to its text form.
    pub fn from_statement(signed: &SignedStatement) -> Self {
        Self {
            project_id: (signed.project_id != DEPLOYMENT).then_some(signed.project_id),
            seq: signed.seq,
            hash: hex::encode(&signed.hash),
            made_at: signed.made_at,
            public_key: hex::encode(&signed.public_key),
            signature: hex::encode(&signed.signature),
        }
    }

    /// Parses the text form. Returns `None` if the hexadecimal values are invalid.
    pub fn to_statement(&self, statement: Statement) -> Option<SignedStatement> {
        Some(SignedStatement {
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

/// Serde support for hexadecimal hashes.
mod hex_bytes {
    use serde::{Deserialize, Deserializer, de};

    use crate::base::hex;

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
        hex::decode(&String::deserialize(deserializer)?).ok_or_else(|| de::Error::custom("is not a hash"))
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
    fn entry_line_contains_the_hashed_bytes() {
        let Ok(Line::Entry(entry)) = Line::parse(ENTRY.as_bytes()) else { panic!("not an entry") };
        assert_eq!(entry.payload, br#"{"action":"key.created","user_agent":null}"#);
        assert_eq!((entry.salt[1], entry.prev_hash, entry.hash), (1, [0; 32], [0xab; 32]));
        assert_eq!(Line::Entry(entry).to_bytes(), ENTRY.as_bytes());
    }

    #[test]
    fn line_in_another_format_is_rejected() {
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
            assert_eq!(Line::parse(line.as_bytes()).err(), Some(InvalidLine), "{line}");
        }
    }
}
