//! Entries and checkpoints as clients see them, and what they may ask.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use sqlx::FromRow;

use super::{
    line::SignedText,
    model::{Actor, Changes, DEPLOYMENT, Outcome, Target},
};
use crate::base::{
    action::Action,
    clock::Timestamp,
    error::{Code, Error, ItemCode, Result},
    hex,
    id::{AuditId, ProjectId, RequestId},
    page::ListQuery,
    schema::input,
};

/// An entry as the database has it.
#[derive(Debug, FromRow)]
pub struct StoredEntry {
    /// Its project; nil for the deployment's chain.
    pub project_id: ProjectId,
    /// The entry.
    pub id: AuditId,
    /// Its number in the chain.
    pub seq: i64,
    /// What it says; none when it was redacted.
    pub payload: Option<Vec<u8>>,
    /// What it is found by: its own words, unless somebody has changed them; gone when it was redacted.
    pub action: Option<String>,
    /// Who did it.
    pub actor_id: Option<String>,
    /// What it was done to.
    pub target_id: Option<String>,
    /// Whether it is shown as an event.
    pub is_event: bool,
    /// What was hashed before what it says.
    pub salt: Option<Vec<u8>>,
    /// The hash of both.
    pub payload_hash: Vec<u8>,
    /// The hash of the entry before it.
    pub prev_hash: Vec<u8>,
    /// Its own.
    pub hash: Vec<u8>,
}

/// An entry of the audit trail. Of one that was redacted only its place in the chain is left: `redacted` is true, and
/// whatever it said is null.
// What it said is shown as it was sealed: a newer version may have sealed a word that this one does not know.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AuditEntry")]
pub struct Entry {
    /// The entry's id.
    pub id: AuditId,
    /// Its number in the project's chain, from 1.
    pub seq: i64,
    /// The project.
    pub project_id: Option<ProjectId>,
    /// When it happened.
    #[schemars(with = "Option<Timestamp>")]
    pub occurred_at: Value,
    /// Who did it.
    #[schemars(with = "Option<Actor>")]
    pub actor: Value,
    /// What was done.
    #[schemars(with = "Option<Action>")]
    pub action: Value,
    /// What it was done to; null if it was to nothing that has an id.
    #[schemars(with = "Option<Target>")]
    pub target: Value,
    /// What came of it.
    #[schemars(with = "Option<Outcome>")]
    pub outcome: Value,
    /// The request that did it.
    #[schemars(with = "Option<RequestId>")]
    pub request_id: Value,
    /// The client's address.
    #[schemars(with = "Option<String>")]
    pub source_ip: Value,
    /// Which step of which trace the request was (W3C Trace Context).
    #[schemars(with = "Option<String>")]
    pub traceparent: Value,
    /// What the client says that it is.
    #[schemars(with = "Option<String>")]
    pub user_agent: Value,
    /// The public members of what was made, or `[old, new]` of each that changed.
    #[schemars(with = "Option<Changes>")]
    pub changes: Value,
    /// The hash of the entry before it, in hexadecimal; zeros before the first.
    pub prev_hash: String,
    /// Its own hash, which stands for everything up to it.
    pub hash: String,
    /// Whether what it said was deleted.
    pub redacted: bool,
}

impl Entry {
    /// As clients see it.
    pub fn of(stored: StoredEntry) -> Result<Self> {
        let redacted = stored.payload.is_none();
        let mut said: Value = match &stored.payload {
            Some(payload) => serde_json::from_slice(payload).map_err(Error::internal)?,
            None => Value::Null,
        };
        let mut take = |name: &str| said.get_mut(name).map(Value::take).unwrap_or_default();
        Ok(Self {
            id: stored.id,
            seq: stored.seq,
            project_id: (stored.project_id != DEPLOYMENT).then_some(stored.project_id),
            occurred_at: take("occurred_at"),
            actor: take("actor"),
            action: take("action"),
            target: take("target"),
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

/// A checkpoint as the database has it.
#[derive(Debug, FromRow)]
pub struct StoredCheckpoint {
    /// The checkpoint.
    pub id: AuditId,
    project_id: ProjectId,
    seq: i64,
    hash: Vec<u8>,
    made_at: Timestamp,
    public_key: Vec<u8>,
    signature: Vec<u8>,
}

/// The end of a chain at some time, signed. A copy that is kept elsewhere shows a chain that was cut off or made anew.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Checkpoint {
    /// The checkpoint's id, which is also that of the entry that tells of it.
    pub id: AuditId,
    /// What was signed.
    #[serde(flatten)]
    pub signed: SignedText,
}

impl Checkpoint {
    /// As clients see it.
    pub fn of(stored: StoredCheckpoint) -> Self {
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

/// An action, described where it stands: a parameter's schema can refer to none.
struct ActionInPlace;

impl JsonSchema for ActionInPlace {
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

/// What an actor looks like, roughly: the format says more.
const ACTOR: &str = r"^[A-Za-z0-9._]([A-Za-z0-9 ._-]*[A-Za-z0-9._-])?\$?$";
const ACTOR_FORM: &str = "the id of a user, key or token, or the name of an operator's account";
/// What the ids look like that an entry can have as its target.
const TARGET: &str = "^(proj|key|tok|usr|sess|inv|wh|dlv|aud|res|op)_[1-9a-f][0-9a-f]{0,31}$";
const TARGET_FORM: &str = "the id of a thing, such as a key, a user or a project";

/// Which entries are asked for.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct EntryFilter {
    /// The project; needed with a session, whose user may see several.
    pub project_id: Option<String>,
    /// Only what happened then or later.
    pub from: Option<Timestamp>,
    /// Only what happened before then.
    pub to: Option<Timestamp>,
    /// Only what this one did: the id of a user, a key or a token, or the name of an operator's account.
    #[schemars(length(min = 1, max = 200), regex(pattern = ACTOR), extend("format" = "actor", "x-form" = ACTOR_FORM), example = &"usr_8f2")]
    pub actor: Option<String>,
    /// Only this.
    #[schemars(with = "Option<ActionInPlace>")]
    pub action: Option<Action>,
    /// Only what was done to this: an id.
    #[schemars(regex(pattern = TARGET), extend("x-form" = TARGET_FORM), example = &"key_7d1")]
    pub target: Option<String>,
}

impl EntryFilter {
    /// Refuses a span of time that nothing can be in.
    pub fn check(&self) -> Result<()> {
        match (self.from, self.to) {
            (Some(from), Some(to)) if from >= to => Err(Error::new(
                Code::InvalidParameter,
                format!("'from': {from} is not before {to}; begin earlier or end later"),
            )
            .at_parameter("from", ItemCode::OutOfRange)),
            _ => Ok(()),
        }
    }
}

/// How an export is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Format {
    /// A JSON object a line, with all that it takes to check it; the last line is a signed checkpoint.
    #[default]
    Ndjson,
    /// A table to read. Nothing in it can be checked.
    Csv,
}

impl Format {
    /// As it is asked for.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
        }
    }
}

/// What is exported, and how.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ExportQuery {
    /// The project; needed with a session, whose user may see several.
    pub project_id: Option<String>,
    /// How it is written; `ndjson` when left out.
    #[schemars(extend("default" = Format::Ndjson))]
    pub format: Option<Format>,
}

input!(ListQuery<EntryFilter>, ExportQuery);
