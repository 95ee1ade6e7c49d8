//! Fields of a key, for the forms that create and change one.

use std::time::Duration;

use askama::Template;
use serde_json::{Value, json};

use crate::{
    api::keys::model::KeyView,
    base::{identity::scope::ScopeSet, runtime::clock::Timestamp},
    console::{
        browser::fields::Fields,
        components::{
            html_safe,
            scopes::{PRESET, SCOPES, ScopePicker, requested_scopes},
        },
        forms::{Choice, Field, Form, body::number},
    },
};

/// Fields of a key.
#[derive(Clone, Debug, Template)]
#[template(path = "pages/keys/fields/fields.html")]
pub struct KeyFields {
    name: Field,
    scopes: ScopePicker,
    expires: Field,
    expires_on: Field,
    networks: Field,
    rate_requests: Field,
    rate_seconds: Field,
    has_limits: bool,
}

html_safe!(KeyFields);

/// Choices of the lifetime: value, text and days.
const LIFETIMES: [(&str, &str, u64); 4] =
    [("30", "30 days", 30), ("90", "90 days", 90), ("365", "One year", 365), ("never", "Never", 0)];
/// Value of the choice that keeps the end of the lifetime.
const KEEP: &str = "keep";
/// Fields whose name differs from their member in the body.
pub const NAMES: [(&str, &str); 4] = [
    ("expires_at", "expires"),
    ("rate_limit.requests", "rate_requests"),
    ("rate_limit.per_seconds", "rate_seconds"),
    ("rate_limit", "rate_requests"),
];

/// First values for a new key.
pub fn of_new() -> Fields {
    Fields::default().with(PRESET, "read").with("expires", "90")
}

/// First values for an existing key.
pub fn of_key(key: &KeyView) -> Fields {
    let networks: Vec<String> = key.allowed_ips.iter().map(ToString::to_string).collect();
    let mut fields = Fields::default()
        .with("name", key.name.clone())
        .with(PRESET, "custom")
        .with("expires", KEEP)
        .with("allowed_ips", networks.join("\n"));
    for scope in key.scopes.iter() {
        fields = fields.with(SCOPES, scope.as_str());
    }
    match key.rate_limit {
        Some(limit) => {
            fields.with("rate_requests", limit.requests.to_string()).with("rate_seconds", limit.per_seconds.to_string())
        }
        None => fields,
    }
}

impl KeyFields {
    /// The fields of a form. `allowed` are the scopes of the person, `keep` describes the present end of the lifetime.
    pub fn new(form: &Form, allowed: ScopeSet, keep: Option<String>) -> Self {
        let kept = keep.map(|text| Choice::new(KEEP, text));
        let lifetimes = LIFETIMES.iter().map(|(value, label, _)| Choice::new(*value, *label));
        let lifetimes = kept.into_iter().chain(lifetimes).chain([Choice::new("date", "On a date…")]).collect();
        Self {
            name: form.text("name", "Name").hint("What uses the key, such as “billing service”.").max(100).focused(),
            scopes: ScopePicker::new(form, allowed),
            expires: form.select("expires", "Expires", lifetimes),
            expires_on: form
                .text("expires_on", "Date")
                .hint("The key works until the end of this day, UTC.")
                .kind("date")
                .short(),
            networks: form.lines("allowed_ips", "Networks").hint(
                "Addresses or networks that may use the key, one on each line, such as 203.0.113.0/24. Empty for all.",
            ),
            rate_requests: form.text("rate_requests", "Requests").kind("number").short(),
            rate_seconds: form.text("rate_seconds", "In seconds").kind("number").short(),
            has_limits: ["allowed_ips", "rate_requests", "rate_seconds"]
                .iter()
                .any(|name| !form.value(name).is_empty() || !form.faults_of(name).is_empty()),
        }
    }
}

/// Members of the body, from the fields of a form. An empty field is null, which the API reads as no value.
pub fn body(now: Timestamp, allowed: ScopeSet, form: &Form) -> serde_json::Map<String, Value> {
    let name = Some(form.value("name")).filter(|name| !name.is_empty());
    let networks = form.value("allowed_ips").lines().map(str::trim).filter(|line| !line.is_empty());
    let (requests, seconds) = (number(form.value("rate_requests")), number(form.value("rate_seconds")));
    // Without a number of requests there is no limit.
    let limit = requests.map(|requests| json!({ "requests": requests, "per_seconds": seconds.unwrap_or(60.into()) }));
    let mut members = serde_json::Map::new();
    members.insert("name".into(), name.into());
    members.insert("scopes".into(), requested_scopes(form, allowed).into());
    members.insert("allowed_ips".into(), networks.map(Value::from).collect());
    members.insert("rate_limit".into(), limit.into());
    if form.value("expires") != KEEP {
        members.insert("expires_at".into(), expires_at(now, form).into());
    }
    members
}

/// End of the key's lifetime: a number of days from now, or the end of a day.
fn expires_at(now: Timestamp, form: &Form) -> Option<String> {
    let chosen = form.value("expires");
    if chosen == "date" {
        return Some(format!("{}T23:59:59Z", form.value("expires_on")));
    }
    let days = LIFETIMES.iter().find(|(value, ..)| *value == chosen).map_or(0, |(.., days)| *days);
    // The end of a day, so that a double click sends the same body.
    (days > 0).then(|| format!("{}T23:59:59Z", now.plus(Duration::from_secs(days * 24 * 3600)).date()))
}
