//! Forms drawn from a JSON Schema: one field for each member. A new kind of object needs no form of its own.
//!
//! A field has the name of its member in the body: `spec.size_gib`. Therefore errors of the API find their fields.

mod members;
mod values;

use std::{collections::BTreeMap, fmt};

use askama::Template;
use serde_json::{Map, Value};

use super::{Choice, Field, Form};
use crate::console::{browser::fields::Fields, components::html_safe};
pub use members::label;
pub use values::map_of_lines;

/// Form of an object.
#[derive(Clone, Debug)]
pub struct SchemaForm {
    members: Vec<Member>,
}

/// Member of the object.
#[derive(Clone, Debug)]
struct Member {
    name: String,
    /// Name of the field: the path of the member in the body.
    field: String,
    label: String,
    hint: String,
    shape: Shape,
    is_required: bool,
    is_nullable: bool,
}

/// What a member is, and so how it is typed.
#[derive(Clone, Debug)]
enum Shape {
    Text,
    Number,
    Boolean,
    /// One of these values.
    One(Vec<Choice>),
    /// Any of these values.
    Many(Vec<Choice>),
    /// A list with one item on each line; whether the items are numbers.
    Lines(bool),
    /// Lines `key=value`; whether the values are numbers.
    Map(bool),
    Object(Vec<Member>),
    /// Anything else, as JSON.
    Json,
}

/// Values that a member can have, although the schema does not list them.
#[derive(Clone, Debug)]
pub enum Offer {
    /// Only these.
    Only(Vec<Choice>),
    /// These and others.
    Some(Vec<String>),
}

/// Offers by the name of the member.
pub type Offers = BTreeMap<String, Offer>;

/// Field, or group of fields.
#[derive(Clone, Debug)]
pub enum Part {
    /// Field.
    Field(Box<Field>),
    /// Fields of an object.
    Group(Group),
}

/// Fields of an object.
#[derive(Clone, Debug, Template)]
#[template(
    source = r#"<fieldset class="group"><legend>{{ legend }}</legend>{% for part in parts %}{{ part }}{% endfor %}</fieldset>"#,
    ext = "html"
)]
pub struct Group {
    legend: String,
    parts: Vec<Part>,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(field) => field.fmt(f),
            Self::Group(group) => group.fmt(f),
        }
    }
}

html_safe!(Part, Group);

impl SchemaForm {
    /// The form of the members of `schema`, whose fields are below `prefix`.
    pub fn new(schema: &Value, prefix: &str, offers: &Offers) -> Self {
        Self { members: members::of(schema, schema, prefix, offers) }
    }

    /// Keeps only the members with these names.
    #[must_use]
    pub fn only(mut self, names: &[String]) -> Self {
        self.members.retain(|member| names.contains(&member.name));
        self
    }

    /// The fields, with what was typed.
    pub fn parts(&self, form: &Form) -> Vec<Part> {
        self.members.iter().map(|member| member.part(form)).collect()
    }

    /// Fields of members that unchecked boxes do not submit, for [`Form::rejected`].
    pub fn names(&self) -> Vec<(&str, &str)> {
        let mut found = Vec::new();
        collect_names(&self.members, &mut found);
        found
    }

    /// The object that was typed. Empty fields are left out.
    pub fn value(&self, form: &Form) -> Map<String, Value> {
        values::of(&self.members, form)
    }

    /// The members that were changed. An empty field clears its member.
    pub fn changes(&self, form: &Form, current: &Value) -> Map<String, Value> {
        let members = self.members.iter().map(|member| (member, member.value(form).unwrap_or_else(|| member.empty())));
        let changed = members.filter(|(member, value)| {
            let now = current.get(&member.name);
            now != Some(value) && !(now.is_none() && *value == member.empty())
        });
        changed.map(|(member, value)| (member.name.clone(), value)).collect()
    }

    /// Adds the fields of an existing object.
    pub fn first(&self, object: &Value, fields: Fields) -> Fields {
        self.members.iter().fold(fields, |fields, member| member.first(object, fields))
    }
}

fn collect_names<'a>(members: &'a [Member], found: &mut Vec<(&'a str, &'a str)>) {
    for member in members {
        match &member.shape {
            Shape::Object(inner) => collect_names(inner, found),
            _ => found.push((&member.field, &member.field)),
        }
    }
}

