//! From fields to JSON and back. Text that is not what a member needs is sent as it is, so that the API says what is
//! wrong.

use serde_json::{Map, Value};

use super::{Member, Shape};
use crate::console::{
    browser::fields::Fields,
    forms::{Form, body::number},
};

/// The object that was typed.
pub fn of(members: &[Member], form: &Form) -> Map<String, Value> {
    members.iter().filter_map(|member| Some((member.name.clone(), member.value(form)?))).collect()
}

impl Member {
    /// The value that was typed. `None` if the field is empty.
    pub fn value(&self, form: &Form) -> Option<Value> {
        let text = form.value(&self.field);
        match &self.shape {
            Shape::Object(members) => Some(of(members, form)).filter(|object| !object.is_empty()).map(Value::Object),
            Shape::Many(_) => {
                let chosen: Vec<Value> = form.fields().all(&self.field).map(Value::from).collect();
                Some(chosen).filter(|chosen| !chosen.is_empty()).map(Value::Array)
            }
            _ if text.is_empty() => None,
            Shape::Text | Shape::One(_) => Some(text.into()),
            Shape::Number => any_number(text),
            Shape::Boolean => Some(text.parse::<bool>().map_or_else(|_| text.into(), Value::from)),
            Shape::Lines(are_numbers) => Some(lines(text).filter_map(|line| item(line, *are_numbers)).collect()),
            Shape::Map(are_numbers) => Some(map_of(text, |value| item(value, *are_numbers)).into()),
            Shape::Json => Some(serde_json::from_str(text).unwrap_or_else(|_| text.into())),
        }
    }

    /// The value of an empty field, where a value exists.
    pub fn empty(&self) -> Value {
        match &self.shape {
            Shape::Many(_) | Shape::Lines(_) if !self.is_nullable => Value::Array(Vec::new()),
            Shape::Map(_) if !self.is_nullable => Value::Object(Map::new()),
            _ => Value::Null,
        }
    }

    /// Adds the fields of the member in an existing object.
    pub fn first(&self, object: &Value, fields: Fields) -> Fields {
        let value = object.get(&self.name).unwrap_or(&Value::Null);
        match (&self.shape, value) {
            (Shape::Object(members), value) => {
                members.iter().fold(fields, |fields, member| member.first(value, fields))
            }
            (_, Value::Null) => fields,
            (Shape::Many(_), Value::Array(items)) => {
                items.iter().fold(fields, |fields, item| fields.with(&self.field, text(item)))
            }
            (Shape::Lines(_), Value::Array(items)) => {
                let lines: Vec<String> = items.iter().map(text).collect();
                fields.with(&self.field, lines.join("\n"))
            }
            (Shape::Map(_), Value::Object(members)) => fields.with(&self.field, lines_of(members)),
            (_, value) => fields.with(&self.field, text(value)),
        }
    }
}

/// Members from lines `key=value`.
pub fn map_of_lines(text: &str) -> Map<String, Value> {
    map_of(text, |value| Some(value.into()))
}

/// Lines `key=value` from members.
pub fn lines_of(members: &Map<String, Value>) -> String {
    members.iter().map(|(key, value)| format!("{key}={}", text(value))).collect::<Vec<_>>().join("\n")
}

fn map_of(typed: &str, value: impl Fn(&str) -> Option<Value>) -> Map<String, Value> {
    let pair = |line: &str| {
        let (key, text) = line.split_once('=').unwrap_or((line, ""));
        (key.trim().to_owned(), value(text.trim()).unwrap_or_else(|| "".into()))
    };
    lines(typed).map(pair).collect()
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty())
}

fn item(text: &str, is_number: bool) -> Option<Value> {
    if is_number { any_number(text) } else { Some(text.into()) }
}

/// A number, with or without a fraction, or the text.
fn any_number(text: &str) -> Option<Value> {
    let fraction = text.parse::<f64>().ok().filter(|_| text.contains('.')).and_then(serde_json::Number::from_f64);
    fraction.map(Value::Number).or_else(|| number(text))
}

/// A value as text: strings without quotes.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
