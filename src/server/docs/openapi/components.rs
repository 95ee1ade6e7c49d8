//! Shared components of operations: parameters, headers, error responses and their examples.

#![allow(clippy::indexing_slicing, reason = "the indexed value is an object created in the preceding lines")]

use std::collections::BTreeSet;

use axum::http::StatusCode;
use serde_json::{Map, Value, json};

use super::{
    PUBLIC_URL,
    errors::{self, CodeSets, by_status, retryable_conflict},
};
use crate::{
    base::{
        error::Code,
        id::{Kind, Request, RequestId},
    },
    http::{
        catalog,
        response::problem::{self, Problem},
    },
};

/// Returns a reference to a component.
pub(super) fn reference(section: &str, name: &str) -> Value {
    json!({ "$ref": format!("#/components/{section}/{name}") })
}

/// Response headers: component name, header name, whether the header is always present, and description.
const HEADERS: &[(&str, &str, bool, &str)] = &[
    ("X-Request-Id", "X-Request-Id", true, "Request id. Include it when you ask for help."),
    ("Location", "Location", true, "Path of the created object or of the operation."),
    ("Location-Redirect", "Location", true, "Path of the redirect."),
    (
        "ETag",
        "ETag",
        true,
        "Entity tag of the item's state. Send it as `If-Match` to write only to this state, or as `If-None-Match` to read only changes.",
    ),
    (
        "Idempotent-Replayed",
        "Idempotent-Replayed",
        false,
        "`true` if this is the stored response of an earlier request with the same `Idempotency-Key`.",
    ),
    (
        "Usage-As-Of",
        "Usage-As-Of",
        true,
        "The response includes all requests counted before this time, usually about a second ago.",
    ),
    ("WWW-Authenticate", "WWW-Authenticate", true, "How to authenticate (RFC 6750)."),
    ("WWW-Authenticate-Scope", "WWW-Authenticate", false, "With `insufficient_scope`: the missing scope (RFC 6750)."),
    ("Retry-After", "Retry-After", true, "Seconds to wait before the next attempt."),
    (
        "Retry-After-Conflict",
        "Retry-After",
        false,
        "With `idempotency_in_progress`: seconds to wait before the next attempt.",
    ),
    ("RateLimit-Policy", "RateLimit-Policy", false, "The credential's rate limit, if that limit was exceeded."),
    ("RateLimit", "RateLimit", false, "The state of that rate limit."),
];

/// References the headers of a response by their component names.
pub(super) fn headers(components: &[&str]) -> Value {
    let used = HEADERS.iter().filter(|(component, ..)| components.contains(component));
    used.map(|&(component, name, ..)| (name.to_owned(), reference("headers", component))).collect::<Map<_, _>>().into()
}

fn header_components() -> Map<String, Value> {
    let described = |&(component, name, required, description): &(&str, &str, bool, &str)| {
        let schema = match name {
            "X-Request-Id" => {
                json!({ "type": "string", "pattern": RequestId::pattern(), "examples": [Request::EXAMPLE] })
            }
            "Location" => json!({ "type": "string", "format": "uri-reference" }),
            "ETag" => json!({ "type": "string", "examples": ["\"7\""] }),
            "Usage-As-Of" => json!({ "type": "string", "format": "date-time" }),
            "Retry-After" => json!({ "type": "integer", "minimum": 1 }),
            _ => json!({ "type": "string" }),
        };
        let mut header = json!({ "description": description, "schema": schema });
        if required {
            header["required"] = true.into();
        }
        (component.to_owned(), header)
    };
    HEADERS.iter().map(described).collect()
}

/// Component name of the 304 response, which has no body.
pub(super) const NOT_MODIFIED: &str = "NotModified";

/// Component name of the shared error response with `status`.
fn error_name(status: u16) -> String {
    format!("Error{status}")
}

/// Returns a reference to the shared error response with `status`.
pub(super) fn error_response(status: u16) -> Value {
    reference("responses", &error_name(status))
}

/// Shared responses: one for each status of an error code, and 304.
fn response_components(codes: &CodeSets, problem: &Value) -> Map<String, Value> {
    let mut responses: Map<String, Value> = by_status(codes.all.iter().copied())
        .into_iter()
        .map(|(status, of_status)| (error_name(status), problem_response(status, &of_status, &codes.shared, problem)))
        .collect();
    responses.insert(
        NOT_MODIFIED.into(),
        json!({
            "description": "The item has not changed since the `ETag` in `If-None-Match`.",
            "headers": headers(&["X-Request-Id", "ETag"]),
        }),
    );
    responses
}

fn problem_response(status: u16, codes: &[Code], shared: &BTreeSet<Code>, problem: &Value) -> Value {
    let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or_default();
    let examples: Map<String, Value> =
        codes.iter().map(|code| (code.to_string(), reference("examples", code.as_str()))).collect();
    let mut used = vec!["X-Request-Id"];
    used.extend(match status {
        401 => &["WWW-Authenticate"][..],
        403 => &["WWW-Authenticate-Scope"],
        409 if codes.iter().any(|&code| retryable_conflict(code)) => &["Retry-After-Conflict"],
        429 => &["Retry-After", "RateLimit-Policy", "RateLimit"],
        503 => &["Retry-After"],
        _ => &[],
    });
    json!({
        "description": format!("{reason}."),
        "headers": headers(&used),
        "content": { problem::MEDIA_TYPE: { "schema": problem, "examples": examples } },
        errors::EXTENSION: errors::list(codes.iter().filter(|code| shared.contains(code))),
    })
}

fn example_components(codes: &BTreeSet<Code>) -> Map<String, Value> {
    let request_id: RequestId = Request::EXAMPLE.parse().unwrap_or_default();
    let example = |&code: &Code| {
        let problem = Problem::new(&catalog::example(code), request_id, PUBLIC_URL);
        (code.to_string(), json!({ "value": problem }))
    };
    codes.iter().map(example).collect()
}

/// Shared parameters, by component name.
#[derive(Default)]
pub(super) struct Parameters(Map<String, Value>);

impl Parameters {
    /// Adds `parameter` as the component `name` and returns a reference to it. If another parameter already has this
    /// name, returns the parameter itself.
    pub(super) fn share(&mut self, name: &str, parameter: Value) -> Value {
        let shared = self.0.entry(name).or_insert_with(|| parameter.clone());
        if *shared == parameter { reference("parameters", name) } else { parameter }
    }
}

/// Returns all components except the schemas.
pub(super) fn components(codes: &CodeSets, parameters: Parameters, problem: &Value) -> Map<String, Value> {
    [
        ("parameters", parameters.0),
        ("headers", header_components()),
        ("responses", response_components(codes, problem)),
        ("examples", example_components(&codes.all)),
    ]
    .map(|(section, components)| (section.to_owned(), components.into()))
    .into_iter()
    .collect()
}

/// Converts a name to Pascal case: `project_id` to `ProjectId`.
pub(super) fn pascal_case(name: &str) -> String {
    name.split(['-', '_', '.', ' '])
        .flat_map(|word| {
            let (first, rest) = word.split_at_checked(1).unwrap_or_default();
            [first.to_uppercase(), rest.to_owned()]
        })
        .collect()
}
