//! Extractor for the query string.

use axum::{extract::FromRequestParts, http::request::Parts};
use serde_json::{Map, Value};

use crate::{
    base::{
        error::{Code, Error, ItemCode, ItemLocation, Result},
        input::{
            schema::Input,
            text::{self, excerpt},
        },
    },
    http::describe::{Argument, Operation},
};

/// Query string, checked against the schema of `T`.
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
            return Err(Error::new(Code::DuplicateParameter, format!("'{name}' is duplicated; send it once"))
                .at_parameter(name, ItemCode::OutOfRange));
        }
    }
    let given = Value::Object(given);
    if let Some(fault) = rules.faults(&given).into_iter().next() {
        let name = match fault.location {
            ItemLocation::Body(pointer) => pointer.trim_start_matches('/').to_owned(),
            ItemLocation::Parameter(name) => name,
        };
        // A colon separates the parameter's name from a detail that begins with the value.
        let (colon, detail) = (if fault.detail.starts_with('\'') { ":" } else { "" }, fault.detail);
        let remedy = if detail.contains("; ") { "" } else { "; change or omit it" };
        return Err(
            Error::new(code_of(&name), format!("'{name}'{colon} {detail}{remedy}")).at_parameter(name, fault.code)
        );
    }
    // The value matches the schema, so this fails only where the type is stricter than its schema.
    serde_json::from_value(given)
        .map_err(|error| Error::new(Code::InvalidParameter, format!("The query string is not valid: {error}")))
}

/// Every error of a cursor has the same code, because the remedy is the same: start over.
fn code_of(name: &str) -> Code {
    if name == "cursor" { Code::InvalidCursor } else { Code::InvalidParameter }
}

/// Converts a text of the query string to a number or a boolean if its schema requires one.
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

pub(crate) fn unknown_parameter<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> Error {
    let name = excerpt(name);
    let hint = match text::nearest(&name, known.clone()) {
        Some(near) => format!("did you mean '{near}'?"),
        None => match known.collect::<Vec<_>>().join(", ") {
            list if list.is_empty() => "this operation has no query parameters".to_owned(),
            list => format!("use one of: {list}"),
        },
    };
    Error::new(Code::UnknownParameter, format!("'{name}' is not a query parameter of this operation; {hint}"))
        .at_parameter(name, ItemCode::UnknownField)
}
