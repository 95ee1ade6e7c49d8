//! Extractor for the query string. It is decoded once: the decoded parameters are checked against the schema, and
//! identify a retry of a write with an `Idempotency-Key`.

use std::sync::Arc;

use axum::{extract::FromRequestParts, http::request::Parts};
use serde_json::{Map, Value};

use crate::{
    base::{
        error::{Code, Error, ItemCode, ItemLocation, Result},
        idempotency::IdempotentRequest,
        input::{
            schema::{Input, ParsedInput},
            text::{self, excerpt},
        },
        runtime::request::RequestContext,
        target::CanonicalQuery,
    },
    http::describe::{Argument, Operation},
};

/// Query string, checked against the schema of `T`.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<T: Input, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        let context: Option<&Arc<RequestContext>> = parts.extensions.get();
        let write = context.and_then(|context| context.idempotent_request.get());
        read_query(parts.uri.query().unwrap_or_default(), write).map(Self)
    }
}

impl<T: Input> Argument for Query<T> {
    fn describe(operation: &mut Operation) {
        operation.query = Some(T::rules());
    }
}

/// Decodes and checks the query string of a request, which may be a `write` with an `Idempotency-Key`.
fn read_query<T: Input>(query: &str, write: Option<&IdempotentRequest>) -> Result<T> {
    let rules = T::rules();
    let (mut given, mut has_bad_text) = (Map::new(), false);
    let mut canonical = write.map(|_| CanonicalQuery::default());
    for (encoded_name, encoded) in text::form_pairs(query) {
        let name = text::decode_form(encoded_name).unwrap_or_else(|_| encoded_name.to_owned());
        let Some(schema) = rules.properties().get(&name) else {
            return Err(unknown_parameter(&name, rules.properties().keys().map(String::as_str)));
        };
        let decoded = text::decode_form(encoded).map_err(|bad| {
            Error::new(code_of(&name), format!("'{name}' {bad}"))
                .at_parameter(name.clone(), ItemCode::InvalidCharacters)
        })?;
        // Known names have no control characters.
        has_bad_text |= text::check(&decoded).is_err();
        if let Some(canonical) = &mut canonical {
            canonical.push(&name, &decoded);
        }
        if given.insert(name.clone(), parameter_value(schema, &decoded)).is_some() {
            return Err(Error::new(Code::DuplicateParameter, format!("'{name}' is duplicated; send it once"))
                .at_parameter(name, ItemCode::OutOfRange));
        }
    }
    let given = ParsedInput { value: Value::Object(given), has_bad_text };
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
    if let (Some(write), Some(canonical)) = (write, canonical) {
        write.set_query(canonical);
    }
    // The value matches the schema, so this fails only where the type is stricter than its schema.
    serde_json::from_value(given.value)
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
