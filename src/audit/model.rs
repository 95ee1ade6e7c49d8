//! Content of an audit entry before it is sealed.

use std::{borrow::Cow, net::IpAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::base::{
    action::Action,
    id::{Id, Kind, ProjectId, RequestId, SessionId, UserId},
    identity::{caller::Caller, credential::CredentialId, secret::Secret},
    runtime::{
        clock::Timestamp,
        request::{Origin, RequestContext},
    },
};

/// Nil project ID, which identifies the deployment's chain: entries that belong to no project.
pub const DEPLOYMENT: ProjectId = ProjectId::NIL;
/// Action of a staged text that is not a valid entry and was not staged by this software.
pub const UNREADABLE: Action = Action::AuditUnreadable;
/// Maximum number of characters of a user agent that are kept.
const USER_AGENT_CHARS: usize = 256;
/// Maximum number of characters of an invalid staged text that are kept.
const UNREADABLE_CHARS: usize = 4096;
/// Maximum length of an action, actor ID or target ID in bytes. Real ones are shorter; index rows are limited in size.
const MAX_COLUMN_BYTES: usize = 200;

/// Type of actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum ActorType {
    /// User with a session.
    User,
    /// API key.
    Key,
    /// Token.
    Token,
    /// Operator with a command.
    Operator,
    /// The server.
    System,
    /// Client without a valid credential.
    Anonymous,
}

/// Actor: the user, credential or system component that performed the action.
// Members are in alphabetical order, as in all sealed data.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Actor {
    /// ID of the credential; null if there was none.
    pub credential_id: Option<String>,
    /// ID of the user, key or token. For the operator, the name of the account on the server's machine, if known.
    pub id: Option<String>,
    /// Type of actor.
    #[serde(rename = "type")]
    pub kind: ActorType,
}

impl Actor {
    /// Actor of `request`.
    pub fn from_request(request: &RequestContext) -> Self {
        match (&request.origin, request.caller.get()) {
            (Origin::Operator(name), _) => Self { credential_id: None, id: name.clone(), kind: ActorType::Operator },
            (Origin::System, _) => Self::system(),
            (Origin::Client, None) => Self::anonymous(),
            (Origin::Client, Some(caller)) => match &**caller {
                Caller::Session { id, user_id, .. } => Self::user(*user_id, *id),
                caller => Self::credential(caller.credential_id()),
            },
        }
    }

    /// The server.
    pub const fn system() -> Self {
        Self { credential_id: None, id: None, kind: ActorType::System }
    }

    /// User with a session, including a session that this request created.
    pub fn user(id: UserId, session: SessionId) -> Self {
        Self { credential_id: Some(session.to_string()), id: Some(id.to_string()), kind: ActorType::User }
    }

    /// Credential that acts for itself.
    pub fn credential(credential: CredentialId) -> Self {
        let kind = match credential {
            CredentialId::Session(_) => ActorType::User,
            CredentialId::Key(_) => ActorType::Key,
            CredentialId::Token(_) => ActorType::Token,
        };
        let id = credential.to_string();
        Self { credential_id: Some(id.clone()), id: Some(id), kind }
    }

    /// Client without a valid credential.
    pub const fn anonymous() -> Self {
        Self { credential_id: None, id: None, kind: ActorType::Anonymous }
    }
}

/// Object of an action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Target {
    /// ID of the object.
    pub id: String,
    /// Type of the object, such as `project`, `key` or `resource`. An audit entry is an `entry`.
    #[serde(rename = "type")]
    pub kind: Cow<'static, str>,
}

impl Target {
    /// Target with this ID.
    pub fn new<K: Kind>(id: Id<K>) -> Self {
        Self { id: id.to_string(), kind: K::type_name().into() }
    }
}

/// Outcome of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Outcome {
    /// The action succeeded.
    Success,
    /// The action was not permitted.
    Denied,
    /// The action was attempted with invalid credentials.
    Failed,
}

/// Type that may be written into the trail: the public members of an object, as every reader of the object sees them.
/// Do not implement it for types that contain secrets.
pub trait Audited: Serialize {}

/// Changes by member name.
pub type Changes = Map<String, Value>;

/// Public members of `thing`.
pub fn members(object: &impl Audited) -> Changes {
    match serde_json::to_value(object) {
        Ok(Value::Object(members)) => members,
        // Unreachable: every implementation serializes to an object of plain members.
        _ => Changes::new(),
    }
}

