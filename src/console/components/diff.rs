//! Differences between two states of an object.

use askama::Template;
use serde_json::Value;

use super::html_safe;

/// Changed members of an object, each with its previous and its new value.
#[derive(Clone, Debug, Template)]
#[template(
    source = r#"<div class="scroll" role="region" aria-label="Changes" tabindex="0"><table class="diff"><thead><tr><th scope="col">Member</th><th scope="col">Before</th><th scope="col">After</th></tr></thead><tbody>{% for row in rows %}<tr><th scope="row"><code>{{ row.member }}</code></th><td>{% if let Some(text) = row.before %}<del>{{ text }}</del>{% else %}<span class="muted">none</span>{% endif %}</td><td>{% if let Some(text) = row.after %}<ins>{{ text }}</ins>{% else %}<span class="muted">none</span>{% endif %}</td></tr>{% endfor %}</tbody></table></div>"#,
    ext = "html"
)]
pub struct Diff {
    /// Changed members.
    pub rows: Vec<DiffRow>,
}

/// Changed member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiffRow {
    /// Name of the member.
    pub member: String,
    /// Previous value, if there was one.
    pub before: Option<String>,
    /// New value, if there is one.
    pub after: Option<String>,
}

impl Diff {
    /// The members that differ between two objects.
    pub fn between(before: &Value, after: &Value) -> Self {
        let empty = serde_json::Map::new();
        let (old, new) = (before.as_object().unwrap_or(&empty), after.as_object().unwrap_or(&empty));
        let names = old.keys().chain(new.keys().filter(|name| !old.contains_key(*name)));
        let changed = names.filter(|name| old.get(*name) != new.get(*name));
        let row = |name: &String| DiffRow {
            member: name.clone(),
            before: old.get(name).and_then(text),
            after: new.get(name).and_then(text),
        };
        Self { rows: changed.map(row).collect() }
    }
}

/// A value as text: strings without quotes, everything else as JSON. `None` for null.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

html_safe!(Diff);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_changed_members_are_rows() {
        let diff = Diff::between(&json!({ "a": 1, "b": "x", "c": null }), &json!({ "a": 1, "b": "y", "d": [1] }));
        let row = |member: &str, before: Option<&str>, after: Option<&str>| DiffRow {
            member: member.into(),
            before: before.map(Into::into),
            after: after.map(Into::into),
        };
        assert_eq!(diff.rows, [row("b", Some("x"), Some("y")), row("c", None, None), row("d", None, Some("[1]"))]);
    }
}
