//! What an entry of the audit trail says, before it has its place there.

use std::{borrow::Cow, net::IpAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::base::{
    action::Action,
    caller::Caller,
    clock::Timestamp,
    credential::CredentialId,
    id::{Id, Kind, ProjectId, RequestId, SessionId, UserId},
    request::{Origin, RequestContext},
    secret::Secret,
};

/// What stands for the project of entries that belong to none: the deployment's chain.
pub const DEPLOYMENT: ProjectId = ProjectId::NOTHING;
/// The action of an entry that was staged by something else than this software, and is no entry.
pub const UNREADABLE: Action = Action::AuditUnreadable;
/// How much is kept of what a client says that it is.
const USER_AGENT_CHARS: usize = 256;
/// How much is kept of what was staged and is no entry.
const UNREADABLE_CHARS: usize = 4096;
/// No action, actor or target of ours is written as long as this; indexes hold nothing very long.
const MAX_WORD: usize = 200;

/// What kind of actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum ActorType {
    /// A user, by a session.
    User,
    /// A key.
    Key,
    /// A token.
    Token,
    /// The operator, by a command.
    Operator,
    /// The server itself.
    System,
    /// Nobody who has shown who they are.
    Anonymous,
}

/// Who did something.
// Members in the order of their names, as everything that is sealed has them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Actor {
    /// The credential that was shown; null where none was.
    pub credential_id: Option<String>,
    /// The user, key or token; for the operator the name of the account on the server's machine, if there is one.
    pub id: Option<String>,
    /// What kind of actor.
    #[serde(rename = "type")]
    pub kind: ActorType,
}

impl Actor {
    /// Whoever made `request`.
    pub fn of(request: &RequestContext) -> Self {
        match (&request.origin, request.caller.get()) {
            (Origin::Operator(name), _) => Self { credential_id: None, id: name.clone(), kind: ActorType::Operator },
            (Origin::System, _) => Self::system(),
            (Origin::Client, None) => Self::anonymous(),
            (Origin::Client, Some(caller)) => match &**caller {
                Caller::Session { id, user_id } => Self::user(*user_id, *id),
                caller => Self::credential(caller.credential_id()),
            },
        }
    }

    /// The server itself.
    pub const fn system() -> Self {
        Self { credential_id: None, id: None, kind: ActorType::System }
    }

    /// A user, by a session that they have, or have just been given.
    pub fn user(id: UserId, session: SessionId) -> Self {
        Self { credential_id: Some(session.to_string()), id: Some(id.to_string()), kind: ActorType::User }
    }

    /// A credential that acts for itself.
    pub fn credential(credential: CredentialId) -> Self {
        let kind = match credential {
            CredentialId::Session(_) => ActorType::User,
            CredentialId::Key(_) => ActorType::Key,
            CredentialId::Token(_) => ActorType::Token,
        };
        let id = credential.to_string();
        Self { credential_id: Some(id.clone()), id: Some(id), kind }
    }

    /// Nobody who has shown who they are.
    pub const fn anonymous() -> Self {
        Self { credential_id: None, id: None, kind: ActorType::Anonymous }
    }
}

/// What something was done to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Target {
    /// Its id.
    pub id: String,
    /// What kind of thing it is: `project`, `key`, `token`, `user`, `session`, `webhook`, `delivery`, `resource`, `operation` or `entry`.
    #[serde(rename = "type")]
    pub kind: Cow<'static, str>,
}

