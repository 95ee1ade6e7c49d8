//! The errors that an operation can answer with, each with its example from the catalogue.

#![allow(clippy::indexing_slicing, reason = "what is indexed is an object that the line above it made")]

use axum::http::Method;
use serde_json::{Map, Value, json};

use super::schemas::{header, optional_header, request_id_header};
use crate::{
    base::{
        error::Code,
        id::{Kind, Request, RequestId},
        need::Need,
        secret::SecretKind,
    },
    http::{
        catalogue::{self, entry},
        describe::Operation,
        problem::{self, Problem},
    },
};

/// The errors that follow from what a route reads and asks for, and its own.
pub(super) fn errors_of(operation: &Operation) -> Vec<Code> {
    let mut codes = vec![
        Code::UriTooLong,
        Code::HeadersTooLarge,
        Code::UnknownParameter,
        Code::Internal,
        Code::Overloaded,
        Code::Timeout,
    ];
    if operation.need != Need::Public {
        codes.extend([
            Code::MalformedRequest,
            Code::MissingCredentials,
            Code::InvalidToken,
            Code::TokenExpired,
            Code::TokenRevoked,
        ]);
        codes.extend([Code::CredentialKindNotAllowed, Code::AuthUnavailable]);
    }
    if operation.need != Need::Public {
        codes.push(Code::RateLimited);
    }
    if matches!(operation.need, Need::Scoped { kinds, .. } if kinds != [SecretKind::Session]) {
        codes.push(Code::QuotaExceeded);
    }
    if operation.path.starts_with("/v1/") {
        // A text that the database cannot store is malformed, wherever it stands.
        codes.extend([Code::DatabaseUnavailable, Code::MalformedRequest]);
        if operation.method != Method::GET {
            codes.push(Code::OutcomeUnknown);
        }
    }
    if !operation.need.scopes().is_empty() {
        codes.push(Code::InsufficientScope);
    }
    if let Some(rules) = operation.query {
        codes.extend([Code::InvalidParameter, Code::DuplicateParameter]);
        if rules.properties().contains_key("cursor") {
            codes.push(Code::InvalidCursor);
        }
        if rules.properties().contains_key("project_id") {
            codes.extend([Code::ProjectRequired, Code::NotFound]);
        }
    }
    if operation.body.is_some() {
        codes.extend([
            Code::MalformedJson,
            Code::RequestTimeout,
            Code::PayloadTooLarge,
            Code::UnsupportedMediaType,
            Code::ValidationFailed,
        ]);
        if !operation.need.scopes().is_empty() && operation.path_ids.is_empty() {
            codes.extend([Code::ProjectRequired, Code::NotFound]);
        }
    } else {
        // Whether there is a body may have to be waited for.
        codes.extend([Code::UnexpectedBody, Code::RequestTimeout, Code::MalformedRequest]);
    }
    if !operation.path_ids.is_empty() {
        codes.push(Code::NotFound);
    }
    if operation.answer.once {
        codes.extend([Code::InvalidIdempotencyKey, Code::IdempotencyInProgress, Code::IdempotencyKeyReused]);
        if operation.answer.private {
            codes.push(Code::IdempotencyReplaySealed);
        }
    }
    if operation.resumable {
        codes.extend([Code::InvalidCursor, Code::CursorExpired]);
    }
    if operation.conditional {
        codes.extend([Code::PreconditionFailed, Code::MalformedRequest]);
    }
    let keys_and_tokens = [SecretKind::Key, SecretKind::Token];
    if operation.need.kinds().iter().any(|kind| keys_and_tokens.contains(kind)) {
        codes.extend([Code::ProjectSuspended, Code::ProjectArchived, Code::IpNotAllowed]);
    }
    codes.extend(operation.errors);
    codes.sort_unstable();
    codes.dedup();
    codes
}

/// The schema of a problem that has one of `codes`.
pub(super) fn with_codes(problem: &Value, codes: &[Code]) -> Value {
    let codes: Vec<&str> = codes.iter().map(|code| code.as_str()).collect();
    json!({ "allOf": [problem, { "properties": { "code": { "enum": codes } } }] })
}

pub(super) fn problem_response(status: u16, codes: &[Code], schema: &Value) -> Value {
    let meanings: Vec<String> =
        codes.iter().map(|&code| format!("[`{code}`](/docs/errors/{code}): {}", entry(code).meaning)).collect();
    let request_id: RequestId = Request::EXAMPLE.parse().unwrap_or_default();
    let examples: Map<String, Value> = codes
        .iter()
        .map(|&code| {
            let problem = Problem::new(&catalogue::example(code), request_id, "https://api.cloudapi.dev");
            (code.to_string(), json!({ "summary": entry(code).title, "value": problem }))
        })
        .collect();
    let mut response = json!({
        "description": meanings.join("\n\n"),
        "headers": { "X-Request-Id": request_id_header() },
        "content": { problem::MEDIA_TYPE: { "schema": schema, "examples": examples } },
    });
    match status {
        401 => {
            let text = json!({ "type": "string" });
            response["headers"]["WWW-Authenticate"] = header("How to authenticate (RFC 6750).", text);
        }
        403 => {
            let description = "With `insufficient_scope`: which scope was missing (RFC 6750).";
            response["headers"]["WWW-Authenticate"] = optional_header(description);
        }
        409 if codes.contains(&Code::IdempotencyInProgress) => {
            let description = "With `idempotency_in_progress`: seconds to wait before trying again.";
            response["headers"]["Retry-After"] = optional_header(description);
        }
        429 => {
            response["headers"]["Retry-After"] = retry_after();
            response["headers"]["RateLimit-Policy"] = optional_header("The limit of the credential, if that is it.");
            response["headers"]["RateLimit"] = optional_header("How that limit stands.");
        }
        503 => response["headers"]["Retry-After"] = retry_after(),
        _ => {}
    }
    response
}

fn retry_after() -> Value {
    header("Seconds to wait before trying again.", json!({ "type": "integer", "minimum": 1 }))
}
