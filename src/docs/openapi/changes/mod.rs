//! Schema and example of `data.changes` for each event type. The OpenAPI document publishes both, and a test verifies
//! that real events match.

#![allow(clippy::indexing_slicing, reason = "the indexed value is an object built in the same function")]

mod resources;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use crate::{
    api::{
        keys::model::KeyView, projects::model::Project, tokens::model::TokenView, usage::model::QuotaNotice,
        users::model::Member, webhooks::model::WebhookView,
    },
    base::{action::Action, runtime::clock::Timestamp},
};

/// Changes in events of one type.
#[derive(Clone, Copy, Debug)]
pub struct EventSchema {
    /// JSON Schema.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
    /// Type of the object, and an example ID.
    pub target: (&'static str, &'static str),
    /// Example.
    pub example: fn() -> Value,
}

/// Returns the changes in events of this type, or `None` if the action is not an event.
pub fn schema_of(action: Action) -> Option<EventSchema> {
    const PROJECT: (&str, &str) = ("project", "proj_8f2c4");
    const KEY: (&str, &str) = ("key", "key_7d1");
    const TOKEN: (&str, &str) = ("token", "tok_2c9");
    const USER: (&str, &str) = ("user", "usr_8f2");
    const WEBHOOK: (&str, &str) = ("webhook", "wh_6a3");
    let schema_for = |schema, target, example| Some(EventSchema { schema, target, example });
    match action {
        Action::ProjectCreated => schema_for(created::<Project>, PROJECT, project),
        Action::ProjectUpdated => {
            schema_for(updated::<Project>, PROJECT, || json!({ "name": ["Core", "Core Platform"] }))
        }
        Action::ProjectSuspended => {
            schema_for(updated::<Project>, PROJECT, || json!({ "status": ["active", "suspended"] }))
        }
        Action::ProjectResumed => {
            schema_for(updated::<Project>, PROJECT, || json!({ "status": ["suspended", "active"] }))
        }
        Action::ProjectArchived => {
            schema_for(updated::<Project>, PROJECT, || json!({ "status": ["active", "archived"] }))
        }
        Action::ProjectDeleted => schema_for(deleted::<Project>, PROJECT, || deleted_values(project())),
        Action::ProjectQuotaChanged => schema_for(quota, PROJECT, || json!({ "included": [null, 200_000] })),
        Action::KeyCreated => schema_for(created::<KeyView>, KEY, key),
        Action::KeyUpdated => schema_for(updated::<KeyView>, KEY, || json!({ "name": ["CI", "deployment"] })),
        Action::KeyRotated => schema_for(updated::<KeyView>, KEY, || {
            json!({
                "hint": ["sk_live_2f7a", "sk_live_9c1e"],
                "previous_expires_at": [null, "2026-03-02T00:00:00.000Z"],
            })
        }),
        Action::KeyRevoked => schema_for(updated::<KeyView>, KEY, || json!({ "status": ["active", "revoked"] })),
        Action::TokenCreated => schema_for(created::<TokenView>, TOKEN, token),
        Action::TokenRevoked => schema_for(updated::<TokenView>, TOKEN, || json!({ "status": ["active", "revoked"] })),
        Action::UserInvited => schema_for(created::<Member>, USER, || user("invited")),
        Action::UserJoined => schema_for(
            updated::<Member>,
            USER,
            || json!({ "id": ["usr_3e7", "usr_8f2"], "status": ["invited", "active"] }),
        ),
        Action::UserUpdated => schema_for(updated::<Member>, USER, || json!({ "role": ["member", "admin"] })),
        Action::UserRemoved => schema_for(deleted::<Member>, USER, || deleted_values(user("active"))),
        Action::QuotaWarning => schema_for(created::<QuotaNotice>, PROJECT, || notice(80, 160_004)),
        Action::QuotaReached => schema_for(created::<QuotaNotice>, PROJECT, || notice(100, 200_000)),
        Action::WebhookCreated => schema_for(created::<WebhookView>, WEBHOOK, webhook),
        Action::WebhookUpdated => {
            schema_for(updated::<WebhookView>, WEBHOOK, || json!({ "event_types": [["key.created"], []] }))
        }
        Action::WebhookSecretRotated => schema_for(
            updated::<WebhookView>,
            WEBHOOK,
            || json!({ "previous_expires_at": [null, "2026-03-02T00:00:00.000Z"] }),
        ),
        Action::WebhookDisabled => schema_for(
            updated::<WebhookView>,
            WEBHOOK,
            || json!({ "enabled": [true, false], "disabled_reason": [null, "gone"] }),
        ),
        Action::WebhookDeleted => schema_for(deleted::<WebhookView>, WEBHOOK, || deleted_values(webhook())),
        Action::WebhookTested => schema_for(no_changes, WEBHOOK, || json!({})),
        Action::AuditCheckpoint => schema_for(checkpoint, PROJECT, checkpoint_example),
        _ => resources::schema_of(action),
    }
}

/// Members of a new object.
fn created<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// Old and new value of each changed member.
fn updated<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    pairs(&members::<T>(generator), |member| json!([member, member]))
}

/// Former value of each member.
fn deleted<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    pairs(&members::<T>(generator), |member| json!([member, { "type": "null" }]))
}