impl Target {
    /// The thing with this id.
    pub fn new<K: Kind>(id: Id<K>) -> Self {
        // "an audit entry" is an entry.
        let kind = K::NOUN.rsplit(' ').next().unwrap_or(K::NOUN);
        Self { id: id.to_string(), kind: kind.into() }
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Outcome {
    /// It was done.
    Success,
    /// It was not allowed.
    Denied,
    /// It was tried, and something that was shown was wrong.
    Failed,
}

/// What may be written into the trail: the public members of a thing, as everybody who may read it sees them. Not to be
/// implemented for what holds a secret.
pub trait Audited: Serialize {}

/// What changed, by the members' names.
pub type Changes = Map<String, Value>;

/// The public members of `thing`.
pub fn members(thing: &impl Audited) -> Changes {
    match serde_json::to_value(thing) {
        Ok(Value::Object(members)) => members,
        // None of ours is anything else than an object of plain members.
        _ => Changes::new(),
    }
}

/// What differs between two sets of members: of each both values, the old one first; null for none.
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

/// What an entry says, all but its place in the trail.
// Members in the order of their names: what is staged is sealed as it is.
#[derive(Clone, Debug, Serialize)]
pub struct Draft {
    /// What was done.
    pub action: Action,
    /// Who did it.
    pub actor: Actor,
    /// What changed.
    pub changes: Changes,
    /// When.
    pub occurred_at: Timestamp,
    /// What came of it.
    pub outcome: Outcome,
    /// In which request.
    pub request_id: Option<RequestId>,
    /// From which address.
    pub source_ip: Option<IpAddr>,
    /// What it was done to.
    pub target: Option<Target>,
    /// Which step of which trace the request was (W3C Trace Context).
    pub traceparent: Option<String>,
    /// By what kind of client, in its own words.
    pub user_agent: Option<String>,
}

impl Draft {
    /// As it is staged.
    pub fn to_text(&self) -> String {
        // A map with names for keys, and nothing else that can fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// What a client says that it is, as far as it can be kept: no control characters, no secrets, not very long.
pub fn user_agent(request: &RequestContext) -> Option<String> {
    let text = request.user_agent.as_deref()?;
    let plain: String = text.chars().filter(|character| !character.is_control()).collect();
    Some(Secret::strike(&plain).chars().take(USER_AGENT_CHARS).collect())
}

/// The words of an entry by which lists are filtered. They are kept beside the entry too, and must be these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    /// What was done, by its current name: a sealed entry may say it by a former one.
    pub action: String,
    /// Who did it, if that is known.
    pub actor_id: Option<String>,
    /// What it was done to, if that is a thing.
    pub target_id: Option<String>,
}

impl Words {
    /// Those of an entry.
    pub fn of(entry: &Map<String, Value>) -> Self {
        let id = |of: &str| entry.get(of).and_then(|thing| thing.get("id")?.as_str()).map(str::to_owned);
        let action =
            entry.get("action").and_then(Value::as_str).map(Action::current_name).unwrap_or_default().to_owned();
        Self { action, actor_id: id("actor"), target_id: id("target") }
    }
}

/// What was staged, looked at: what the sealer has to know of it, and all that it says.
#[derive(Debug)]
pub struct Staged {
    /// What lists are filtered by. Its action is a word that this version does not know if a newer one has staged it.
    pub words: Words,
    /// When.
    pub occurred_at: Timestamp,
    /// Whether it was done.
    pub is_success: bool,
    /// Everything.
    pub members: Map<String, Value>,
}

impl Staged {
    /// Reads a staged text. What is no entry, which only somebody with the database's own password can have staged, is
    /// made into one that tells of it: the trail goes on, and shows it.
    pub fn read(text: &str, now: Timestamp) -> Self {
        Self::understand(text).unwrap_or_else(|| {
            tracing::error!(
                target: "cloudapi::audit",
                "something else than an entry was staged for the audit trail, by somebody else than this server; it is sealed as audit.unreadable"
            );
            Self::unreadable(text, now)
        })
    }

    fn understand(text: &str) -> Option<Self> {
        let Value::Object(members) = serde_json::from_str(text).ok()? else { return None };
        let word = |value: &Value| value.as_str().filter(|word| word.len() <= MAX_WORD).map(str::to_owned);
        let is_named = |name: &str| match members.get(name)? {
            Value::Null => Some(()),
            Value::Object(thing) => match thing.get("id")? {
                Value::Null => Some(()),
                id => word(id).map(drop),
            },
            _ => None,
        };
        is_named("actor")?;
        is_named("target")?;
        word(members.get("action")?)?;
        let occurred_at = Timestamp::parse(members.get("occurred_at")?.as_str()?)?;
        let is_success = members.get("outcome")?.as_str()? == "success";
        // A PostgreSQL text has no NUL.
        let has_nul = members.iter().any(|(name, value)| name.contains('\0') || has_nul(value));
        (!has_nul).then_some(Self { words: Words::of(&members), occurred_at, is_success, members })
    }

    fn unreadable(text: &str, now: Timestamp) -> Self {
        let kept: String = text.chars().take(UNREADABLE_CHARS).collect();
        let changes = [("staged".to_owned(), Value::String(kept))].into_iter().collect();
        Self::of(Draft::by_system(UNREADABLE, Outcome::Failed, changes, now))
    }

    /// What the server itself adds to the trail.
    pub fn of(draft: Draft) -> Self {
        let (occurred_at, is_success) = (draft.occurred_at, draft.outcome == Outcome::Success);
        let members = match serde_json::to_value(draft) {
            Ok(Value::Object(members)) => members,
            _ => Map::new(),
        };
        Self { words: Words::of(&members), occurred_at, is_success, members }
    }
}

impl Draft {
    /// Of what the server does by itself, in no request.
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
        secret::SecretKind,
    };

    fn changes(value: Value) -> Changes {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn a_difference_has_both_values_of_what_differs_and_nothing_else() {
        let before = changes(json!({ "a": 1, "b": [1], "c": null, "d": "x", "f": null }));
        let after = changes(json!({ "a": 1, "b": [2], "c": 3, "e": {} }));
        let expected = json!({ "b": [[1], [2]], "c": [null, 3], "d": ["x", null], "e": [null, {}] });
        assert_eq!(Value::Object(difference(before, after)), expected);
    }

    #[test]
    fn a_target_is_called_what_it_is() {
        assert_eq!(Target::new(KeyId::from_u128(0x7d1)), Target { id: "key_7d1".into(), kind: "key".into() });
        assert_eq!(Target::new(AuditId::from_u128(1)).kind, "entry");
    }

    #[test]
    fn a_user_agent_is_kept_without_what_does_not_belong_into_it() {
        let said = |text: &str| user_agent(&RequestContext::new(None, Some(text.into())));
        let secret = Secret::generate(SecretKind::Token);
        assert_eq!(said(&format!("curl/8\t{}x", secret.expose())).as_deref(), Some("curl/8x"));
        assert_eq!(said(&"é".repeat(300)).map(|text| text.chars().count()), Some(256));
        assert_eq!(user_agent(&RequestContext::new(None, None)), None);
    }

    #[test]
    fn what_is_staged_is_written_canonically() {
        let now = Timestamp::parse("2026-03-01T00:00:00Z").unwrap();
        let changes = changes(json!({ "b": { "z": 1, "a": "é\u{1f}\"" }, "a": null }));
        let text = Draft::by_system(Action::KeyCreated, Outcome::Success, changes, now).to_text();
        assert_eq!(
            text,
            r#"{"action":"key.created","actor":{"credential_id":null,"id":null,"type":"system"},"changes":{"a":null,"b":{"a":"é\u001f\"","z":1}},"occurred_at":"2026-03-01T00:00:00.000Z","outcome":"success","request_id":null,"source_ip":null,"target":null,"traceparent":null,"user_agent":null}"#
        );
        assert_eq!(Value::Object(Staged::read(&text, now).members).to_string(), text);
    }

    #[test]
    fn what_is_no_entry_becomes_one_that_tells_of_it() {
        let now = Timestamp::parse("2026-03-01T00:00:00Z").unwrap();
        let long = format!(r#"{{"action":"{}"}}"#, "x".repeat(300));
        let sound = Draft::by_system(Action::KeyCreated, Outcome::Success, Changes::new(), now).to_text();
        let nul = sound.replace("{}", r#"{"a":["\u0000"]}"#);
        for text in ["", "nonsense", "[]", "{}", &long, &nul, r#"{"a":1e999}"#, &"[".repeat(10_000)] {
            let staged = Staged::read(text, now);
            let kept: String = text.chars().take(UNREADABLE_CHARS).collect();
            assert_eq!((staged.words.action.as_str(), staged.is_success), ("audit.unreadable", false));
            assert_eq!(staged.members["changes"]["staged"], kept);
        }
        // A newer version's action is sealed all the same.
        let newer = sound.replace("key.created", "key.admired");
        assert_eq!(Staged::read(&newer, now).words.action, "key.admired");
    }
}
