//! Schemas and examples of `data.changes` in events about usage.

#![allow(clippy::indexing_slicing, reason = "the indexed value is an object built in the same function")]

use schemars::{Schema, SchemaGenerator};
use serde_json::{Value, json};

use super::model::QuotaNotice;
use crate::{
    base::{action::Action, id},
    http::event_schema::{EventSchema, created, pairs},
};

/// Changes in events of this type, or `None` if it is not an event about usage.
pub fn schema_of(action: Action) -> Option<EventSchema> {
    let of = |schema, example| Some(EventSchema::new::<id::Project>(schema, example));
    match action {
        Action::ProjectQuotaChanged => of(quota, || json!({ "included": [null, 200_000] })),
        Action::QuotaWarning => of(created::<QuotaNotice>, || notice(80, 160_004)),
        Action::QuotaReached => of(created::<QuotaNotice>, || notice(100, 200_000)),
        _ => None,
    }
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

fn notice(percent: u8, requests: i64) -> Value {
    json!({ "period": "2026-03", "quota": "included", "bound": 200_000, "percent": percent, "requests": requests })
}
