//! The query string of a request.

use axum::{extract::FromRequestParts, http::request::Parts};
use serde_json::{Map, Value};

use super::describe::{Argument, Operation};
use crate::base::{
    error::{Code, Error, ItemCode, Place, Result},
    schema::Input,
    text::{self, shown},
};

/// The query string, checked against the schema of `T`.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<T: Input, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        read_query(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

impl<T: Input> Argument for Query<T> {
    fn describe(operation: &mut Operation) {
        operation.query = Some(T::rules());
    }
}

fn read_query<T: Input>(query: &str) -> Result<T> {
    let rules = T::rules();
    let mut given = Map::new();
    for (encoded_name, encoded) in text::form_pairs(query) {
        let name = text::decode_form(encoded_name).unwrap_or_else(|_| encoded_name.to_owned());
        let Some(schema) = rules.properties().get(&name) else {
            return Err(unknown_parameter(&name, rules.properties().keys().map(String::as_str)));
        };
        let decoded = text::decode_form(encoded).map_err(|bad| {
            Error::new(code_of(&name), format!("'{name}' {bad}"))
                .at_parameter(name.clone(), ItemCode::InvalidCharacters)
        })?;
        if given.insert(name.clone(), parameter_value(schema, &decoded)).is_some() {
            return Err(Error::new(Code::DuplicateParameter, format!("'{name}' is given twice; give it once"))
                .at_parameter(name, ItemCode::OutOfRange));
        }
    }
    let given = Value::Object(given);
    if let Some(fault) = rules.faults(&given).into_iter().next() {
        let name = match fault.place {
            Place::Body(pointer) => pointer.trim_start_matches('/').to_owned(),
            Place::Parameter(name) => name,
        };
        // A detail that begins with the value is set off from the parameter's name.
        let (colon, detail) = (if fault.detail.starts_with('\'') { ":" } else { "" }, fault.detail);
        let remedy = if detail.contains("; ") { "" } else { "; change it, or leave it out" };
        return Err(
            Error::new(code_of(&name), format!("'{name}'{colon} {detail}{remedy}")).at_parameter(name, fault.code)
        );
    }
    // The schema has passed it, so this fails only where the schema says less than the type.
    serde_json::from_value(given)
        .map_err(|error| Error::new(Code::InvalidParameter, format!("The query string is not valid: {error}")))
}

/// Whatever is wrong with a cursor, clients do the same about it: they start over.
fn code_of(name: &str) -> Code {
    if name == "cursor" { Code::InvalidCursor } else { Code::InvalidParameter }
}

/// A query string has only texts; one that should be a number or a truth value becomes one if it can.
fn parameter_value(schema: &Value, text: &str) -> Value {
    let is = |wanted: &str| match &schema["type"] {
        Value::String(kind) => kind == wanted,
        Value::Array(kinds) => kinds.iter().any(|kind| kind == wanted),
        _ => false,
    };
    match (text, text.parse::<i64>()) {
        (_, Ok(number)) if is("integer") && number.to_string() == text => number.into(),
        ("true" | "false", _) if is("boolean") => (text == "true").into(),
        _ => text.into(),
    }
}

pub(super) fn unknown_parameter<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> Error {
    let name = shown(name);
    let hint = match text::nearest(&name, known.clone()) {
        Some(near) => format!("did you mean '{near}'?"),
        None => match known.collect::<Vec<_>>().join(", ") {
            list if list.is_empty() => "this operation takes none".to_owned(),
            list => format!("this operation takes: {list}"),
        },
    };
    Error::new(Code::UnknownParameter, format!("'{name}' is not a query parameter here; {hint}"))
        .at_parameter(name, ItemCode::UnknownField)
}
