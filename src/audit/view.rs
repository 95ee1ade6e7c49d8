//! Entries, checkpoints and query parameters of the API.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use sqlx::FromRow;

use crate::{
    audit::{
        chain::line::SignedText,
        model::{Actor, Changes, DEPLOYMENT, Outcome, Target},
    },
    base::{
        action::Action,
        error::{Code, Error, ItemCode, Result},
        etag::{EntityTag, Versioned},
        hex,
        id::{self, AuditId, Kind, ProjectId, RequestId},
        input::{page::ListQuery, schema::input},
        runtime::clock::Timestamp,
    },
};

/// Entry as stored in the database.
#[derive(Debug, FromRow)]
pub struct StoredEntry {
    /// Project; nil for the deployment's chain.
    pub project_id: ProjectId,
    /// ID of the entry.
    pub id: AuditId,
    /// Number in the chain.
    pub seq: i64,
    /// Content; none if redacted.
    pub payload: Option<Vec<u8>>,
    /// Action, as a filter column; none if redacted. Equal to the action in the payload unless somebody changed it.
    pub action: Option<String>,
    /// ID of the actor, as a filter column.
    pub actor_id: Option<String>,
    /// ID of the target, as a filter column.
    pub target_id: Option<String>,
    /// Whether the entry is an event.
    pub is_event: bool,
    /// Salt that is hashed before the payload.
    pub salt: Option<Vec<u8>>,
    /// Hash of salt and payload.
    pub payload_hash: Vec<u8>,
    /// Hash of the previous entry.
    pub prev_hash: Vec<u8>,
    /// Hash of this entry.
    pub hash: Vec<u8>,
}

/// Entry of the audit trail. A redacted entry keeps only its position in the chain: `redacted` is true, and all members
/// of its content are null.
// Members of the content are shown as they were sealed: a newer version may have sealed an action that this one does
// not know.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AuditEntry")]
pub struct Entry {
    /// ID of the entry.
    pub id: AuditId,
    /// Sequence number in the project's chain, from 1.
    pub seq: i64,
    /// Project ID.
    pub project_id: Option<ProjectId>,
    /// Time of the action.
    #[schemars(with = "Option<Timestamp>")]
    pub occurred_at: Value,
    /// Actor.
    #[schemars(with = "Option<Actor>")]
    pub actor: Value,
    /// Current name of the actor: the email address of a user, the name of a key or token. null if there is none, or if
    /// it does not exist any more.
    pub actor_name: Option<String>,
    /// Action.
    #[schemars(with = "Option<Action>")]
    pub action: Value,
    /// Object of the action; null if the action has none with an ID.
    #[schemars(with = "Option<Target>")]
    pub target: Value,
    /// Current name of the object, like that of the actor; the URL of a webhook.
    pub target_name: Option<String>,
    /// Outcome.
    #[schemars(with = "Option<Outcome>")]
    pub outcome: Value,
    /// ID of the request.
    #[schemars(with = "Option<RequestId>")]
    pub request_id: Value,
    /// IP address of the client.
    #[schemars(with = "Option<String>")]
    pub source_ip: Value,
    /// Trace and span of the request (W3C Trace Context).
    #[schemars(with = "Option<String>")]
    pub traceparent: Value,
    /// User agent that the client sent.
    #[schemars(with = "Option<String>")]
    pub user_agent: Value,
    /// Public members of a new object, or `[old, new]` for each changed member.
    #[schemars(with = "Option<Changes>")]
    pub changes: Value,
    /// Hash of the previous entry, in hexadecimal; zeros for the first entry.
    pub prev_hash: String,
    /// Hash of this entry, in hexadecimal. Covers all earlier entries.
    pub hash: String,
    /// Whether the content was deleted.
    pub redacted: bool,
}

impl Entry {
    /// Converts a stored entry. [`names`](super::names) sets the names.
    pub fn from_stored(stored: StoredEntry) -> Result<Self> {
        let redacted = stored.payload.is_none();
        let mut content: Value = match &stored.payload {
            Some(payload) => serde_json::from_slice(payload).map_err(Error::internal)?,
            None => Value::Null,
        };
        let mut take = |name: &str| content.get_mut(name).map(Value::take).unwrap_or_default();
        Ok(Self {
            id: stored.id,
            seq: stored.seq,
            project_id: (stored.project_id != DEPLOYMENT).then_some(stored.project_id),
            occurred_at: take("occurred_at"),
            actor: take("actor"),
            actor_name: None,
            action: take("action"),
            target: take("target"),
            target_name: None,
            outcome: take("outcome"),
            request_id: take("request_id"),
            source_ip: take("source_ip"),
            traceparent: take("traceparent"),
            user_agent: take("user_agent"),
            changes: take("changes"),
            prev_hash: hex::encode(&stored.prev_hash),
            hash: hex::encode(&stored.hash),
            redacted,
        })
    }
}

