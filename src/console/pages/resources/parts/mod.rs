//! What several pages of resources share.

pub mod fields;
pub mod plan;
pub mod providers;
pub mod spec;

use serde_json::Value;

pub use crate::console::forms::schema::label;

/// A value as text: strings without quotes, lists with commas.
pub fn shown(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "none".to_owned(),
        Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(", "),
        Value::Bool(is_true) => if *is_true { "yes" } else { "no" }.to_owned(),
        other => other.to_string(),
    }
}
