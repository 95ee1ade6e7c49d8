//! Differences between two states of an object.

use askama::Template;
use serde_json::Value;

use super::html_safe;

/// Changed members of an object, each with its previous and its new value.
#[derive(Clone, Debug, Template)]
#[template(
    source = r#"<div class="scroll" role="region" aria-label="Changes" tabindex="0"><table class="diff"><thead><tr><th scope="col">Member</th><th scope="col">{{ headings.0 }}</th><th scope="col">{{ headings.1 }}</th></tr></thead><tbody>{% for row in rows %}<tr><th scope="row"><code>{{ row.member }}</code></th><td>{% if let Some(text) = row.before %}<del>{{ text }}</del>{% else %}<span class="muted">none</span>{% endif %}</td><td>{% if let Some(text) = row.after %}<ins>{{ text }}</ins>{% else %}<span class="muted">none</span>{% endif %}</td></tr>{% endfor %}</tbody></table></div>"#,
    ext = "html"
)]
pub struct Diff {
    /// Changed members.
    pub rows: Vec<DiffRow>,
    headings: (&'static str, &'static str),
}

const BEFORE_AND_AFTER: (&str, &str) = ("Before", "After");

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
        Self { rows: changed.map(row).collect(), headings: BEFORE_AND_AFTER }
    }

    /// Changes as the API describes them: `{"spec": [before, after]}`.
    pub fn of_changes<'a>(changes: impl IntoIterator<Item = (&'a String, &'a Value)>) -> Self {
        let mut rows = Vec::new();
        for (member, pair) in changes {
            let value = |index: usize| pair.get(index).unwrap_or(&Value::Null);
            expand(member.clone(), value(0), value(1), &mut rows);
        }
        Self { rows, headings: BEFORE_AND_AFTER }
    }

    /// Names the two states.
    #[must_use]
    pub fn named(self, first: &'static str, second: &'static str) -> Self {
        Self { headings: (first, second), ..self }
    }
}

/// A member and its values. Members of objects are rows of their own.
fn expand(member: String, before: &Value, after: &Value, rows: &mut Vec<DiffRow>) {
    let empty = serde_json::Map::new();
    let has_members = |value: &Value| value.is_null() || value.is_object();
    if !has_members(before) || !has_members(after) || (before.is_null() && after.is_null()) {
        return rows.push(DiffRow { member, before: text(before), after: text(after) });
    }
    let (old, new) = (before.as_object().unwrap_or(&empty), after.as_object().unwrap_or(&empty));
    let names = old.keys().chain(new.keys().filter(|name| !old.contains_key(*name)));
    for name in names.filter(|name| old.get(*name) != new.get(*name)) {
        let value = |object: &serde_json::Map<String, Value>| object.get(name).cloned().unwrap_or_default();
        expand(format!("{member}.{name}"), &value(old), &value(new), rows);
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