impl Versioned for Entry {
    fn etag(&self) -> EntityTag {
        EntityTag::of(self, &["actor_name", "target_name"])
    }
}

/// Checkpoint as stored in the database.
#[derive(Debug, FromRow)]
pub struct StoredCheckpoint {
    /// ID of the checkpoint.
    pub id: AuditId,
    project_id: ProjectId,
    seq: i64,
    hash: Vec<u8>,
    made_at: Timestamp,
    public_key: Vec<u8>,
    signature: Vec<u8>,
}

/// Signed end of a chain at a point in time. Compared with a copy that is stored elsewhere, a truncated or rebuilt chain
/// is detected.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Checkpoint {
    /// ID of the checkpoint, equal to the ID of the entry that records it.
    pub id: AuditId,
    /// Signed statement.
    #[serde(flatten)]
    pub signed: SignedText,
}

impl Checkpoint {
    /// Converts a stored checkpoint.
    pub fn from_stored(stored: StoredCheckpoint) -> Self {
        let signed = SignedText {
            project_id: (stored.project_id != DEPLOYMENT).then_some(stored.project_id),
            seq: stored.seq,
            hash: hex::encode(&stored.hash),
            made_at: stored.made_at,
            public_key: hex::encode(&stored.public_key),
            signature: hex::encode(&stored.signature),
        };
        Self { id: stored.id, signed }
    }
}

/// Action with an inline schema: the schema of a parameter cannot contain references.
struct InlineAction;

impl JsonSchema for InlineAction {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        Action::schema_name()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Action::json_schema(generator)
    }
}

/// Approximate pattern of an actor. The format `actor` is stricter.
const ACTOR: &str = r"^[A-Za-z0-9._]([A-Za-z0-9 ._-]*[A-Za-z0-9._-])?\$?$";
const ACTOR_FORM: &str = "the id of a user, key or token, or the name of an operator's account";
/// Pattern of target IDs: of every kind, except those that no entry has as its target.
fn target_pattern() -> String {
    let is_target = |prefix: &&&str| ![id::Event::PREFIX, id::Request::PREFIX].contains(*prefix);
    let prefixes: Vec<&str> = id::PREFIXES.iter().filter(is_target).copied().collect();
    format!("^({})_[1-9a-f][0-9a-f]{{0,31}}$", prefixes.join("|"))
}

const TARGET_FORM: &str = "the id of an object, such as a key, a user or a project";

/// Filter for entries.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct EntryFilter {
    /// Project ID. Required with a session, which can see several projects.
    pub project_id: Option<String>,
    /// Start of the time range, inclusive.
    pub from: Option<Timestamp>,
    /// End of the time range, exclusive.
    pub to: Option<Timestamp>,
    /// Actor: the ID of a user, key or token, or the name of an operator's account.
    #[schemars(length(min = 1, max = 200), regex(pattern = ACTOR), extend("format" = "actor", "x-form" = ACTOR_FORM), example = &"usr_8f2")]
    pub actor: Option<String>,
    /// Action.
    #[schemars(with = "Option<InlineAction>")]
    pub action: Option<Action>,
    /// ID of the target.
    #[schemars(regex(pattern = target_pattern()), extend("x-form" = TARGET_FORM), example = &"key_7d1")]
    pub target: Option<String>,
}

impl EntryFilter {
    /// Rejects an empty time range.
    pub fn check(&self) -> Result<()> {
        match (self.from, self.to) {
            (Some(from), Some(to)) if from >= to => Err(Error::new(
                Code::InvalidParameter,
                format!("'from': {from} is not before 'to', {to}; use an earlier start or a later end"),
            )
            .at_parameter("from", ItemCode::OutOfRange)),
            _ => Ok(()),
        }
    }
}

/// Format of an export.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Format {
    /// One JSON object per line, with everything that is needed to verify it; the last line is a signed checkpoint.
    #[default]
    Ndjson,
    /// Table for reading, which cannot be verified.
    Csv,
}

impl Format {
    /// Name in the query parameter.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
        }
    }
}

/// Query parameters of an export.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ExportQuery {
    /// Project ID. Required with a session, which can see several projects.
    pub project_id: Option<String>,
    /// Format; default `ndjson`.
    #[schemars(extend("default" = Format::Ndjson))]
    pub format: Option<Format>,
}

input!(ListQuery<EntryFilter>, ExportQuery);
