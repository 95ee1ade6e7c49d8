//! Fields that resources of every kind have.

use askama::Template;
use serde_json::{Map, Value, json};

use crate::{
    console::{
        browser::fields::Fields,
        components::html_safe,
        forms::{Choice, Field, Form, schema::map_of_lines},
    },
    resources::api::model::{Reconcile, ResourceView},
};

/// Lifetimes: seconds and text.
const LIFETIMES: [(u64, &str); 5] =
    [(3600, "1 hour"), (8 * 3600, "8 hours"), (86_400, "1 day"), (7 * 86_400, "7 days"), (30 * 86_400, "30 days")];
/// Choice that keeps the end of the lifetime.
const KEEP: &str = "keep";

/// Fields that resources of every kind have.
#[derive(Clone, Debug, Template)]
#[template(
    source = r#"{{ labels }}<details class="more"{% if is_open %} open{% endif %}><summary>{% if lifetime.is_some() %}Lifetime, protection and drift{% else %}Protection and drift{% endif %}</summary>{% if let Some(lifetime) = lifetime %}{{ lifetime }}{% endif %}{{ protection }}{{ reconcile }}</details>"#,
    ext = "html"
)]
pub struct CommonFields {
    labels: Field,
    lifetime: Option<Field>,
    protection: Field,
    reconcile: Field,
    is_open: bool,
}

html_safe!(CommonFields);

/// Field with the name.
pub fn name(form: &Form) -> Field {
    form.text("name", "Name").hint("Lowercase letters, digits and hyphens, such as “web-1”.").max(63).required()
}

/// First values of a new resource.
pub fn of_new(query: Fields) -> Fields {
    query.with("reconcile", "observe").with("ttl_seconds", "")
}

/// First values of an existing resource.
pub fn of_resource(resource: &ResourceView) -> Fields {
    let labels: Vec<String> = resource.labels.0.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let fields = Fields::default()
        .with("name", resource.name.clone())
        .with("labels", labels.join("\n"))
        .with("ttl_seconds", KEEP)
        .with("reconcile", if resource.reconcile == Reconcile::Enforce { "enforce" } else { "observe" });
    if resource.protection { fields.with("protection", "true") } else { fields }
}

impl CommonFields {
    /// The fields of a new resource.
    pub fn new(form: &Form) -> Self {
        let lifetimes = std::iter::once(Choice::new("", "Unlimited")).chain(lifetimes()).collect();
        Self::with(form, Some(lifetimes))
    }

    /// The fields of an imported resource, whose lifetime is unlimited.
    pub fn without_lifetime(form: &Form) -> Self {
        Self::with(form, None)
    }

    /// The fields of an existing resource. `keep` describes the end of its lifetime.
    pub fn of_existing(form: &Form, keep: &str) -> Self {
        let kept = [Choice::new(KEEP, format!("Unchanged ({keep})")), Choice::new("", "Unlimited")];
        Self::with(form, Some(kept.into_iter().chain(lifetimes()).collect()))
    }

    fn with(form: &Form, lifetimes: Option<Vec<Choice>>) -> Self {
        let protection = vec![
            Choice::new("true", "Protect from deletion")
                .hint("Nobody can delete it, and it does not expire, until this is turned off."),
        ];
        let reactions = vec![
            Choice::new("observe", "Report changes").hint("Show them as drift, and change nothing."),
            Choice::new("enforce", "Undo changes").hint("Restore what you asked for."),
        ];
        let is_open = ["protection", "ttl_seconds", "reconcile"].iter().any(|name| !form.faults_of(name).is_empty())
            || form.value("reconcile") == "enforce"
            || !form.value("protection").is_empty()
            || !matches!(form.value("ttl_seconds"), "" | KEEP);
        Self {
            labels: form
                .lines("labels", "Labels")
                .hint("One key=value on each line, such as env=ci. Lists can be filtered by them."),
            lifetime: lifetimes.map(|lifetimes| {
                form.select("ttl_seconds", "Delete automatically", lifetimes).hint("After this time from now.")
            }),
            protection: form.checks("protection", "Protection", protection),
            reconcile: form.radios("reconcile", "If somebody changes it outside CloudAPI", reactions),
            is_open,
        }
    }
}

fn lifetimes() -> impl Iterator<Item = Choice> {
    LIFETIMES.iter().map(|(seconds, label)| Choice::new(seconds.to_string(), format!("After {label}")))
}

/// Members of the body of a new resource.
pub fn body_of_new(form: &Form) -> Map<String, Value> {
    let mut body = Map::new();
    body.insert("name".into(), form.value("name").into());
    let labels = map_of_lines(form.value("labels"));
    if !labels.is_empty() {
        body.insert("labels".into(), labels.into());
    }
    if form.fields().has("protection", "true") {
        body.insert("protection".into(), true.into());
    }
    if !form.value("reconcile").is_empty() {
        body.insert("reconcile".into(), form.value("reconcile").into());
    }
    if let Some(seconds) = crate::console::forms::body::number(form.value("ttl_seconds")) {
        body.insert("ttl_seconds".into(), seconds);
    }
    body
}

/// Members of the body that were changed.
pub fn changes(form: &Form, current: &ResourceView) -> Map<String, Value> {
    let mut body = Map::new();
    let mut set = |member: &str, value: Value, now: Value| {
        if value != now {
            body.insert(member.to_owned(), value);
        }
    };
    set("name", form.value("name").into(), json!(current.name));
    set("labels", map_of_lines(form.value("labels")).into(), json!(current.labels));
    set("protection", form.fields().has("protection", "true").into(), json!(current.protection));
    set("reconcile", form.value("reconcile").into(), json!(current.reconcile));
    match form.value("ttl_seconds") {
        KEEP => {}
        "" => set("ttl_seconds", Value::Null, json!(current.expires_at)),
        seconds => set("ttl_seconds", crate::console::forms::body::number(seconds).into(), Value::Null),
    }
    body
}
