//! What `data.changes` holds, for each type of event: its schema, and an example. The description publishes both, and a
//! test holds that what is really told is as described.

#![allow(clippy::indexing_slicing, reason = "what is indexed is an object that the line above it made")]

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use crate::{
    audit::model::Audited,
    base::action::Action,
    keys::model::KeyView,
    projects::model::Project,
    tokens::model::TokenView,
    usage::model::QuotaNotice,
    users::model::Member,
};

/// What a type of event says has changed.
#[derive(Clone, Copy, Debug)]
pub struct Described {
    /// Its schema.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
    /// The id of what it happened to, and what that is.
    pub target: (&'static str, &'static str),
    /// An example.
    pub example: fn() -> Value,
}