impl Member {
    fn part(&self, form: &Form) -> Part {
        let (name, label) = (self.field.as_str(), self.label.as_str());
        let field = match &self.shape {
            Shape::Object(members) => {
                let parts = members.iter().map(|member| member.part(form)).collect();
                return Part::Group(Group { legend: self.label.clone(), parts });
            }
            Shape::Text => form.text(name, label),
            Shape::Number => form.text(name, label).kind("number").short(),
            Shape::Boolean => {
                let unset = (!self.is_required).then(|| Choice::new("", "Default"));
                let values = [Choice::new("true", "Yes"), Choice::new("false", "No")];
                form.select(name, label, unset.into_iter().chain(values).collect())
            }
            Shape::One(choices) => {
                let unset = (!self.is_required).then(|| Choice::new("", "Default"));
                form.select(name, label, unset.into_iter().chain(with_typed(choices, form, name)).collect())
            }
            Shape::Many(choices) => form.checks(name, label, with_typed(choices, form, name)),
            Shape::Lines(_) | Shape::Map(_) | Shape::Json => form.lines(name, label),
        };
        let field = if self.hint.is_empty() { field } else { field.hint(self.hint.clone()) };
        let field = if self.is_required && !matches!(self.shape, Shape::Many(_)) { field.required() } else { field };
        Part::Field(Box::new(field))
    }
}

/// The choices, and values that were typed or exist but are no longer offered.
fn with_typed(choices: &[Choice], form: &Form, field: &str) -> Vec<Choice> {
    let is_known = |value: &str| value.is_empty() || choices.iter().any(|choice| choice.value == value);
    let typed = form.fields().all(field).filter(|value| !is_known(value)).map(|value| Choice::new(value, value));
    choices.iter().cloned().chain(typed).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Value {
        json!({
            "$defs": { "Disk": { "type": "object", "properties": { "size_gib": { "type": "integer" } }, "required": ["size_gib"] } },
            "type": "object",
            "required": ["name", "count"],
            "properties": {
                "name": { "type": "string", "description": "Name." },
                "count": { "type": "integer", "minimum": 1, "maximum": 9 },
                "tier": { "type": "string", "enum": ["hot", "cold"] },
                "public": { "type": "boolean" },
                "ports": { "type": "array", "items": { "type": "integer" } },
                "volumes": { "type": "array", "items": { "type": "string" }, "default": [] },
                "tags": { "type": "object", "additionalProperties": { "type": "string" } },
                "disk": { "$ref": "#/$defs/Disk" },
                "network": { "type": ["string", "null"] },
                "odd": { "anyOf": [{ "type": "string" }, { "type": "object" }] },
            },
        })
    }

    fn offers() -> Offers {
        BTreeMap::from([("volumes".to_owned(), Offer::Only(vec![Choice::new("res_1", "data")]))])
    }

    #[test]
    fn every_type_is_drawn_and_read_back() {
        let form = SchemaForm::new(&schema(), "spec", &offers());
        let object = json!({
            "name": "n", "count": 3, "tier": "hot", "public": true, "ports": [80, 443], "volumes": ["res_1", "res_9"],
            "tags": { "a": "b", "c": "" }, "disk": { "size_gib": 20 }, "network": "res_2", "odd": { "x": [1] },
        });
        let typed = Form::new(form.first(&object, Fields::default()));
        assert_eq!(Value::Object(form.value(&typed)), object);
        assert_eq!(form.changes(&typed, &object), Map::new());
        let html: String = form.parts(&typed).iter().map(ToString::to_string).collect();
        for drawn in [
            "Count",
            "From 1 to 9.",
            "type=\"number\"",
            "<option value=\"hot\" selected",
            "name=\"spec.disk.size_gib\"",
            "Size (GiB)",
            "80\n443",
            "a=b",
            "value=\"res_9\" checked",
            "data",
        ] {
            assert!(html.contains(drawn), "{drawn} in {html}");
        }
    }

    #[test]
    fn empty_fields_are_left_out_and_clear_members_of_an_existing_object() {
        let form = SchemaForm::new(&schema(), "spec", &offers());
        let empty = Form::new(Fields::default().with("spec.name", "n").with("spec.count", "many"));
        assert_eq!(Value::Object(form.value(&empty)), json!({ "name": "n", "count": "many" }));
        let current = json!({ "name": "n", "count": 3, "network": "res_2", "volumes": ["res_1"] });
        let changes = form.changes(&empty, &current);
        assert_eq!(Value::Object(changes), json!({ "count": "many", "network": null, "volumes": [] }));
    }

    #[test]
    fn errors_find_their_fields_even_if_no_box_is_ticked() {
        let form = SchemaForm::new(&schema(), "spec", &offers());
        assert!(form.names().contains(&("spec.volumes", "spec.volumes")));
        assert!(form.names().contains(&("spec.disk.size_gib", "spec.disk.size_gib")));
    }
}
