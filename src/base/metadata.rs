//! `metadata`: a client's own notes on a thing, kept and returned as they are.

use std::{borrow::Cow, collections::BTreeMap};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::text::NO_CONTROL_CHARACTERS;

/// At most 50 text values under names of 1 to 40 characters. Never interpreted by the server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Metadata(pub BTreeMap<String, String>);

impl JsonSchema for Metadata {
    fn schema_name() -> Cow<'static, str> {
        "Metadata".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": "Your own notes on a thing, kept and returned as they are.",
            "maxProperties": 50,
            "propertyNames": { "minLength": 1, "maxLength": 40, "pattern": NO_CONTROL_CHARACTERS },
            "additionalProperties": { "type": "string", "maxLength": 500, "pattern": NO_CONTROL_CHARACTERS },
            "examples": [{ "team": "payments" }],
        })
    }
}
