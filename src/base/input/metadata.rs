//! `metadata`: a client's own data on an object, stored and returned unchanged.

use std::{borrow::Cow, collections::BTreeMap};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::text::NO_CONTROL_CHARACTERS;

/// At most 50 text values with names of 1 to 40 characters. The server does not interpret them.
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
            "description": "Your own data on the object, stored and returned unchanged: at most 50 members, each a text of at most 500 characters.",
            "maxProperties": 50,
            "propertyNames": { "minLength": 1, "maxLength": 40, "pattern": NO_CONTROL_CHARACTERS },
            "additionalProperties": { "type": "string", "maxLength": 500, "pattern": NO_CONTROL_CHARACTERS },
            "examples": [{ "team": "payments" }],
        })
    }
}