fn no_changes(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "description": "Always empty.", "additionalProperties": false })
}

fn quota(_: &mut SchemaGenerator) -> Schema {
    let number = json!({ "type": ["integer", "null"], "minimum": 0 });
    let member = |description: &str| {
        let mut member = number.clone();
        member["description"] = description.into();
        member
    };
    let members = [
        ("included".to_owned(), member("Requests included per month; null for unlimited.")),
        ("hard_limit".to_owned(), member("Maximum requests per month; null for no limit.")),
    ];
    pairs(&members.into_iter().collect(), |member| json!([member, member]))
}

fn checkpoint(generator: &mut SchemaGenerator) -> Schema {
    let hex = |digits: u32| json!({ "type": "string", "pattern": format!("^[0-9a-f]{{{digits}}}$") });
    json_schema!({
        "type": "object",
        "description": "Signed end of the project's audit trail.",
        "required": ["hash", "made_at", "public_key", "seq", "signature"],
        "properties": {
            "hash": hex(64),
            "made_at": generator.subschema_for::<Timestamp>(),
            "public_key": hex(64),
            "seq": { "type": "integer", "minimum": 0 },
            "signature": hex(128),
        },
        "additionalProperties": false,
    })
}

fn members<T: JsonSchema>(generator: &mut SchemaGenerator) -> Map<String, Value> {
    let reference = generator.subschema_for::<T>();
    let name = reference.get("$ref").and_then(Value::as_str).and_then(|reference| reference.rsplit('/').next());
    let schema = name.and_then(|name| generator.definitions().get(name)).unwrap_or(reference.as_value());
    schema["properties"].as_object().cloned().unwrap_or_default()
}

fn pairs(members: &Map<String, Value>, values: impl Fn(&Value) -> Value) -> Schema {
    let pair = |(name, member): (&String, &Value)| {
        let mut member = member.clone();
        let description = member.as_object_mut().and_then(|member| member.remove("description"));
        let pair = json!({
            "type": "array",
            "description": description,
            "prefixItems": values(&member),
            // `maxItems` excludes further items; the linter requires `items` to be a schema.
            "items": {},
            "minItems": 2,
            "maxItems": 2,
        });
        (name.clone(), pair)
    };
    let properties: Map<String, Value> = members.iter().map(pair).collect();
    json_schema!({
        "type": "object",
        "description": "Old and new value of each changed member.",
        "properties": properties,
        "additionalProperties": false,
    })
}

/// Derives the example for a removed object from the example of the object.
fn deleted_values(object: Value) -> Value {
    match object {
        Value::Object(members) => members.into_iter().map(|(name, value)| (name, json!([value, null]))).collect(),
        other => other,
    }
}

fn project() -> Value {
    json!({
        "id": "proj_8f2c4",
        "name": "Core Platform",
        "status": "active",
        "metadata": {},
        "created_at": "2026-03-01T00:00:00.000Z",
    })
}

fn key() -> Value {
    json!({
        "id": "key_7d1",
        "project_id": "proj_8f2c4",
        "name": "CI",
        "scopes": ["users:read", "usage:read"],
        "hint": "sk_live_2f7a",
        "status": "active",
        "metadata": {},
        "created_by": "usr_8f2",
        "created_at": "2026-03-01T00:00:00.000Z",
        "expires_at": null,
        "previous_expires_at": null,
        "last_used_at": null,
        "allowed_ips": [],
        "rate_limit": null,
    })
}

fn token() -> Value {
    json!({
        "id": "tok_2c9",
        "scopes": ["users:read", "usage:read"],
        "name": "ci-token",
        "project_id": "proj_8f2c4",
        "hint": "cap_7e0b91c2",
        "status": "active",
        "created_at": "2026-03-01T00:00:00.000Z",
        "expires_at": "2026-05-30T00:00:00.000Z",
        "last_used_at": null,
    })
}

fn webhook() -> Value {
    json!({
        "id": "wh_6a3",
        "project_id": "proj_8f2c4",
        "url": "https://receiver.example/hooks",
        "event_types": ["key.created"],
        "description": "Notifies the billing service",
        "enabled": true,
        "disabled_reason": null,
        "failing_since": null,
        "previous_expires_at": null,
        "created_at": "2026-03-01T00:00:00.000Z",
    })
}

fn user(status: &str) -> Value {
    json!({
        "id": "usr_8f2",
        "email": "ada@example.com",
        "role": "admin",
        "status": status,
        "created_at": "2026-03-01T00:00:00.000Z",
    })
}

fn checkpoint_example() -> Value {
    json!({
        "hash": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "made_at": "2026-03-01T00:00:00.000Z",
        "public_key": "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "seq": 41,
        "signature": "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    })
}

fn notice(percent: u8, requests: i64) -> Value {
    json!({ "period": "2026-03", "quota": "included", "bound": 200_000, "percent": percent, "requests": requests })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::action::Recorded;

    #[test]
    fn exactly_the_events_have_a_schema() {
        for action in Action::ALL {
            assert_eq!(schema_of(*action).is_some(), action.recorded() == Recorded::Event, "{action}");
        }
    }
}