/// Difference between two sets of members: `[old, new]` for each changed member; null for a missing value.
pub fn difference(mut before: Changes, after: Changes) -> Changes {
    let mut changes = Changes::new();
    for (name, new) in after {
        let old = before.remove(&name).unwrap_or_default();
        if old != new {
            changes.insert(name, json!([old, new]));
        }
    }
    changes.extend(before.into_iter().filter(|(_, old)| !old.is_null()).map(|(name, old)| (name, json!([old, null]))));
    changes
}

/// Content of an entry, without its position in the chain.
// Members are in alphabetical order: staged text is sealed unchanged.
#[derive(Clone, Debug, Serialize)]
pub struct Draft {
    /// Action.
    pub action: Action,
    /// Actor.
    pub actor: Actor,
    /// Changes.
    pub changes: Changes,
    /// Time of the action.
    pub occurred_at: Timestamp,
    /// Outcome.
    pub outcome: Outcome,
    /// Request ID.
    pub request_id: Option<RequestId>,
    /// Address of the client.
    pub source_ip: Option<IpAddr>,
    /// Object of the action.
    pub target: Option<Target>,
    /// Trace and span of the request (W3C Trace Context).
    pub traceparent: Option<String>,
    /// User agent of the client.
    pub user_agent: Option<String>,
}

impl Draft {
    /// Text that is staged.
    pub fn to_text(&self) -> String {
        // Cannot fail: all map keys are strings.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// User agent of a request, without control characters and secrets, and truncated.
pub fn user_agent(request: &RequestContext) -> Option<String> {
    let text = request.user_agent.as_deref()?;
    let plain: String = text.chars().filter(|character| !character.is_control()).collect();
    Some(Secret::redact(&plain).chars().take(USER_AGENT_CHARS).collect())
}

/// Values of an entry that lists are filtered by. They are also stored as columns, which must be equal to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexedColumns {
    /// Action, by its current name. A sealed entry may contain a former name.
    pub action: String,
    /// ID of the actor, if known.
    pub actor_id: Option<String>,
    /// ID of the target, if the target has one.
    pub target_id: Option<String>,
}

impl IndexedColumns {
    /// Values of an entry.
    pub fn from_entry(entry: &Map<String, Value>) -> Self {
        let id = |name: &str| entry.get(name).and_then(|object| object.get("id")?.as_str()).map(str::to_owned);
        let action =
            entry.get("action").and_then(Value::as_str).map(Action::current_name).unwrap_or_default().to_owned();
        Self { action, actor_id: id("actor"), target_id: id("target") }
    }
}

/// Parsed staged entry: the values that the sealer needs, and all members.
#[derive(Debug)]
pub struct StagedEntry {
    /// Values that lists are filtered by. The action is unknown to this version if a newer one staged the entry.
    pub columns: IndexedColumns,
    /// Time of the action.
    pub occurred_at: Timestamp,
    /// Whether the action succeeded.
    pub is_success: bool,
    /// All members.
    pub members: Map<String, Value>,
}

impl StagedEntry {
    /// Parses a staged text. An invalid text, which only somebody with the database's password can have staged, is
    /// replaced by an entry that contains it. Sealing continues, and the trail shows the manipulation.
    pub fn parse(text: &str, now: Timestamp) -> Self {
        Self::try_parse(text).unwrap_or_else(|| {
            tracing::error!(
                target: "cloudapi::audit",
                "invalid entry, not staged by this server, found for the audit trail; sealed as audit.unreadable"
            );
            Self::unreadable(text, now)
        })
    }

    fn try_parse(text: &str) -> Option<Self> {
        let Value::Object(members) = serde_json::from_str(text).ok()? else { return None };
        let column_text =
            |value: &Value| value.as_str().filter(|text| text.len() <= MAX_COLUMN_BYTES).map(str::to_owned);
        let has_valid_id = |name: &str| match members.get(name)? {
            Value::Null => Some(()),
            Value::Object(object) => match object.get("id")? {
                Value::Null => Some(()),
                id => column_text(id).map(drop),
            },
            _ => None,
        };
        has_valid_id("actor")?;
        has_valid_id("target")?;
        column_text(members.get("action")?)?;
        let occurred_at = Timestamp::parse(members.get("occurred_at")?.as_str()?)?;
        let is_success = members.get("outcome")?.as_str()? == "success";
        // The PostgreSQL type `text` cannot contain NUL.
        let has_nul = members.iter().any(|(name, value)| name.contains('\0') || has_nul(value));
        (!has_nul).then_some(Self { columns: IndexedColumns::from_entry(&members), occurred_at, is_success, members })
    }

