//! Schemas and examples of `data.changes` in events about resources.

#![allow(clippy::indexing_slicing, reason = "the indexed value is an object built in the same function")]

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::model::{OperationView, ResourceView};
use crate::{
    base::{
        action::Action,
        id::{self, OperationId, ResourceId},
    },
    http::{
        describe::SchemaOf,
        event_schema::{EventSchema, created, pairs, updated},
    },
    resources::{drivers::driver::ActionType, engine::lifecycle::OperationStatus, kinds::Kind},
};

/// Changes in events of this type, or `None` if it is not an event about resources.
pub fn schema_of(action: Action) -> Option<EventSchema> {
    let resource = |schema, example| Some(EventSchema::new::<id::Resource>(schema, example));
    match action {
        Action::ResourceCreated => resource(created::<ResourceView>, || volume("pending")),
        Action::ResourceImportRequested => resource(created::<ResourceView>, imported),
        Action::ResourceProvisioned => resource(updated::<ResourceView>, || activated("provisioning")),
        Action::ResourceUpdateRequested => resource(requested, || {
            let mut changes = json!({ "spec": [{ "size_gib": 20 }, { "size_gib": 40 }], "generation": [1, 2] });
            changes["operation_id"] = json!("op_8c4");
            changes
        }),
        Action::ResourceUpdated => resource(updated::<ResourceView>, || activated("updating")),
        Action::ResourceFailed => resource(
            |generator| with(updated::<ResourceView>, "operation", member::<OperationView>, generator),
            || json!({ "status": [status("updating"), status("failed")], "operation": failed() }),
        ),
        Action::ResourceDeletionRequested => resource(
            requested,
            || json!({ "status": [status("active"), status("deleting")], "operation_id": "op_8c4" }),
        ),
        Action::ResourceExpired => {
            resource(updated::<ResourceView>, || json!({ "status": [status("active"), status("deleting")] }))
        }
        Action::ResourceDeleted => resource(updated::<ResourceView>, || {
            json!({
                "status": [status("deleting"), status("deleted")],
                "deleted_at": [null, "2026-03-01T00:00:00.000Z"],
            })
        }),
        Action::ResourceImported => resource(updated::<ResourceView>, || activated("provisioning")),
        Action::ResourceDrifted => resource(
            |generator| with(updated::<ResourceView>, "difference", difference, generator),
            || json!({ "etag": ["\"3\"", "\"4\""], "difference": { "size_gib": [20, 30] } }),
        ),
        Action::ResourceRemediated => resource(updated::<ResourceView>, || activated("updating")),
        Action::OperationCanceled => Some(EventSchema::new::<id::Operation>(
            canceled,
            || json!({ "resource_id": "res_5d7", "status": ["running", "canceled"] }),
        )),
        Action::ResourceQuotaChanged => {
            Some(EventSchema::new::<id::Project>(quota, || json!({ "compute.instance": [100, 20] })))
        }
        _ => None,
    }
}

/// Adds a member to `schema`.
fn with(schema: SchemaOf, name: &str, member: SchemaOf, generator: &mut SchemaGenerator) -> Schema {
    let mut schema = schema(generator);
    let member = member(generator).to_value();
    if let Some(Value::Object(members)) = schema.get_mut("properties") {
        members.insert(name.to_owned(), member);
    }
    schema
}

fn member<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// Requested changes, with the operation and, for an action, its type.
fn requested(generator: &mut SchemaGenerator) -> Schema {
    let with_operation: SchemaOf =
        |generator| with(updated::<ResourceView>, "operation_id", member::<OperationId>, generator);
    with(with_operation, "action", member::<ActionType>, generator)
}

fn difference(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "description": "Desired and actual value of each member that differs; empty if the object no longer exists.",
        "additionalProperties": { "type": "array", "items": {}, "minItems": 2, "maxItems": 2 },
    })
}

fn canceled(generator: &mut SchemaGenerator) -> Schema {
    let resource = generator.subschema_for::<ResourceId>();
    let status = generator.subschema_for::<OperationStatus>().to_value();
    let mut schema = pairs(&Map::from_iter([("status".to_owned(), status)]), |member| json!([member, member]));
    if let Some(Value::Object(members)) = schema.get_mut("properties") {
        members.insert("resource_id".to_owned(), resource.to_value());
    }
    schema
}

fn quota(_: &mut SchemaGenerator) -> Schema {
    let number = json!({
        "type": "integer", "minimum": 0,
        "description": "Maximum number of resources of this kind in the project.",
    });
    let kinds = Kind::ALL.iter().map(|kind| (kind.to_string(), number.clone()));
    pairs(&kinds.collect(), |member| json!([member, member]))
}

fn status(phase: &str) -> Value {
    json!({
        "phase": phase,
        "power": null,
        "provider_ref": "vol-0a1b2c3d",
        "outputs": {},
        "conditions": [],
        "last_synced_at": "2026-03-01T00:00:00.000Z",
    })
}

fn activated(from: &str) -> Value {
    json!({ "status": [status(from), status("active")], "observed_generation": [0, 1] })
}

fn volume(phase: &str) -> Value {
    let mut status = status(phase);
    status["provider_ref"] = Value::Null;
    status["last_synced_at"] = Value::Null;
    json!({
        "id": "res_5d7",
        "project_id": "proj_8f2c4",
        "kind": "storage.volume",
        "provider": "sim",
        "name": "data",
        "labels": { "env": "ci-4711" },
        "generation": 1,
        "observed_generation": 0,
        "spec": { "size_gib": 20 },
        "status": status,
        "protection": false,
        "reconcile": "observe",
        "expires_at": "2026-03-01T01:00:00.000Z",
        "etag": "\"1\"",
        "created_at": "2026-03-01T00:00:00.000Z",
        "deleted_at": null,
    })
}

fn imported() -> Value {
    let mut volume = volume("pending");
    volume["spec"] = json!({});
    volume["status"]["provider_ref"] = json!("vol-0a1b2c3d");
    volume
}

fn failed() -> Value {
    json!({
        "id": "op_8c4",
        "project_id": "proj_8f2c4",
        "resource_id": "res_5d7",
        "type": "update",
        "status": "failed",
        "step": "updating",
        "progress": 40,
        "attempt": 0,
        "error": {
            "code": "exhausted",
            "detail": "The provider has no capacity left; request less, or contact the operator",
            "provider_code": "VolumeLimitExceeded",
        },
        "created_at": "2026-03-01T00:00:00.000Z",
        "finished_at": "2026-03-01T00:00:05.000Z",
    })
}