    fn unreadable(text: &str, now: Timestamp) -> Self {
        let excerpt: String = text.chars().take(UNREADABLE_CHARS).collect();
        let changes = [("staged".to_owned(), Value::String(excerpt))].into_iter().collect();
        Self::from_draft(Draft::by_system(UNREADABLE, Outcome::Failed, changes, now))
    }

    /// Entry that the sealer itself adds to the trail.
    pub fn from_draft(draft: Draft) -> Self {
        let (occurred_at, is_success) = (draft.occurred_at, draft.outcome == Outcome::Success);
        let members = match serde_json::to_value(draft) {
            Ok(Value::Object(members)) => members,
            _ => Map::new(),
        };
        Self { columns: IndexedColumns::from_entry(&members), occurred_at, is_success, members }
    }
}

impl Draft {
    /// Draft for an action of the server outside of any request.
    pub fn by_system(action: Action, outcome: Outcome, changes: Changes, now: Timestamp) -> Self {
        Self {
            action,
            actor: Actor::system(),
            changes,
            occurred_at: now,
            outcome,
            request_id: None,
            source_ip: None,
            target: None,
            traceparent: None,
            user_agent: None,
        }
    }
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(members) => members.iter().any(|(name, value)| name.contains('\0') || has_nul(value)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{
        id::{AuditId, KeyId},
        identity::secret::SecretKind,
    };

    fn changes(value: Value) -> Changes {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn difference_has_old_and_new_value_of_changed_members_only() {
        let before = changes(json!({ "a": 1, "b": [1], "c": null, "d": "x", "f": null }));
        let after = changes(json!({ "a": 1, "b": [2], "c": 3, "e": {} }));
        let expected = json!({ "b": [[1], [2]], "c": [null, 3], "d": ["x", null], "e": [null, {}] });
        assert_eq!(Value::Object(difference(before, after)), expected);
    }

    #[test]
    fn target_type_is_the_noun_of_its_id() {
        assert_eq!(Target::new(KeyId::from_u128(0x7d1)), Target { id: "key_7d1".into(), kind: "key".into() });
        assert_eq!(Target::new(AuditId::from_u128(1)).kind, "entry");
    }

    #[test]
    fn user_agent_is_kept_without_control_characters_and_secrets() {
        let sanitized = |text: &str| user_agent(&RequestContext::new(None, Some(text.into())));
        let secret = Secret::generate(SecretKind::Token);
        assert_eq!(sanitized(&format!("curl/8\t{}x", secret.expose())).as_deref(), Some("curl/8x"));
        assert_eq!(sanitized(&"é".repeat(300)).map(|text| text.chars().count()), Some(256));
        assert_eq!(user_agent(&RequestContext::new(None, None)), None);
    }

    #[test]
    fn staged_text_is_canonical() {
        let now = Timestamp::parse("2026-03-01T00:00:00Z").unwrap();
        let changes = changes(json!({ "b": { "z": 1, "a": "é\u{1f}\"" }, "a": null }));
        let text = Draft::by_system(Action::KeyCreated, Outcome::Success, changes, now).to_text();
        assert_eq!(
            text,
            r#"{"action":"key.created","actor":{"credential_id":null,"id":null,"type":"system"},"changes":{"a":null,"b":{"a":"é\u001f\"","z":1}},"occurred_at":"2026-03-01T00:00:00.000Z","outcome":"success","request_id":null,"source_ip":null,"target":null,"traceparent":null,"user_agent":null}"#
        );
        assert_eq!(Value::Object(StagedEntry::parse(&text, now).members).to_string(), text);
    }

    #[test]
    fn invalid_staged_text_becomes_an_unreadable_entry() {
        let now = Timestamp::parse("2026-03-01T00:00:00Z").unwrap();
        let long = format!(r#"{{"action":"{}"}}"#, "x".repeat(300));
        let valid = Draft::by_system(Action::KeyCreated, Outcome::Success, Changes::new(), now).to_text();
        let nul = valid.replace("{}", r#"{"a":["\u0000"]}"#);
        for text in ["", "nonsense", "[]", "{}", &long, &nul, r#"{"a":1e999}"#, &"[".repeat(10_000)] {
            let staged = StagedEntry::parse(text, now);
            let excerpt: String = text.chars().take(UNREADABLE_CHARS).collect();
            assert_eq!((staged.columns.action.as_str(), staged.is_success), ("audit.unreadable", false));
            assert_eq!(staged.members["changes"]["staged"], excerpt);
        }
        // An action of a newer version is sealed as it is.
        let newer = valid.replace("key.created", "key.admired");
        assert_eq!(StagedEntry::parse(&newer, now).columns.action, "key.admired");
    }
}
